"""Stores in which documents are missing, and consolidated metadata that is older than the documents beside it."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

import refreeze
from hand_written import (
    array_v2,
    array_v3,
    consolidate_v2,
    consolidate_v3,
    group_v2,
    group_v3,
    paths,
    same_values,
    write,
)
from refreeze.exceptions import SourceNotFoundError
from scenarios import cli, upload
from stores_for_tests import ingest

DATA = np.arange(12, dtype="<i4").reshape(3, 4)


@pytest.fixture
def source(tmp_path):
    return tmp_path / "source.zarr"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "target"


def plate(source, zarr_format):
    """Write a plate whose rows lack their document, as an OME-Zarr writer left it."""
    group, array = (group_v2, array_v2) if zarr_format == 2 else (group_v3, array_v3)
    group(source)
    group(source / "A/1")
    group(source / "A/1/0")
    array(source / "A/1/0/0", DATA, (2, 2))
    return source


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_plate_whose_rows_lack_their_document(source, target, zarr_format, capsys):
    """Regression: exit 0 and an empty repository. The error says where documents are, and what has none."""
    plate(source, zarr_format)
    with pytest.raises(SourceNotFoundError, match="no groups: A/1/") as raised:
        refreeze.ingest(source, target)
    assert "from A on" in raised.value.hint
    assert not target.exists()
    with pytest.raises(SourceNotFoundError, match="no groups: A/1/"):
        refreeze.plan(source)
    outcome = cli(capsys, "ingest", source, target)
    assert outcome.code == 1
    assert len(outcome.err.strip().splitlines()) <= 3
    assert paths(refreeze.ingest(source, target, group="A/1")) == ["/0/0"]


def test_a_plate_in_a_bucket(s3_bucket, source, target):
    """The same on an object store, where a folder is a prefix."""
    server, bucket = s3_bucket
    url = upload(server, bucket, plate(source, 3), "plate.zarr")
    with pytest.raises(SourceNotFoundError, match=r"no groups: A/1/zarr\.json"):
        refreeze.ingest(url, target, source_options=server.options)


def test_documents_below_a_group_that_is_named(source, target):
    """The same of a group of the source; the hint names the folder in it."""
    plate(source / "plates", 3)
    group_v3(source)
    with pytest.raises(SourceNotFoundError, match="no groups: plates/A/1/") as raised:
        refreeze.ingest(source, target, group="plates")
    assert "from A on" in raised.value.hint


def test_a_version_2_group_of_version_3_arrays(source, target):
    """Children have the version of their group; the error names documents of another."""
    group_v2(source)
    array_v3(source / "a", DATA, (2, 2))
    with pytest.raises(SourceNotFoundError, match=r"a/zarr\.json"):
        refreeze.ingest(source, target)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_consolidated_metadata_that_names_no_array(source, target, zarr_format):
    """It is older than the arrays: the error says so and names one."""
    group, array = (group_v2, array_v2) if zarr_format == 2 else (group_v3, array_v3)
    group(source)
    group(source / "inner")
    (consolidate_v2 if zarr_format == 2 else consolidate_v3)(source)
    array(source / "inner/a", DATA, (2, 2))
    with pytest.raises(SourceNotFoundError, match=r"consolidated metadata .* names no array"):
        refreeze.ingest(source, target)


def test_several_sources_without_arrays(tmp_path, target):
    """One of several may hold nothing, not all of them."""
    sources = [group_v3(tmp_path / f"{index}.zarr") for index in range(2)]
    with pytest.raises(SourceNotFoundError, match="no array"):
        refreeze.ingest(sources, target)
    array_v3(sources[1] / "a", DATA, (2, 2))
    assert paths(refreeze.ingest(sources, target)) == ["/a"]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_groups_that_consolidated_metadata_leaves_out(source, target, zarr_format):
    """Regression: 'there is no Zarr store'. They are read from their own documents, if they have some."""
    group, array = (group_v2, array_v2) if zarr_format == 2 else (group_v3, array_v3)
    group(source, {"title": "root"})
    group(source / "foo", {"title": "foo"})
    array(source / "foo/bar/baz", DATA, (2, 2))
    array(source / "seen", DATA, (2, 2))
    if zarr_format == 2:
        consolidate_v2(source, leave_out=["foo/.zgroup", "foo/.zattrs"])
    else:
        consolidate_v3(source)
        document = json.loads((source / "zarr.json").read_text())
        del document["consolidated_metadata"]["metadata"]["foo"]
        write(source / "zarr.json", document)
    result = ingest(str(source), str(target))
    assert paths(result.report) == ["/foo/bar/baz", "/seen"]
    assert result.group("foo").attrs["title"] == "foo"
    assert dict(result.group("foo/bar").attrs) == {}
    np.testing.assert_array_equal(result.array("foo/bar/baz")[:], DATA)
    assert any("no entry for foo, foo/bar" in text for text in result.report.warnings)


def grown(source, zarr_format, shape=(6, 4)):
    """Write a consolidated store, ingest it, and let arrays grow behind the consolidated metadata."""
    group, array = (group_v2, array_v2) if zarr_format == 2 else (group_v3, array_v3)
    group(source)
    array(source / "inner/a", DATA[:2], (2, 2))
    array(source / "static", DATA[0, 0], ())
    group(source / "inner")
    (consolidate_v2 if zarr_format == 2 else consolidate_v3)(source)
    yield
    there = {file: file.stat() for file in (source / "inner/a").rglob("*") if file.is_file()}
    array(source / "inner/a", np.arange(np.prod(shape), dtype="<i4").reshape(shape), (2, 2))
    for file, stat in there.items():
        # Chunks that were there are the same, and have not been written again.
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    yield


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_append_notices_arrays_that_have_grown(source, target, zarr_format):
    """Regression: append said that nothing is new. It takes the array's own document, and says so."""
    steps = grown(source, zarr_format)
    next(steps)
    refreeze.ingest(source, target)
    again = refreeze.ingest(source, target, mode="append", append_dim="x")
    assert again.commits == 0
    assert not any("own document" in text for text in again.warnings)
    next(steps)
    result = ingest(str(source), str(target), mode="append", append_dim="x")
    assert result.report.added == 4
    np.testing.assert_array_equal(result.array("inner/a")[:], np.arange(24).reshape(6, 4))
    (told,) = [text for text in result.report.warnings if "own document" in text]
    assert told.startswith("array inner/a: consolidated metadata says the shape is (2, 4)")
    assert "(6, 4)" in told
    assert "newer" in told


@pytest.mark.parametrize("member", ["shape", "compressor"])
def test_stale_consolidated_metadata_of_version_2(source, target, member, capsys):
    """Regression: an ingest took `.zmetadata` as it was. It is held against the largest array's document."""
    steps = grown(source, 2)
    next(steps)
    array_v2(source / "new", DATA, (2, 2))
    if member == "shape":
        next(steps)
    else:
        document = json.loads((source / "inner/a/.zarray").read_text())
        write(source / "inner/a/.zarray", document | {"compressor": {"id": "zlib", "level": 1}})
    outcome = cli(capsys, "plan", source)
    assert outcome.code == 0
    report = refreeze.ingest(source, target)
    # What consolidated metadata has not heard of is found too.
    assert {array.path for array in report.arrays} == {"/inner/a", "/new", "/static"}
    (told,) = [text for text in report.warnings if "consolidated metadata" in text]
    assert told.startswith(f"array inner/a: consolidated metadata says the {member} is")
    assert "zarr.consolidate_metadata" in told
    if member == "shape":
        (grown_one,) = [array for array in report.arrays if array.path == "/inner/a"]
        assert grown_one.shape == (6, 4)


def test_only_documents_that_append_needs_are_read(source, target, monkeypatch):
    """That of the largest array, and one more of each array that may grow."""
    from refreeze.stores.reading import Reader

    steps = grown(source, 2)
    next(steps)
    asked = []
    real = Reader.documents
    monkeypatch.setattr(
        Reader, "documents", lambda self, keys, **o: asked.extend(keys) or real(self, keys, **o)
    )
    root = ["zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"]
    refreeze.ingest(source, target)
    assert asked == [*root, "inner/a/.zarray"]
    asked.clear()
    refreeze.ingest(source, target, mode="append", append_dim="x")
    assert asked == [*root, "inner/a/.zarray", "inner/a/.zarray"]


def test_a_store_that_has_only_consolidated_metadata(source, target):
    """Where arrays have no documents of their own, append takes what there is."""
    steps = grown(source, 2)
    next(steps)
    refreeze.ingest(source, target)
    for file in (*source.rglob(".zarray"), *source.rglob(".zattrs")):
        file.unlink()
    assert refreeze.ingest(source, target, mode="append", append_dim="x").commits == 0


def test_consolidated_groups_below_the_root(source, target):
    """A group of version 3 may have consolidated metadata of its own, which is used as zarr-python uses it."""
    group_v3(source)
    group_v3(source / "inner")
    array_v3(source / "inner/a", DATA, (2, 2))
    consolidate_v3(source / "inner")
    array_v3(source / "inner/later", DATA, (2, 2))
    array_v3(source / "b", DATA, (2, 2))
    result = same_values(source, target)
    assert paths(result.report) == ["/b", "/inner/a"]


def test_strangers_are_counted(source, target):
    """A group full of foreign keys gives a few warnings, not one for each."""
    group_v3(source)
    array_v3(source / "a", DATA, (2, 2))
    for index in range(40):
        write(source / f"notes{index:02}.txt", "x")
    report = refreeze.ingest(source, target)
    about = [text for text in report.warnings if "notes" in text]
    assert len(about) == 6
    assert "35 others beside notes00.txt" in about[-1]
