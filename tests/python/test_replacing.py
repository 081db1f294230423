"""`replacing`: folders and files on local disk, exchanged in one step or not at all."""

import pytest
import zarr

import refreeze
from refreeze.exceptions import ConflictError, TargetError


def write(path, value):
    zarr.create_array(path, shape=(20,), chunks=(2,), dtype="i4")[:] = value


def test_exchanges_a_folder_that_is_read_meanwhile(tmp_path):
    """The old store is read while the new one is written; nothing is left beside."""
    with refreeze.replacing(tmp_path / "s.zarr") as new:
        write(new, 1)
    old = zarr.open_array(tmp_path / "s.zarr", mode="r")
    with refreeze.replacing(tmp_path / "s.zarr") as new:
        write(new, old[:] + 1)
    assert set(zarr.open_array(tmp_path / "s.zarr")[:]) == {2}
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]


def test_a_file(tmp_path):
    """A file is exchanged like a folder."""
    for text in ("a", "b"):
        with refreeze.replacing(str(tmp_path / "f")) as new:
            new.write_text(text)
    assert (tmp_path / "f").read_text() == "b"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_an_error_leaves_the_old(tmp_path):
    """An error in the block, nothing written, and a replacement by somebody else meanwhile."""
    place = tmp_path / "f"
    place.write_text("old")

    def fail():
        with refreeze.replacing(place) as new:
            new.write_text("half")
            raise KeyError

    def meanwhile():
        with refreeze.replacing(place) as new:
            new.write_text("mine")
            with refreeze.replacing(place) as other:
                other.write_text("theirs")

    with pytest.raises(KeyError):
        fail()
    with pytest.raises(TargetError, match="nothing was written"), refreeze.replacing(place):
        pass
    assert place.read_text() == "old"
    with pytest.raises(ConflictError):
        meanwhile()
    assert place.read_text() == "theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_object_storage_is_refused():
    """The error says why and names what does it there."""
    with (
        pytest.raises(TargetError, match=r"(?s)rename.*refreeze\.write"),
        refreeze.replacing("s3://bucket/store.zarr"),
    ):
        pass
