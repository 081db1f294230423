"""Appends that fit one commit: what they leave in the repository's history, and in nobody's way."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import refreeze
from modes_for_tests import assert_same, grow, source, values, world_of, write
from refreeze.exceptions import ConflictError, TargetError
from scenarios import foreign_commit

if TYPE_CHECKING:
    from pathlib import Path

APPEND: dict[str, Any] = {"mode": "append", "append_dim": "time"}
DAYS = 40
"""More than there are entries of the operations log in one file."""


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a repository of some days, and the store that it is of, with one day more."""
    world = world_of("icechunk", tmp_path, monkeypatch)
    store = write(tmp_path / "a.zarr", 0, 12)
    world.ingest(store)
    grow(store, 0, 12, 13)
    return world, store


def test_one_commit_and_nothing_else(archive):
    """It stands on the branch from the beginning and says whose it is."""
    world, store = archive
    report = world.ingest(store, **APPEND)
    repository = world.repository()
    tip = next(iter(repository.ancestry(branch="main")))
    assert tip.id == report.snapshot_id == report.run_id.upper()
    assert tip.metadata == {
        "refreeze.whole": {"source": str(store), "mode": "append", "batches": 1}
    }
    assert repository.list_branches() == {"main"}
    run = refreeze.status(world.target).runs[0]
    assert (run.run_id, run.mode, run.state) == (report.run_id, "append", "published")
    assert (run.source, run.batches_done, run.batches_total) == (str(store), 1, 1)
    newest, before, *_ = repository.ops_log()
    assert type(newest.kind).__name__ == "NewCommit"
    assert type(before.kind).__name__ != "NewDetachedSnapshot"


def test_the_log_of_operations_stays_whole(tmp_path, archive):
    """Most of it lies in former versions of the repository info, which stays small."""
    world, store = archive
    known = len(list(world.repository().ops_log()))
    sizes = []
    for day in range(13, 13 + DAYS):
        world.ingest(store, **APPEND)
        grow(store, 0, day, day + 1)
        sizes.append((world.target / "repo").stat().st_size)
    log = list(world.repository().ops_log())
    assert len(log) == known + DAYS
    times = [entry.updated_at for entry in log]
    assert times == sorted(times, reverse=True)
    assert len(set(sizes)) == DAYS
    assert sizes[-1] - sizes[DAYS // 2] < 50 * DAYS // 2


def test_a_foreign_commit_before_publication(archive):
    """The run is kept on a staging branch after all, and can be put on the new tip."""
    world, store = archive
    foreign: list[str] = []

    def interfere(event: dict[str, Any]) -> None:
        if event["stage"] == "publish" and not foreign:
            foreign.append(foreign_commit(world.target))

    with pytest.raises(ConflictError, match="main moved") as raised:
        world.ingest(store, progress=interfere, **APPEND)
    assert world.tip() == foreign[0]
    (run,) = [run for run in refreeze.status(world.target).runs if run.state == "staged"]
    assert run.mode == "append"
    assert f"refreeze/{run.run_id}" in str(raised.value)
    with pytest.raises(ConflictError):
        refreeze.publish(world.target)
    published = refreeze.publish(world.target, rebase=True)
    assert (published.rebased, published.run_id) == (True, run.run_id)
    np.testing.assert_array_equal(world.array("air")[:], values("air", range(13)))
    np.testing.assert_array_equal(world.array("time")[:], range(13))
    assert world.repository().list_branches() == {"main"}
    runs = refreeze.status(world.target).runs
    assert [one.run_id for one in runs if one.mode == "append"] == [run.run_id]


def test_a_reference_that_cannot_be_read(archive):
    """What fails the check is kept on a branch; readers see nothing of it."""
    world, store = archive
    tip = world.tip()
    chunks = {
        path: (path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns))
        for path in (store / "air" / "c").glob("4/*")
    }

    def spoil(event: dict[str, Any]) -> None:
        if event["stage"] == "check":
            for path in chunks:
                path.unlink(missing_ok=True)

    with pytest.raises(TargetError, match="cannot be read back"):
        world.ingest(store, progress=spoil, **APPEND)
    assert world.tip() == tip
    (run,) = [run for run in refreeze.status(world.target).runs if run.state == "staged"]
    for path, (content, times) in chunks.items():
        path.write_bytes(content)
        os.utime(path, ns=times)
    report = world.ingest(store, **APPEND)
    assert (report.run_id, report.resumed_batches, report.commits) == (run.run_id, 1, 0)
    assert_same(world.dataset(), source(store))
    published = refreeze.status(world.target).runs[0]
    assert (published.run_id, published.mode, published.state) == (
        run.run_id,
        "append",
        "published",
    )
    assert world.repository().list_branches() == {"main"}
