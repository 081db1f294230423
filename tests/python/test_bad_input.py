"""Bad input: each a typed error that names what and where, says what to do, and leaves nothing behind."""

import json
import os
import shutil
from pathlib import Path

import icechunk
import obstore
import pytest
import zarr
from iris_sample_data import path as iris_folder

import refreeze
from refreeze import exceptions
from refreeze.exceptions import (
    AccessError,
    AlreadyExistsError,
    ListingError,
    SourceNotFoundError,
    TargetError,
    UnsupportedArrayError,
)
from refreeze.stores.resolve import NotInThisVersionError
from scenarios import (
    VALUES,
    assert_nothing_published,
    cli,
    edit,
    group,
    local_repository,
    nodes,
    s3_repository,
    stamp,
    state,
    upload,
    write_store,
)

BUILT_IN = {
    AccessError: PermissionError,
    AlreadyExistsError: FileExistsError,
    ListingError: OSError,
    SourceNotFoundError: FileNotFoundError,
    TargetError: OSError,
    UnsupportedArrayError: ValueError,
}


@pytest.fixture
def source(tmp_path):
    return write_store(tmp_path / "air.zarr")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "air.icechunk"


def fails(kind, *parts, source, target, **options):
    """Ingest, and check the error: its class and built-in base, its words, and that it has a hint."""
    with pytest.raises(kind) as raised:
        refreeze.ingest(source, target, **options)
    error = raised.value
    assert type(error) is kind
    assert isinstance(error, BUILT_IN[kind])
    for part in parts:
        assert str(part) in error.message, error.message
    assert "\n" not in error.message
    assert not error.message.endswith(".")
    assert error.hint
    return error


# -- no store, or not a store ---------------------------------------------------------------------


def test_nothing_at_a_local_path(tmp_path, target):
    """A path that does not exist is not an empty store."""
    fails(SourceNotFoundError, tmp_path / "nope", source=tmp_path / "nope", target=target)
    assert not target.exists()


def test_a_folder_that_is_no_store(tmp_path, target):
    """A folder without Zarr metadata is refused before the target is touched."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "data.csv").write_text("1,2")
    fails(SourceNotFoundError, folder, source=folder, target=target)
    assert not target.exists()


def test_nothing_in_a_bucket(s3_bucket, target):
    """An absent prefix of a bucket, by its URL."""
    server, bucket = s3_bucket
    url = f"s3://{bucket}/nope.zarr"
    fails(SourceNotFoundError, url, source=url, target=target, source_options=server.options)
    assert not target.exists()


def test_no_such_bucket(s3_server, target):
    """An absent bucket, by its URL."""
    url = "s3://refreeze-no-such-bucket/air.zarr"
    fails(SourceNotFoundError, url, source=url, target=target, source_options=s3_server.options)
    assert not target.exists()


def test_no_such_target_bucket(s3_server, source):
    """A target in an absent bucket is an error of the target."""
    url = "s3://refreeze-no-such-bucket/air.icechunk"
    fails(TargetError, url, source=source, target=url, target_options=s3_server.options)


@pytest.mark.parametrize("as_url", [False, True])
def test_a_netcdf_file(target, as_url):
    """The most likely mistake: the hint names the tool for it."""
    file = os.path.join(iris_folder, "A1B_north_america.nc")  # noqa: PTH118 iris gives a string
    named = f"file://{file}" if as_url else file
    error = fails(SourceNotFoundError, file, "is a file", source=named, target=target)
    assert "NetCDF" in error.hint
    assert "VirtualiZarr" in error.hint
    assert not target.exists()


def test_a_netcdf_object(s3_bucket, target):
    """On S3 a NetCDF object has nothing below it."""
    server, bucket = s3_bucket
    obstore.put(server.store(bucket), "model.nc", b"CDF\x01")
    url = f"s3://{bucket}/model.nc"
    fails(SourceNotFoundError, url, source=url, target=target, source_options=server.options)


@pytest.mark.parametrize("options", [{"arrays": ["nope"]}, {"arrays": ["air", "zz*"]}])
def test_an_unknown_array(source, target, options):
    """The error lists the arrays that there are."""
    error = fails(
        SourceNotFoundError, options["arrays"][-1], source=source, target=target, **options
    )
    assert error.hint == "arrays: air, nested/deep, time"
    assert not target.exists()


def test_an_unknown_group(source, target):
    """A group that is not there is named with its store."""
    fails(SourceNotFoundError, "nope", source, source=source, target=target, group="nope")


def test_skipping_what_is_not_there_warns(source, target):
    """A skip pattern without a match is a warning: the result is what was asked for."""
    report = refreeze.ingest(source, target, skip_variables=["tas"])
    assert any("tas" in warning for warning in report.warnings)


# -- damaged or unsupported metadata --------------------------------------------------------------


def corrupt(path):
    path.write_text('{"zarr_format": 3, "node_type"')


def test_a_corrupt_root(source, target):
    """Damage at the root names the store."""
    corrupt(source / "zarr.json")
    fails(UnsupportedArrayError, source, source=source, target=target)
    assert not target.exists()


def test_a_corrupt_nested_array(source, target):
    """Damage deep in the hierarchy names the array."""
    corrupt(source / "nested/deep/zarr.json")
    fails(UnsupportedArrayError, "nested/deep", source=source, target=target)
    assert not target.exists()


def test_a_corrupt_array_in_a_bucket(s3_bucket, source, target):
    """The same on S3, where members are read in one go."""
    server, bucket = s3_bucket
    corrupt(source / "nested/deep/zarr.json")
    url = upload(server, bucket, source, "air.zarr")
    fails(
        UnsupportedArrayError,
        "nested/deep",
        source=url,
        target=target,
        source_options=server.options,
    )


@pytest.mark.parametrize("document", [".zarray", ".zattrs"])
def test_a_corrupt_version_2_array(tmp_path, target, document):
    """Version 2 keeps its metadata in two documents; damage in either names the array."""
    source = write_store(tmp_path / "v2.zarr", zarr_format=2)
    (source / "air" / document).write_text("{")
    fails(UnsupportedArrayError, "air", source=source, target=target)
    assert not target.exists()


UNSUPPORTED = {
    "codec": {"codecs": [{"name": "acme.shrink", "configuration": {}}]},
    "rectilinear": {
        "chunk_grid": {
            "name": "rectilinear",
            "configuration": {"kind": "inline", "chunk_shapes": [[2, 4], [4]]},
        }
    },
    "acme-grid": {"chunk_grid": {"name": "acme-grid", "configuration": {}}},
    "fanout": {"chunk_key_encoding": {"name": "fanout", "configuration": {}}},
    "storage transformers": {"storage_transformers": [{"name": "acme.log", "configuration": {}}]},
    "data type": {"data_type": "acme12"},
}
NAMED = {"codec": "acme.shrink", "data type": "acme12", "storage transformers": "storage"}


@pytest.mark.parametrize("feature", UNSUPPORTED)
def test_unsupported_metadata(source, target, feature):
    """What cannot be referenced is refused by array and feature, and can be left out."""
    edit(source / "air/zarr.json", **UNSUPPORTED[feature])
    error = fails(UnsupportedArrayError, "air", source=source, target=target)
    assert NAMED.get(feature, feature) in error.message.lower()
    assert not target.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"compressor": {"id": "acme"}},
        {"filters": [{"id": "acme"}]},
        {"dtype": "|O", "filters": None},
    ],
)
def test_unsupported_version_2_metadata(tmp_path, target, change):
    """The codecs of version 2 likewise."""
    source = write_store(tmp_path / "v2.zarr", zarr_format=2)
    edit(source / "air/.zarray", **{key: value for key, value in change.items() if value})
    fails(UnsupportedArrayError, "air", source=source, target=target)
    assert not target.exists()


def test_an_unsupported_array_can_be_skipped(source, target):
    """Storage transformers in one array do not keep the others from being ingested."""
    edit(source / "air/zarr.json", **UNSUPPORTED["storage transformers"])
    report = refreeze.ingest(source, target, skip_variables=["air"])
    assert {array.path for array in report.arrays} == {"/time", "/nested/deep"}


# -- chunks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["air/c/1/0", "time/c/0"])
def test_an_empty_chunk(source, target, key):
    """An object of no bytes, referenced or copied: an error that names it; main stays empty."""
    (source / key).write_bytes(b"")
    error = fails(UnsupportedArrayError, key, source=source, target=target)
    assert "--empty-chunks skip" in error.hint
    assert_nothing_published(target)


def test_an_empty_chunk_can_be_skipped(source, target):
    """Asked to, refreeze treats it as missing: it reads as the fill value."""
    (source / "air/c/1/0").write_bytes(b"")
    report = refreeze.ingest(source, target, empty_chunks="skip")
    assert next(a for a in report.arrays if a.path == "/air").missing == 1
    air = group(local_repository(target))["air"][:]
    assert (air[2:4] == 0).all()
    assert (air[:2] == VALUES[:2]).all()
    assert (air[4:] == VALUES[4:]).all()


def test_an_empty_chunk_in_a_bucket(s3_bucket, source):
    """The same on S3; what is staged there can be discarded, as the hint says."""
    server, bucket = s3_bucket
    (source / "air/c/1/0").write_bytes(b"")
    options = {"source_options": server.options, "target_options": server.options}
    url = upload(server, bucket, source, "air.zarr")
    fails(
        UnsupportedArrayError,
        "air/c/1/0",
        source=url,
        target=f"s3://{bucket}/repo",
        max_refs_per_commit=1,
        **options,
    )
    left = state(s3_repository(server, bucket, "repo"))
    assert left["nodes"] == []
    published = {name for name in left["branches"] if not name.startswith("refreeze/")}
    assert published == {"main"}
    refreeze.ingest(url, f"s3://{bucket}/repo", empty_chunks="skip", restart=True, **options)


def test_strays_among_local_chunks(source, target):
    """Strangers and chunks outside the grid are ignored, counted and warned of once an array."""
    (source / "nested/deep/notes.txt").write_text("x")
    for stray in ("README", "c/.DS_Store", "c/9/0", "c/01/0", "c/2/0.bak", "c.0.0"):
        (source / "air" / stray).parent.mkdir(exist_ok=True)
        (source / "air" / stray).write_text("x")
    (source / "air/c/5").mkdir()  # an empty folder is what a directory marker is on disk
    report = refreeze.ingest(source, target)
    about = [warning for warning in report.warnings if "/air:" in warning]
    assert len(about) == 1
    assert "6 keys" in about[0]
    assert "for example air/" in about[0]
    assert len([warning for warning in report.warnings if "notes.txt" in warning]) == 1
    assert (group(local_repository(target))["air"][:] == VALUES).all()


def test_strays_beside_arrays(source, target, s3_bucket):
    """Regression: a file in a group made a local store unreadable; in a bucket it is the same."""
    server, bucket = s3_bucket
    (source / "README.md").write_text("x")
    (source / "nested/.DS_Store").write_bytes(b"\0")
    report = refreeze.ingest(source, target)
    assert any("README.md" in warning for warning in report.warnings)
    assert any(".DS_Store" in warning for warning in report.warnings)
    url = upload(server, bucket, source, "air.zarr")
    report = refreeze.ingest(url, target, target_group="s3", source_options=server.options)
    assert any("README.md" in warning for warning in report.warnings)
    assert {"/air", "/s3/air", "/s3/nested/deep"} <= set(nodes(local_repository(target)))


def test_strays_and_directory_markers_in_a_bucket(s3_bucket, source, target):
    """Zero-byte objects that stand for directories are no chunks either."""
    server, bucket = s3_bucket
    url = upload(server, bucket, source, "air.zarr")
    store = server.store(bucket)
    for stray in ("air/README", "air/c/7/0", "air/c/1/0.bak"):
        obstore.put(store, f"air.zarr/{stray}", b"x")
    markers = ["air.zarr/", "air.zarr/air/", "air.zarr/air/c/", "air.zarr/air/c/1/"]
    for marker in markers:
        put_marker(server, bucket, marker)
    report = refreeze.ingest(url, target, source_options=server.options)
    about = [warning for warning in report.warnings if "/air:" in warning]
    assert len(about) == 1
    assert "air/" in about[0].partition("for example ")[2]
    assert next(a for a in report.arrays if a.path == "/air").references == 3


def put_marker(server, bucket, key):
    """Put an object whose key ends in a slash, which obstore would not do."""
    import botocore.session

    client = botocore.session.get_session().create_client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key_id,
        aws_secret_access_key=server.secret_access_key,
        region_name=server.region,
    )
    client.put_object(Bucket=bucket, Key=key, Body=b"")


# -- permissions and credentials ------------------------------------------------------------------


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


# -- the target -----------------------------------------------------------------------------------


def test_a_folder_with_other_things(tmp_path, source):
    """A folder that is in use for something else is not taken over."""
    target = tmp_path / "documents"
    target.mkdir()
    (target / "thesis.tex").write_text("x")
    fails(TargetError, target, "not empty", source=source, target=target)
    assert stamp(target) == {"thesis.tex": b"x"}


def test_a_zarr_store_as_target(source, tmp_path):
    """A store is no repository: swapped arguments do no harm."""
    other = write_store(tmp_path / "other.zarr")
    before = stamp(other)
    fails(TargetError, other, source=source, target=other)
    fails(TargetError, source, source=source, target=source)
    assert stamp(other) == before


def test_a_prefix_with_other_things(s3_bucket, source):
    """The same on S3."""
    server, bucket = s3_bucket
    obstore.put(server.store(bucket), "documents/thesis.tex", b"x")
    url = f"s3://{bucket}/documents"
    fails(TargetError, url, source=source, target=url, target_options=server.options)


def test_the_root_of_a_bucket(s3_bucket, source):
    """Icechunk wants a prefix; the hint says so."""
    server, bucket = s3_bucket
    error = fails(
        TargetError, bucket, source=source, target=f"s3://{bucket}", target_options=server.options
    )
    assert "prefix" in error.hint


def test_a_file_as_target(tmp_path, source):
    """A file is no place for a repository, nor is anything below it."""
    file = tmp_path / "file"
    file.write_text("x")
    fails(TargetError, file, source=source, target=file)
    fails(TargetError, file, source=source, target=file / "below")
    assert file.read_text() == "x"


def test_a_repository_of_spec_version_1(tmp_path, source):
    """It is refused, not upgraded in silence: the error names the call that upgrades it."""
    target = tmp_path / "old"
    storage = icechunk.local_filesystem_storage(str(target))
    icechunk.Repository.create(storage, spec_version=1)
    before = stamp(target)
    error = fails(TargetError, target, "version 1", source=source, target=target)
    assert "icechunk.upgrade_icechunk_repository" in error.hint
    fails(TargetError, target, "version 1", source=source, target=storage)
    assert stamp(target) == before


def test_a_repository_in_memory(source):
    """It lives in the other library's memory: TypeError, for storage and repository."""
    storage = icechunk.in_memory_storage()
    with pytest.raises(TypeError, match="memory"):
        refreeze.ingest(source, storage)
    with pytest.raises(TypeError, match="memory"):
        refreeze.ingest(source, icechunk.Repository.create(storage))


def test_a_folder_whose_name_speaks_of_memory(source, tmp_path):
    """Regression: the path was taken for the kind of storage."""
    storage = icechunk.local_filesystem_storage(str(tmp_path / "in-memory" / "memory"))
    refreeze.ingest(source, storage)
    assert "/air" in nodes(icechunk.Repository.open(storage))


# -- create onto what is there --------------------------------------------------------------------


def test_the_same_ingest_again(source, target, capsys):
    """It writes nothing and says so; the exit code is 0."""
    first = refreeze.ingest(source, target)
    before = stamp(target)
    again = refreeze.ingest(source, target)
    assert again.already_published
    assert (again.commits, again.references_written, again.added) == (0, 0, 0)
    assert again.snapshot_id == first.snapshot_id
    assert again.run_id == first.run_id
    assert any("nothing was written" in warning for warning in again.warnings)
    outcome = cli(capsys, "ingest", source, target)
    assert outcome.code == 0
    assert "Nothing to do" in outcome.out
    assert "nothing was written" in outcome.err
    assert stamp(target) == before


def test_groups_without_arrays(tmp_path, target):
    """An ingest that would hold no array is never a success, in no mode and as no plan."""
    source = tmp_path / "empty.zarr"
    zarr.open_group(source, mode="w", zarr_format=3).create_group("inner")
    for mode in ("create", "overwrite"):
        fails(SourceNotFoundError, "no array", source, source=source, target=target, mode=mode)
    with pytest.raises(SourceNotFoundError, match="no array"):
        refreeze.plan(source)
    assert not target.exists()


@pytest.mark.parametrize("changed", ["metadata", "attributes", "selection", "source"])
def test_arrays_that_are_there(source, target, tmp_path, changed):
    """Anything but the very same ingest is refused; it names the arrays in the way."""
    refreeze.ingest(source, target)
    before = stamp(target)
    options = {}
    if changed == "metadata":
        edit(source / "air/zarr.json", fill_value=7)
    elif changed == "attributes":
        edit(source / "air/zarr.json", attributes={"units": "K"})
    elif changed == "selection":
        options = {"arrays": ["air"]}
    else:
        source = write_store(tmp_path / "other.zarr")
    error = fails(AlreadyExistsError, target, "/air", source=source, target=target, **options)
    assert "--target-group" in error.hint
    assert stamp(target) == before


def test_an_array_that_another_made(source, target):
    """An array of somebody else is in the way like one of ours."""
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(target)))
    session = repository.writable_session("main")
    zarr.create_array(session.store, name="time", shape=(3,), dtype="int8")
    session.commit("theirs")
    before = state(repository)
    fails(AlreadyExistsError, "/time", source=source, target=target)
    assert state(repository) == before


def test_an_array_where_a_group_is_needed(source, target):
    """A node of the other kind is in the way too, in both directions."""
    refreeze.ingest(source, target)
    before = stamp(target)
    fails(AlreadyExistsError, "/air", source=source, target=target, target_group="air")
    fails(AlreadyExistsError, "/air", source=source, target=target, target_group="air/below")
    deep = source / "nested/deep"
    shutil.copytree(deep, deep.parent / "nested")
    fails(
        AlreadyExistsError,
        "/nested",
        source=source,
        target=target,
        group="nested",
        arrays=["nested"],
    )
    assert stamp(target) == before


# -- wrong usage ----------------------------------------------------------------------------------

LATER = [
    ("https://host/x.zarr", "https://"),
    ("http://user:secret@host/x.zarr", "http://"),
]


@pytest.mark.parametrize(("url", "named"), LATER)
def test_schemes_of_later_versions(capsys, source, url, named):
    """Exit 2 and "not in this version" as a target."""
    outcome = cli(capsys, "ingest", source, url)
    assert outcome.code == 2
    assert f"{named} is not in this version" in outcome.err
    assert "secret" not in outcome.err
    with pytest.raises(NotInThisVersionError):
        refreeze.ingest(source, url)


@pytest.mark.parametrize(
    "arguments",
    [
        ("ingest", "a", "b", "--copy"),
        ("copy", "a"),
    ],
    ids=lambda arguments: " ".join(arguments[:1] + arguments[3:]),
)
def test_verbs_and_options_of_later_versions(capsys, arguments):
    """Exit 2 and "not in this version": nobody has to guess whether it is a typo."""
    outcome = cli(capsys, *arguments)
    assert outcome.code == 2
    assert "not in this version" in outcome.err
    assert outcome.out == ""


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "command"),
        (("ingest",), "SOURCE... TARGET"),
        (("ingest", "a"), "SOURCE"),
        (("lst", "a"), "lst"),
        (("ingest", "a", "b", "--regionn", "x"), "--regionn"),
        (("ingest", "a", "b", "--array"), "--array"),
        (("ingest", "a", "b", "--mode", "list"), "'list'"),
        (("ingest", "a", "b", "--mode", "append"), "append_dim"),
        (("ingest", "a", "b", "--mode", "update"), "region"),
        (("ingest", "a", "b", "--append-dim", "time"), "mode append"),
        (("ingest", "a", "b", "--region", "time"), "DIM=START:STOP"),
        (("ingest", "a", "b", "--empty-chunks", "list"), "'list'"),
        (("ingest", "a", "b", "--log-level", "loud"), "loud"),
        (("ingest", "a", "b", "--max-refs-per-commit", "many"), "--max-refs-per-commit"),
        (("ingest", "a", "b", "--max-refs-per-commit", "0"), "max_refs_per_commit"),
        (("ingest", "a", "b", "--refs-per-manifest", "1000001"), "1,000,000"),
        (("ingest", "a", "b", "--branch", ""), "branch"),
        (("ingest", "", "b"), "empty path"),
        (("ingest", "ftp://host/a", "b"), "ftp://"),
        (("ingest", "s3://", "b"), "bucket"),
        (("ingest", "file://a", "b"), "three slashes"),
        (("ingest", "s3://x/a", "b", "--source-option", "endpont=x"), "endpont"),
        (("ingest", "a", "s3://x/b", "--target-option", "endpont=x"), "endpont"),
        (("ingest", "s3://x/a", "b", "--source-option", "endpoint"), "KEY=VALUE"),
        (("ingest", "a", "b", "--source-option", "region=x"), "local path"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, tuple) else "",
)
def test_wrong_usage(capsys, monkeypatch, tmp_path, arguments, named):
    """Exit 2, at most three lines, the thing that is wrong named, and no claim of a later version."""
    monkeypatch.chdir(tmp_path)
    write_store(tmp_path / "a")
    outcome = cli(capsys, *arguments)
    assert outcome.code == 2
    assert named in outcome.err
    assert "not in this version" not in outcome.err
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") <= 3
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"source": 5},
        {"target": 5},
        {"target": None},
        {"source": ("a", 5)},
        {"source": ("a", "b", 5)},
        {"group": 5},
        {"target_group": b"x"},
        {"branch": None},
        {"message": 5},
        {"mode": None},
        {"arrays": "air"},
        {"arrays": [5]},
        {"skip_variables": 5},
        {"loadable_variables": "none"},
        {"max_refs_per_commit": "5"},
        {"refs_per_manifest": True},
        {"refs_per_manifest": 2.5},
        {"progress": "bar"},
        {"source_options": ["SECRET"]},
        {"target_options": "SECRET"},
        {"region": {"time": 1}},
    ],
    ids=str,
)
def test_wrong_types(source, target, options):
    """Every wrong type is a TypeError, and nothing has happened."""
    arguments = {"source": source, "target": target} | options
    with pytest.raises((TypeError, NotInThisVersionError)) as raised:
        refreeze.ingest(arguments.pop("source"), arguments.pop("target"), **arguments)
    assert "SECRET" not in str(raised.value)
    assert not target.exists()


def test_options_for_stores_that_have_theirs(s3_bucket, source):
    """Options go with URLs; beside a store they would be silently ignored."""
    server, bucket = s3_bucket
    with pytest.raises(TypeError, match="source options"):
        refreeze.ingest((server.store(bucket), "x"), "b", source_options={"region": "x"})
    with pytest.raises(TypeError, match="target options"):
        refreeze.ingest(source, icechunk.in_memory_storage(), target_options={"region": "x"})


def test_every_class_is_listed():
    """The table of built-in bases above is of classes that callers can import by name."""
    assert {kind.__name__ for kind in BUILT_IN} <= set(exceptions.__all__)
