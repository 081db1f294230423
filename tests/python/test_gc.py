"""`gc`: what nothing refers to goes, and nothing else."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import icechunk
import numpy as np
import pytest
import zarr

import refreeze
from crews_for_tests import SMALL, references, store_of
from refreeze.exceptions import TargetError, TargetNotFoundError
from refreeze.verbs.batch_queue import begin, commit, work
from refreeze.verbs.gc import seconds
from refreeze.work import carry_out


def repository(target: Path) -> icechunk.Repository:
    return icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))


def files(target: Path) -> dict[str, bytes]:
    """Return every file of a repository but its info, which each change writes anew."""
    found = (path for path in target.rglob("*") if path.is_file())
    kept = {str(path.relative_to(target)): path.read_bytes() for path in found}
    return {
        name: data
        for name, data in kept.items()
        if name.split("/")[0] in {"manifests", "transactions", "snapshots", "refreeze", "chunks"}
    }


def read_all(target: Path) -> None:
    """Read every snapshot of a repository, each array of it and each log."""
    repo = repository(target)
    heads = [repo.lookup_branch(branch) for branch in repo.list_branches()]
    heads += [repo.lookup_tag(tag) for tag in repo.list_tags()]
    for head in heads:
        ancestry = list(repo.ancestry(snapshot_id=head))
        for snapshot in ancestry:
            session = repo.readonly_session(snapshot_id=snapshot.id)
            session.all_virtual_chunk_locations()
        for child, parent in itertools.pairwise(ancestry):
            repo.diff(from_snapshot_id=parent.id, to_snapshot_id=child.id)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return store_of(tmp_path)


def orphans(target: Path) -> list[str]:
    """Leave behind what killed processes leave; return the keys."""
    manifest = next((target / "manifests").iterdir())
    log = next((target / "transactions").iterdir())
    left = {
        "manifests/" + "7" * 20: manifest.read_bytes(),
        "transactions/" + "8" * 20: log.read_bytes(),
        "refreeze/0000deadbeef/" + "a" * 32 + ".json": b"{}",
    }
    for key, data in left.items():
        path = target / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return sorted(left)


def test_what_killed_processes_left_is_listed_and_removed(tmp_path: Path, source: Path) -> None:
    """Orphans are named with their bytes, a dry run removes nothing, gc only them, once."""
    target = tmp_path / "t.icechunk"
    refreeze.ingest(str(source), str(target), **SMALL)
    before = files(target)
    left = orphans(target)
    dry = refreeze.gc(str(target), dry_run=True, older_than=0)
    assert dry.to_dict() == {
        "files": left,
        "bytes": sum((target / key).stat().st_size for key in left),
        "runs": ["0000deadbeef"],
    }
    assert files(target).keys() == before.keys() | set(left)
    assert refreeze.gc(str(target), older_than=timedelta(0)) == dry
    assert files(target) == before
    assert refreeze.gc(str(target), older_than="0s").files == ()
    read_all(target)


def test_young_files_are_left_alone(tmp_path: Path, source: Path) -> None:
    """By default a file must be a day old: a worker may be about to say that it is its own."""
    target = tmp_path / "t.icechunk"
    refreeze.ingest(str(source), str(target))
    orphans(target)
    assert refreeze.gc(str(target)).files == ()
    assert refreeze.gc(str(target), older_than="1h").files == ()


def test_nothing_that_any_snapshot_refers_to_is_removed(tmp_path: Path, source: Path) -> None:
    """Old states, tags, other branches, dangling snapshots and a staged run keep their files."""
    target = tmp_path / "t.icechunk"
    refreeze.ingest(str(source), str(target), **SMALL)
    repo = repository(target)
    first = repo.lookup_branch("main")
    repo.create_tag("v1", first)
    zarr.open_group(source, mode="a")["sparse"][10:20] = 3
    refreeze.sync(str(source), str(target))
    repo.create_branch("side", repo.lookup_branch("main"))
    # A commit to which no branch leads any more.
    zarr.open_group(source, mode="a")["sparse"][20:30] = 4
    refreeze.sync(str(source), str(target))
    dangling = repo.lookup_branch("main")
    repo.reset_branch("main", first)
    refreeze.ingest(str(source), str(target), target_group="staged", no_publish=True, **SMALL)
    before = files(target)
    assert refreeze.gc(str(target), older_than=0).files == ()
    assert files(target) == before
    read_all(target)
    repository(target).readonly_session(snapshot_id=dangling).all_virtual_chunk_locations()
    assert refreeze.publish(str(target)).run_id


def test_an_unfinished_run_keeps_its_results_and_their_manifests(
    tmp_path: Path, source: Path
) -> None:
    """What workers have filed waits for its commit; what it names stays."""
    target, run = tmp_path / "t.icechunk", tmp_path / "run.json"
    begin(str(source), str(target), run, **SMALL)
    work(run, "0/2")
    before = files(target)
    left = orphans(target)
    report = refreeze.gc(str(target), older_than=0)
    assert list(report.files) == left
    assert files(target) == before
    work(run, "1/2")
    assert commit(run).published
    whole = tmp_path / "whole.icechunk"
    refreeze.ingest(str(source), str(whole))
    assert references(target) == references(whole)
    assert refreeze.gc(str(target), older_than=0).files == ()


def test_results_of_a_discarded_run_are_removed(tmp_path: Path, source: Path) -> None:
    """What a run has left that was begun anew leads nowhere."""
    target, run = tmp_path / "t.icechunk", tmp_path / "run.json"
    plan, _ = begin(str(source), str(target), run, **SMALL)
    assert plan is not None
    result = carry_out(plan, 0)
    manifests = {
        f"manifests/{written['id']}"
        for part in json.loads(result)["staged"]["parts"]
        for written in part["manifests"]["written"]
    }
    refreeze.ingest(str(source), str(target), restart=True, **SMALL)
    report = refreeze.gc(str(target), older_than=0)
    assert set(report.files) >= manifests
    assert report.runs in ((), (plan.run_id,))
    assert not (target / "refreeze" / plan.run_id).exists() or not list(
        (target / "refreeze" / plan.run_id).iterdir()
    )
    read_all(target)


def test_expired_ancestors_keep_the_logs_that_others_need(tmp_path: Path, source: Path) -> None:
    """Icechunk's expiration leaves logs that younger snapshots still refer to."""
    target = tmp_path / "t.icechunk"
    refreeze.ingest(str(source), str(target), **SMALL)
    for value in (3, 4, 5):
        zarr.open_group(source, mode="a")["sparse"][10:20] = value
        refreeze.sync(str(source), str(target))
    repo = repository(target)
    from datetime import UTC, datetime

    repo.expire_snapshots(datetime.now(UTC))
    kept = {
        str(log)
        for snapshot in repository(target).ancestry(branch="main")
        for log in (snapshot.id, *getattr(snapshot, "pruned_ancestor_tx_logs", ()))
    }
    refreeze.gc(str(target), older_than=0)
    left = {path.name for path in (target / "transactions").iterdir()}
    assert kept <= left
    read_all(target)


@pytest.mark.parametrize("seed", range(4))
def test_after_any_history_the_same_can_be_read(tmp_path: Path, seed: int) -> None:
    """Whatever was ingested, changed, tagged, reset and orphaned: gc takes the orphans alone."""
    choose = random.Random(seed)  # noqa: S311
    source, target = store_of(tmp_path, 12), tmp_path / "t.icechunk"
    refreeze.ingest(str(source), str(target), **SMALL)
    for step in range(8):
        repo = repository(target)
        match choose.randrange(5):
            case 0:
                array = zarr.open_group(source, mode="a")["sparse"]
                array[choose.randrange(12)] = step + 1
                refreeze.sync(str(source), str(target), skip_variables=["own*"])
            case 1:
                repo.create_tag(f"tag{step}", repo.lookup_branch("main"))
            case 2:
                repo.create_branch(f"branch{step}", repo.lookup_branch("main"))
            case 3:
                ancestry = [one.id for one in repo.ancestry(branch="main")]
                repo.reset_branch("main", choose.choice(ancestry[:-1] or ancestry))
            case 4:
                session = repo.writable_session("main")
                group = zarr.open_group(session.store, mode="a")
                name = f"own{step}"
                group.create_array(name, data=np.arange(4), chunks=(2,))
                session.commit(f"an array of somebody else's {name}")
        before = files(target)
        left = orphans(target)
        assert list(refreeze.gc(str(target), older_than=0).files) == left
        assert files(target) == before
    read_all(target)


def test_a_snapshot_that_cannot_be_read_stops_it(tmp_path: Path, source: Path) -> None:
    """Nobody knows what such a snapshot refers to, so that nothing is removed."""
    target = tmp_path / "t.icechunk"
    refreeze.ingest(str(source), str(target), **SMALL)
    orphans(target)
    tip = repository(target).lookup_branch("main")
    (target / "snapshots" / tip).unlink()
    before = files(target)
    with pytest.raises(TargetError, match=tip):
        refreeze.gc(str(target), older_than=0)
    assert files(target) == before


def test_manifests_that_were_collected_are_made_again(tmp_path: Path, source: Path) -> None:
    """Icechunk's garbage collection deletes what waits for a commit; status warns of it before."""
    target, run = tmp_path / "t.icechunk", tmp_path / "run.json"
    plan, _ = begin(str(source), str(target), run, **SMALL)
    assert plan is not None
    work(run, "0/1")
    (warning,) = refreeze.status(str(target)).warnings
    assert "garbage_collect" in warning
    assert plan.run_id in warning
    result = json.loads(carry_out(plan, 0))
    lost = result["staged"]["parts"][0]["manifests"]["written"][0]["id"]
    (target / "manifests" / lost).unlink()
    report = commit(run)
    assert report.published
    assert any("garbage_collect" in warning for warning in report.warnings)
    whole = tmp_path / "whole.icechunk"
    refreeze.ingest(str(source), str(whole))
    assert references(target) == references(whole)
    assert not refreeze.status(str(target)).warnings


def test_the_command(tmp_path: Path, source: Path) -> None:
    """Its JSON, its words and its exit codes."""
    target = tmp_path / "t.icechunk"
    refreeze.ingest(str(source), str(target))

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "refreeze", "gc", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )

    left = orphans(target)
    dry = command(str(target), "--dry-run", "--older-than", "0s")
    assert dry.returncode == 0, dry.stderr
    assert "3 files" in dry.stdout
    assert "would be removed" in dry.stdout
    done = command(str(target), "--older-than", "0s", "--json")
    assert json.loads(done.stdout)["files"] == left
    assert set(json.loads(done.stdout)) == {"files", "bytes", "runs"}
    assert command(str(target), "--older-than", "soon").returncode == 2
    assert command(str(tmp_path / "nothing")).returncode == 1


def test_ages() -> None:
    """An age is text with a unit, seconds or a timedelta."""
    assert [seconds(age) for age in ("1d", "2 h", "30min", "1.5m", 5, timedelta(days=1))] == [
        86400,
        7200,
        1800,
        90,
        5,
        86400,
    ]
    for bad in ("soon", "1y", "-1d", "", -1, float("nan")):
        with pytest.raises(ValueError, match="older_than"):
            seconds(bad)
    for wrong in (True, None, b"1d"):
        with pytest.raises(TypeError, match="older_than"):
            seconds(wrong)  # type: ignore[arg-type]


def test_without_a_repository(tmp_path: Path) -> None:
    """There is nothing to clean."""
    with pytest.raises(TargetNotFoundError):
        refreeze.gc(str(tmp_path / "nothing"))
