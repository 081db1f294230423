"""Symbolic links under keys of chunks that lead nowhere (git-annex without content), and what is no file at all."""

import os
from pathlib import Path

import numpy as np
import pytest
import zarr
from obstore.store import LocalStore

import refreeze
from refreeze.exceptions import ListingError, UnsupportedArrayError
from stores_for_tests import ingest


@pytest.fixture
def source(tmp_path):
    """Return a store of four chunks."""
    return write(tmp_path / "store.zarr")


def write(path: Path, **options):
    root = zarr.create_group(path)
    array = root.create_array(
        "a", shape=(4, 4), chunks=(2, 2), dtype="<i4", fill_value=0, **options
    )
    array[:] = np.arange(1, 17).reshape(4, 4)
    return path


def dangle(*paths: Path):
    for path in paths:
        path.unlink()
        path.symlink_to("/nonexistent/annex/objects/" + path.name)


def test_a_dangling_chunk_is_an_error_that_names_it(source, tmp_path):
    """By default nothing becomes fill values in silence."""
    dangle(source / "a/c/0/1")
    with pytest.raises(
        UnsupportedArrayError, match=r"a/c/0/1 is a symbolic link .* nowhere"
    ) as raised:
        refreeze.ingest(source, tmp_path / "repository")
    assert "--empty-chunks skip" in str(raised.value)
    with pytest.raises(UnsupportedArrayError, match="symbolic link"):
        list(refreeze.list_chunks(LocalStore(source), "a"))


def test_dangling_chunks_are_missing_if_that_is_wanted(source, tmp_path):
    """One warning with their number and an example; the others are there."""
    dangle(*(source / "a/c" / key for key in ("0/1", "1/0", "1/1")))
    result = ingest(source, tmp_path / "repository", empty_chunks="skip")
    report = result.report
    (text,) = [warning for warning in report.warnings if "symbolic links" in warning]
    assert "3 chunks are behind symbolic links" in text
    assert "a/c/" in text
    assert report.arrays[0].references == 1
    expected = np.zeros((4, 4), "<i4")
    expected[:2, :2] = [[1, 2], [5, 6]]
    np.testing.assert_array_equal(result.array("a")[:], expected)


@pytest.mark.parametrize("place", ["a/c/0", "a/c"])
def test_a_dangling_folder_hides_chunks_too(source, tmp_path, place):
    """A link in the place of a folder of chunks is as bad as one in the place of a chunk."""
    (source / place).rename(tmp_path / "elsewhere")
    (source / place).symlink_to(tmp_path / "elsewhere")
    refreeze.ingest(source, tmp_path / "before")
    (tmp_path / "elsewhere").rename(tmp_path / "moved")
    with pytest.raises(UnsupportedArrayError, match=place):
        refreeze.ingest(source, tmp_path / "repository")


def test_a_loop_of_links_is_dangling(source, tmp_path):
    """A link to itself leads nowhere as well."""
    chunk = source / "a/c/1/1"
    chunk.unlink()
    chunk.symlink_to("1")
    with pytest.raises(UnsupportedArrayError, match="a/c/1/1"):
        refreeze.ingest(source, tmp_path / "repository")


def test_scalars_and_copied_coordinates(tmp_path):
    """The one chunk of a scalar, and that of a coordinate that is copied."""
    root = zarr.create_group(tmp_path / "store.zarr")
    root.create_array("s", shape=(), dtype="<i4", fill_value=0)[...] = 7
    root.create_array("x", shape=(2,), dtype="<i4", dimension_names=["x"], fill_value=0)[:] = [1, 2]
    for key in ("s/c", "x/c/0"):
        path = tmp_path / "store.zarr" / key
        kept = path.read_bytes()
        dangle(path)
        with pytest.raises(UnsupportedArrayError, match=key):
            refreeze.ingest(tmp_path / "store.zarr", tmp_path / f"repository-{key[0]}")
        path.unlink()
        path.write_bytes(kept)
    dangle(*(tmp_path / "store.zarr" / key for key in ("s/c", "x/c/0")))
    report = refreeze.ingest(tmp_path / "store.zarr", tmp_path / "skipped", empty_chunks="skip")
    assert sum("symbolic links" in text for text in report.warnings) == 2


def test_other_dangling_links_are_foreign_keys(source, tmp_path):
    """What is not in the place of a chunk does no harm."""
    (source / "a" / "README").symlink_to("/nonexistent")
    (source / "a/c/0/x").symlink_to("/nonexistent")
    report = refreeze.ingest(source, tmp_path / "repository")
    assert any("2 keys below it are not chunks" in text for text in report.warnings)


@pytest.mark.timeout(60)
def test_pipes_are_never_opened(source, tmp_path):
    """A named pipe in the place of a chunk or a document is an error that names it, and nothing hangs."""
    (source / "a/c/0/1").unlink()
    os.mkfifo(source / "a/c/0/1")
    with pytest.raises(ListingError, match=r"a/c/0/1 is a named pipe"):
        refreeze.ingest(source, tmp_path / "repository", empty_chunks="skip")
    (source / "a/zarr.json").unlink()
    os.mkfifo(source / "a/zarr.json")
    with pytest.raises(ListingError, match=r"a/zarr\.json is a named pipe"):
        refreeze.ingest(source, tmp_path / "repository")
