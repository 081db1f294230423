"""`relocate`: a container follows its objects to another place, or is left as it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import icechunk
import numpy as np
import pytest
import zarr

import refreeze
from bucket_server import Bucket, running
from refreeze.exceptions import MismatchError, SourceNotFoundError, TargetNotFoundError
from scenarios import flags, local_repository

VALUES = np.arange(24, dtype="i4").reshape(6, 4)


@pytest.fixture
def moved(tmp_path):
    """Return a repository whose source has been moved, times and all, and the two places."""
    old, new = tmp_path / "old.zarr", tmp_path / "new.zarr"
    root = zarr.open_group(old, mode="w")
    array = root.create_array("air", shape=(6, 4), chunks=(2, 2), dtype="i4", compressors=None)
    array[:] = VALUES
    target = tmp_path / "target"
    refreeze.ingest(str(old), str(target))
    shutil.move(old, new)
    return target, old, new


def prefixes(target):
    """Return the stored prefixes by `status`."""
    return [container.url_prefix for container in refreeze.status(str(target)).containers]


def manifests(target):
    """Return the names and bytes of a repository's manifests."""
    return {path.name: path.read_bytes() for path in (target / "manifests").iterdir()}


def command(*arguments):
    """Run the command line."""
    return subprocess.run(
        [sys.executable, "-m", "refreeze", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_source_that_has_moved(moved):
    """Readers find the chunks at the new place, and no manifest was touched."""
    target, old, new = moved
    before = manifests(target)
    assert prefixes(target) == [f"file://{old}/"]
    done = command("relocate", target, "--from", f"file://{old}/", "--to", new, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["from"], report["to"]) == (f"file://{old}/", f"file://{new}/")
    assert (report["references"], report["sampled"]) == (6, 6)
    assert manifests(target) == before
    assert prefixes(target) == [f"file://{new}/"]
    session = local_repository(target).readonly_session("main")
    assert (zarr.open_group(session.store, mode="r")["air"][:] == VALUES).all()


def test_the_sample_has_the_size_asked_for(moved):
    """`--sample N` compares N references; a path names the container as well as its URL."""
    target, old, new = moved
    report = refreeze.relocate(str(target), str(old), str(new), sample=2)
    assert (report.references, report.sampled) == (6, 2)
    with pytest.raises(ValueError, match="sample"):
        refreeze.relocate(str(target), str(new), str(old), sample=0)


def test_a_container_that_is_not_there(moved):
    """The error names the prefixes that there are, on one line, with exit code 1."""
    target, old, new = moved
    done = command("relocate", target, "--from", "s3://elsewhere/x", "--to", new)
    assert done.returncode == 1
    assert f"file://{old}/" in done.stderr
    assert command("relocate", target, "--to", new).returncode == 2


def test_objects_that_are_not_at_the_new_place(moved):
    """An absent object or place is an error, and the container stays."""
    target, old, new = moved
    with pytest.raises(SourceNotFoundError):
        refreeze.relocate(str(target), str(old), str(new / "nowhere"))
    shutil.rmtree(new / "air" / "c")
    with pytest.raises(MismatchError, match="is not there; nothing was changed"):
        refreeze.relocate(str(target), str(old), str(new))
    assert prefixes(target) == [f"file://{old}/"]


def test_objects_of_another_length(moved):
    """A chunk with other bytes is found by its length."""
    target, old, new = moved
    for chunk in (new / "air" / "c").rglob("*"):
        if chunk.is_file():
            status = chunk.stat()
            chunk.write_bytes(b"other")
            os.utime(chunk, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(MismatchError, match="has 5 bytes, and its reference says 16"):
        refreeze.relocate(str(target), str(old), str(new))
    assert prefixes(target) == [f"file://{old}/"]


def test_a_copy_is_younger_than_its_references(moved):
    """Copied objects are refused with the command that works, which then does."""
    target, old, new = moved
    later = time.time() + 10
    for chunk in (new / "air" / "c").rglob("*"):
        if chunk.is_file():
            os.utime(chunk, (later, later))
    done = command("relocate", target, "--from", old, "--to", new)
    assert done.returncode == 1
    assert "younger" in done.stderr
    assert f"refreeze ingest file://{new}/ {target} --mode overwrite" in done.stderr
    assert prefixes(target) == [f"file://{old}/"]
    assert command("ingest", f"file://{new}/", target, "--mode", "overwrite").returncode == 0


def test_absolute_locations(tmp_path):
    """Whole URLs do not move: the error counts them."""
    old, new, target = tmp_path / "old.zarr", tmp_path / "new.zarr", tmp_path / "target"
    root = zarr.open_group(old, mode="w")
    root.create_array("air", shape=(6, 4), chunks=(2, 2), dtype="i4")[:] = VALUES
    refreeze.ingest(str(old), str(target), locations="absolute")
    shutil.move(old, new)
    with pytest.raises(MismatchError, match=r"^6 references hold whole URLs") as failure:
        refreeze.relocate(str(target), str(old), str(new))
    assert "--mode overwrite" in failure.value.hint


def test_a_target_that_is_not_there(tmp_path):
    """It is a TargetNotFoundError."""
    with pytest.raises(TargetNotFoundError):
        refreeze.relocate(str(tmp_path / "none"), "s3://a/b", str(tmp_path))


def test_an_endpoint_that_has_changed(tmp_path):
    """The same bucket at another endpoint: the prefix stays, its settings change."""
    source = tmp_path / "source.zarr"
    root = zarr.open_group(source, mode="w")
    root.create_array("air", shape=(6, 4), chunks=(2, 2), dtype="i4")[:] = VALUES
    target = tmp_path / "target"
    with running(Bucket()) as first, running(Bucket()) as second:
        first.upload(source, "store.zarr")
        second.upload(source, "store.zarr")
        url = "s3://bucket/store.zarr"
        refreeze.ingest(url, str(target), source_options=first.options)
        with pytest.raises(MismatchError, match="is there already"):
            refreeze.relocate(str(target), f"{url}/", url, source_options=first.options)
        with pytest.raises(MismatchError, match="points to another store") as dead_end:
            refreeze.ingest(url, str(target), source_options=second.options, mode="overwrite")
        assert f"refreeze relocate TARGET --from {url}/ --to {url}/" in str(dead_end.value.hint)
        refreeze.relocate(str(target), f"{url}/", url, source_options=second.options)
        storage = icechunk.local_filesystem_storage(str(target))
        config = icechunk.Repository.fetch_config(storage)
        assert second.url in str(config.virtual_chunk_containers)
        assert first.url not in str(config.virtual_chunk_containers)
        # What was a dead end: the source at its new endpoint can be gone on with.
        again = refreeze.ingest(url, str(target), source_options=second.options, mode="overwrite")
        assert again.published


def test_a_bucket_that_has_moved_is_compared_by_its_tags(tmp_path):
    """Where references keep ETags these must agree, whatever times and lengths say; `status` names the prefix."""
    source, target = tmp_path / "source.zarr", tmp_path / "target"
    root = zarr.open_group(source, mode="w")
    air = root.create_array("air", shape=(6, 4), chunks=(2, 2), dtype="i4", compressors=None)
    air[:] = VALUES
    url = "s3://bucket/old.zarr"
    with running(Bucket()) as bucket:
        settings = flags("--source-option", bucket.options)
        bucket.upload(source, "old.zarr")
        bucket.upload(source, "elsewhere/new.zarr")
        refreeze.ingest(url, str(target), source_options=bucket.options, checksum="etag")
        assert f"{url}/" in command("status", target).stdout
        key = "elsewhere/new.zarr/air/c/1/0"
        whole = bucket.objects[key]
        bucket.objects[key] = bytes(len(whole))
        move = ("relocate", target, "--from", f"{url}/", "--to", "s3://bucket/elsewhere/new.zarr")
        done = command(*move, *settings)
        assert done.returncode == 1
        assert "ETag" in done.stderr
        assert prefixes(target) == [f"{url}/"]
        bucket.objects[key] = whole
        assert command(*move, *settings).returncode == 0
        bucket.objects = {k: v for k, v in bucket.objects.items() if not k.startswith("old.zarr")}
        found = refreeze.verify(
            "s3://bucket/elsewhere/new.zarr", target, sample=6, source_options=bucket.options
        )
        assert (found.equal, found.sampled) == (True, 6)


def test_where_another_container_is(moved, tmp_path):
    """Two containers cannot be at one place."""
    target, old, _ = moved
    other = tmp_path / "other.zarr"
    root = zarr.open_group(other, mode="w")
    root.create_array("sea", shape=(6, 4), chunks=(2, 2), dtype="i4")[:] = VALUES
    refreeze.ingest(str(other), str(target))
    with pytest.raises(MismatchError, match="is where the virtual chunk container"):
        refreeze.relocate(str(target), str(old), str(Path(other)))
