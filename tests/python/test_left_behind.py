"""What a process leaves that is killed right after it has published: the same command again removes it.

The branch is put back that such a process had not come to delete.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

import refreeze
from scenarios import local_repository, tip

if TYPE_CHECKING:
    from pathlib import Path


def store(folder: Path, start: int, stop: int, *, changed: bool = False) -> Path:
    """Write hours `start` to `stop` of an archive, one in a chunk."""
    root = zarr.open_group(folder, mode="w", zarr_format=3)
    air = root.create_array(
        "air",
        shape=(stop - start, 2),
        chunks=(1, 2),
        dtype="int32",
        dimension_names=("time", "x"),
    )
    air[:] = np.arange(start, stop)[:, None] + (1000 if changed else 1)
    time = root.create_array(
        "time", shape=(stop - start,), chunks=(4,), dtype="int64", dimension_names=("time",)
    )
    time[:] = np.arange(start, stop)
    return folder


def leave_branch(target: Path, run_id: str, at: str | None = None) -> None:
    """Do as if the run had been killed before it deleted its branch; its results are there too."""
    local_repository(target).create_branch(f"refreeze/{run_id}", at or tip(target))
    results = target / "refreeze" / run_id
    results.mkdir(parents=True, exist_ok=True)
    (results / f"{'0' * 16}.json").write_text("{}")


def left(target: Path) -> list[str]:
    """Return branches of runs, and results."""
    branches = local_repository(target).list_branches() - {"main"}
    files = (target / "refreeze").rglob("*.json")
    return sorted(branches) + sorted(file.name for file in files)


def appended(place: Path, target: Path) -> tuple[Any, dict[str, Any]]:
    """Make a target; return a source that has grown, and how it is appended."""
    refreeze.ingest(store(place / "a", 0, 6), target)
    options = {"mode": "append", "append_dim": "time", "max_refs_per_commit": 1}
    return store(place / "a", 0, 9), options


def followed(place: Path, target: Path) -> tuple[Any, dict[str, Any]]:
    """Make a target; return a source that follows it, and how it is appended."""
    refreeze.ingest(store(place / "a", 0, 6), target)
    options = {"mode": "append", "concat_dim": "time", "max_refs_per_commit": 1}
    return store(place / "b", 6, 9), options


def created(place: Path, target: Path) -> tuple[Any, dict[str, Any]]:
    """Return a source of which a target is to be made."""
    return store(place / "a", 0, 6), {"max_refs_per_commit": 1}


@pytest.mark.parametrize("prepare", [appended, followed, created])
def test_an_ingest_again_removes_what_a_published_run_left(tmp_path: Path, prepare: Any) -> None:
    """Branch and results of the run are gone, the published branch is where it was."""
    target = tmp_path / "target"
    source, options = prepare(tmp_path, target)
    report = refreeze.ingest(source, target, **options)
    assert report.commits > 1
    before = tip(target)
    leave_branch(target, report.run_id)
    assert left(target)
    again = refreeze.ingest(source, target, **options)
    assert again.commits == 0
    assert left(target) == []
    assert tip(target) == before


def test_a_sync_again_removes_what_a_published_run_left(tmp_path: Path) -> None:
    """Also where there is nothing to be listed: all arrays are copied."""
    target = tmp_path / "target"
    source = store(tmp_path / "a", 0, 6)
    refreeze.ingest(source, target, arrays=["time"])
    zarr.open_group(source, mode="a").create_array(
        "level", data=np.arange(3), chunks=(3,), dimension_names=("level",)
    )
    selection: dict[str, Any] = {"arrays": ["time", "level"]}
    report = refreeze.sync(source, target, new_arrays="add", **selection)
    leave_branch(target, report.run_id)
    assert refreeze.sync(source, target, **selection).snapshot_id is None
    assert left(target) == []


def test_an_unpublished_run_stays(tmp_path: Path) -> None:
    """What waits to be published is not what a published run has left."""
    target = tmp_path / "target"
    source, options = appended(tmp_path, target)
    refreeze.ingest(source, target, **options)
    other = store(tmp_path / "other", 0, 6)
    staged = refreeze.ingest(other, target, target_group="other", no_publish=True)
    refreeze.ingest(source, target, **options)
    assert left(target) == [f"refreeze/{staged.run_id}"]
    assert refreeze.publish(target).run_id == staged.run_id


def test_nothing_new_beside_another_process_warns_of_nothing(tmp_path: Path) -> None:
    """A branch of somebody else, who holds the target, is theirs."""
    target = tmp_path / "target"
    source, options = appended(tmp_path, target)
    refreeze.ingest(source, target, **options)
    staged = refreeze.ingest(
        store(tmp_path / "other", 0, 6), target, target_group="other", no_publish=True
    )

    during: list[Any] = []

    def look(event: dict[str, Any]) -> None:
        if not during:
            during.append(refreeze.ingest(source, target, **options))

    refreeze.ingest(store(tmp_path / "third", 0, 6), target, target_group="third", progress=look)
    assert not [text for text in during[0].warnings if "stays" in text]
    assert left(target) == [f"refreeze/{staged.run_id}"]


def test_a_copy_does_not_go_on_with_a_run_that_was_published(tmp_path: Path) -> None:
    """Regression: references that came after it were left uncopied, and the copy was said to be published."""
    target = tmp_path / "target"
    source = store(tmp_path / "a", 0, 6)
    refreeze.ingest(source, target)
    report = refreeze.copy(target)
    assert report.chunks_copied == 6
    refreeze.ingest(source, target, mode="overwrite")
    leave_branch(target, report.run_id, report.snapshot_id)
    assert refreeze.copy(target).chunks_copied == 6
    (array,) = [one for one in refreeze.coverage(target).arrays if one.path.strip("/") == "air"]
    assert (array.native, array.virtual) == (6, 0)
    assert left(target) == []


def test_a_left_branch_of_another_branch_is_removed(tmp_path: Path) -> None:
    """A run that was published on a branch beside main."""
    target = tmp_path / "target"
    refreeze.ingest(store(tmp_path / "a", 0, 6), target)
    local_repository(target).create_branch("beside", tip(target))
    options: dict[str, Any] = {"mode": "append", "append_dim": "time", "branch": "beside"}
    source = store(tmp_path / "a", 0, 9)
    report = refreeze.ingest(source, target, **options, max_refs_per_commit=1)
    leave_branch(target, report.run_id, report.snapshot_id)
    refreeze.ingest(source, target, **options)
    assert left(target) == ["beside"]
