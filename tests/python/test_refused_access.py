"""Permissions and credentials that do not suffice: `AccessError` names what to change."""

import json
from pathlib import Path

import obstore
import pytest

import refreeze
from refreeze.exceptions import (
    AccessError,
)
from refusals import fails
from scenarios import (
    assert_nothing_published,
    stamp,
    upload,
    write_store,
)

AS_NOBODY = """
import json, os, sys
import refreeze, zarr

folder = sys.argv[1]
# Everything is imported, and threads are running, before root's rights are given up.
print(*zarr.open_group(f"{folder}/warm.zarr", mode="r").members(), file=sys.stderr)
refreeze.ingest(f"{folder}/warm.zarr", f"{folder}/warm.icechunk")
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
results = {}
for name, (source, target) in json.loads(sys.argv[2]).items():
    try:
        refreeze.ingest(source, target)
        results[name] = None
    except Exception as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        results[name] = [kinds, str(error), getattr(error, "hint", None)]
print(json.dumps(results))
"""


def test_permissions_of_folders(tmp_path_factory):
    """Folders that may not be read or written: AccessError, naming the folder.

    In a process of its own that gives up root's rights, where it has them.
    """
    import subprocess
    import sys
    import tempfile

    with tempfile.TemporaryDirectory(prefix="refreeze-access-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        write_store(folder / "warm.zarr")
        jobs = {}
        locked = []
        for case, closed in {
            "source": "",
            "metadata": "air/zarr.json",
            "chunk folder": "air/c/1",
            "copied chunk": "time/c/0",
        }.items():
            store = write_store(folder / f"{case}.zarr")
            locked.append(store / closed)
            (folder / case).mkdir()
            (folder / case).chmod(0o777)
            jobs[case] = (str(store), str(folder / case))
        good = str(write_store(folder / "good.zarr"))
        (folder / "read-only").mkdir()
        jobs["target"] = (good, str(folder / "read-only"))
        jobs["parent of the target"] = (good, str(folder / "read-only/new/repo"))
        refreeze.ingest(folder / "warm.zarr", folder / "existing", target_group="old")
        jobs["repository"] = (good, str(folder / "existing"))
        for path in locked:
            path.chmod(0)
        for path in [folder / "read-only", *(folder / "existing").rglob("*"), folder / "existing"]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = stamp(folder / "existing")
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, name, json.dumps(jobs)],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        for path in locked:
            path.chmod(0o755)
        assert done.returncode == 0, done.stderr
        results = json.loads(done.stdout)
        after = stamp(folder / "existing")
        for path in [folder / "existing", *(folder / "existing").rglob("*"), folder / "read-only"]:
            path.chmod(0o755)
        for case in ("source", "metadata", "chunk folder", "copied chunk"):
            assert_nothing_published(folder / case)
    assert after == before
    for case, result in results.items():
        assert result is not None, case
        kinds, message, hint = result
        assert kinds[0] == "AccessError", (case, result)
        assert "PermissionError" in kinds
        assert name in message, (case, message)
        assert "permission" in hint, (case, hint)


def test_wrong_source_credentials(s3_bucket, source, target):
    """A wrong secret for the source names the settings to change, not itself."""
    server, bucket = s3_bucket
    if server.kind == "moto":
        pytest.skip("moto accepts any signature")
    url = upload(server, bucket, source, "air.zarr")
    options = server.options | {"secret_access_key": "WRONGSECRET"}
    error = fails(AccessError, url, source=url, target=target, source_options=options)
    assert "AWS_SECRET_ACCESS_KEY" in error.hint
    assert "--source-option" in error.hint
    assert "WRONGSECRET" not in str(error)
    assert "<" not in error.message
    assert not target.exists()


def test_wrong_target_credentials(s3_bucket, source):
    """A wrong secret for the target names the target's settings."""
    server, bucket = s3_bucket
    if server.kind == "moto":
        pytest.skip("moto accepts any signature")
    url = f"s3://{bucket}/air.icechunk"
    options = server.options | {"secret_access_key": "WRONGSECRET"}
    error = fails(AccessError, url, source=source, target=url, target_options=options)
    assert "--target-option" in error.hint
    assert "WRONGSECRET" not in str(error)
    assert obstore.list(server.store(bucket)).collect() == []


def test_credentials_that_may_only_list_are_noticed_by_the_core(s3_bucket, source, target):
    """The core's own LIST with a wrong secret is an AccessError too, and is not tried five times."""
    server, bucket = s3_bucket
    if server.kind == "moto":
        pytest.skip("moto accepts any signature")
    from refreeze import _refreeze
    from refreeze.metadata.chunk_codec import check_chunk
    from refreeze.metadata.selection import Selection, read_metadata
    from refreeze.planning.options import IngestOptions
    from refreeze.stores.resolve import resolve_source, resolve_target

    url = upload(server, bucket, source, "air.zarr")
    metadata = read_metadata(resolve_source(url, server.options), Selection())
    wrong = resolve_source(url, server.options | {"secret_access_key": "WRONGSECRET"})
    with pytest.raises(AccessError) as raised:
        _refreeze.ingest(
            [(wrong.store, wrong.path)],
            resolve_target(target),
            source_urls=[url],
            groups=metadata.groups,
            arrays=[array for array in metadata.arrays if not array.copied],
            options=IngestOptions(),
            decoder=check_chunk,
            progress=None,
        )
    assert "<" not in str(raised.value)
    assert "--source-option" in raised.value.hint
    assert_nothing_published(target)
