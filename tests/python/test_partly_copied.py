"""Repositories some of whose chunks were copied: verbs that follow the source leave those alone, and say so."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

import refreeze
from refreeze.exceptions import MismatchError
from scenarios import local_repository

if TYPE_CHECKING:
    from pathlib import Path


def write(source: Path, length: int) -> zarr.Array:
    """Write rows of random bytes, which no codec makes equally long."""
    group = zarr.open_group(source)
    array: Any = group.create_array(
        "a", shape=(length, 4), chunks=(2, 2), dtype="u1", dimension_names=["t", "x"],
        compressors=None, fill_value=0,
    )  # fmt: skip
    array[:] = np.arange(1, length * 4 + 1, dtype="u1").reshape(length, 4)
    return array


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, Path]:
    """Return a source of 10 chunks, and a repository whose first three rows of chunks are native."""
    write(tmp_path / "s.zarr", 10)
    an_hour_ago = time.time() - 3_600
    for file in (tmp_path / "s.zarr").rglob("*"):
        # What is written later has another whole second.
        os.utime(file, (an_hour_ago, an_hour_ago))
    refreeze.ingest(tmp_path / "s.zarr", tmp_path / "t")
    refreeze.copy(tmp_path / "t", region={"t": slice(0, 6)})
    return tmp_path / "s.zarr", tmp_path / "t"


def kinds(target: Path) -> tuple[int, int]:
    """Return how many chunks are native, and virtual."""
    (array,) = refreeze.coverage(target).arrays
    return array.native, array.virtual


def values(target: Path) -> np.ndarray:
    """Return what a reader without access to the source sees of the native chunks."""
    session = local_repository(target).readonly_session("main")
    group = zarr.open_group(session.store, mode="r")
    return np.asarray(group["a"][:6])  # type: ignore[index]


def test_unchanged_chunks_are_equal_and_stay_native(place: tuple[Path, Path]) -> None:
    """Comparing finds nothing, sync writes nothing, update and append leave them native."""
    source, target = place
    report = refreeze.verify(source, target, sample=10)
    assert (report.equal, report.checked, report.sampled) == (True, 10, 10), report.examples
    assert any("6 chunks are native" in warning for warning in report.warnings)
    assert refreeze.sync(source, target).snapshot_id is None
    refreeze.ingest(source, target, mode="update", region={"t": slice(0, 8)})
    zarr.open_group(source)["a"].append(np.full((2, 4), 9, "u1"))  # type: ignore[union-attr]
    report = refreeze.ingest(source, target, mode="append", append_dim="t")
    assert report.added == 2
    assert kinds(target) == (6, 6)


@pytest.mark.parametrize("verb", ["sync", "update"])
def test_changed_chunks_of_the_source_do_not_replace_native_ones(
    place: tuple[Path, Path], verb: str
) -> None:
    """References follow, native chunks stay with a warning, and verify names the stale ones."""
    source, target = place
    before = values(target)
    zarr.open_group(source)["a"][:] = 200  # type: ignore[index]
    if verb == "sync":
        report: Any = refreeze.sync(source, target)
    else:
        report = refreeze.ingest(source, target, mode="update", region={"t": slice(0, 10)})
    assert (report.changed, report.added, report.removed) == (4, 0, 0)
    assert any("native chunks" in warning and "6 here" in warning for warning in report.warnings)
    assert kinds(target) == (6, 4)
    assert (values(target) == before).all()
    compared = refreeze.verify(source, target, sample=10)
    assert (compared.equal, compared.sample_mismatches) == (False, 6)


def test_a_chunk_of_another_length_is_a_difference(place: tuple[Path, Path]) -> None:
    """Without a byte read."""
    source, target = place
    (source / "a/c/0/0").write_bytes(b"12345")
    report = refreeze.verify(source, target)
    assert (report.equal, report.changed) == (False, 1)
    assert report.examples[0]["coordinates"] == [0, 0]
    assert report.examples[0]["target"]["location"] == "a native chunk"
    synced = refreeze.sync(source, target)
    assert kinds(target) == (6, 4)
    assert any("1 of them have another length" in warning for warning in synced.warnings)


def test_native_chunks_whose_objects_are_gone_stay(place: tuple[Path, Path]) -> None:
    """That is what they were copied for; verify says that the source lacks them."""
    source, target = place
    (source / "a/c/1/1").unlink()
    (source / "a/c/4/1").unlink()
    report = refreeze.sync(source, target)
    assert (report.removed, kinds(target)) == (1, (6, 3))
    assert refreeze.verify(source, target).missing_in_source == 1


def test_a_ragged_native_chunk_is_not_taken_for_the_grown_one(tmp_path: Path) -> None:
    """It lacks the new rows: append and sync refuse, and name overwrite."""
    source, target = tmp_path / "s.zarr", tmp_path / "t"
    write(source, 9)
    refreeze.ingest(source, target)
    refreeze.copy(target, region={"t": slice(8, 9)})
    before = local_repository(target).lookup_branch("main")
    zarr.open_group(source)["a"].append(np.full((3, 4), 9, "u1"))  # type: ignore[union-attr]
    for grow in (
        lambda: refreeze.sync(source, target),
        lambda: refreeze.ingest(source, target, mode="append", append_dim="t"),
    ):
        with pytest.raises(MismatchError, match=r"(?s)chunk \[4, 0\].*native.*overwrite"):
            grow()
    assert local_repository(target).lookup_branch("main") == before


def test_what_was_copied_as_a_whole_is_appended_to(tmp_path: Path) -> None:
    """Its references tell no origin any more."""
    source, target = tmp_path / "s.zarr", tmp_path / "t"
    write(source, 8)
    refreeze.ingest(source, target)
    refreeze.copy(target)
    zarr.open_group(source)["a"].append(np.full((2, 4), 9, "u1"))  # type: ignore[union-attr]
    refreeze.ingest(source, target, mode="append", append_dim="t")
    session = local_repository(target).readonly_session("main")
    shown = zarr.open_group(session.store, mode="r")["a"]
    assert (np.asarray(shown[:]) == np.asarray(zarr.open_group(source)["a"][:])).all()  # type: ignore[index]


@pytest.mark.parametrize("large", [True, False])
def test_what_was_copied_as_a_whole_is_compared_and_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, large: bool
) -> None:
    """Small arrays by their values, which follow the source; large ones by the lengths of chunks."""
    if large:
        monkeypatch.setattr("refreeze.planning.target_arrays._MOST_VALUES", 10)
    source, target = tmp_path / "s.zarr", tmp_path / "t"
    write(source, 10)
    refreeze.ingest(source, target)
    refreeze.copy(target)
    assert refreeze.verify(source, target).equal
    assert refreeze.sync(source, target).snapshot_id is None
    zarr.open_group(source)["a"][0, 0] = 77  # type: ignore[index]
    report = refreeze.sync(source, target)
    assert (report.snapshot_id is None) == large
    assert any("native chunks" in warning for warning in report.warnings) == large
    assert kinds(target) == (10, 0)
    assert int(values(target)[0, 0]) == (1 if large else 77)
