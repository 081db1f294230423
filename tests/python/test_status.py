"""What `status` says of a repository: exactly, for readers and for programs."""

import fcntl
import os
import sys
from datetime import UTC, datetime, timedelta

import icechunk
import pytest

import refreeze
from refreeze.exceptions import TargetError, TargetNotFoundError
from scenarios import (
    SMALL_COMMITS,
    cli,
    kill_after,
    local_repository,
    run,
    stamp,
    write_series,
    write_store,
)


@pytest.fixture
def source(tmp_path):
    return write_series(tmp_path / "series.zarr")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "target.icechunk"


def test_the_document(tmp_path, capsys, source, target):
    """Runs that are unfinished, staged and published: every field, the last one first."""
    began = datetime.now(UTC) - timedelta(seconds=1)
    published = refreeze.ingest(source, target, target_group="one", **SMALL_COMMITS)
    staged = refreeze.ingest(write_store(tmp_path / "air.zarr"), target, no_publish=True)
    unfinished = kill_after(9, source, target, **SMALL_COMMITS, target_group="two")
    files = stamp(target)
    ended = cli(capsys, "status", target, "--json")
    assert ended.code == 0
    assert ended.err == ""
    document = ended.document
    runs = document["runs"]
    times = [datetime.fromisoformat(run.pop("last_commit_at")) for run in runs]
    assert times == sorted(times, reverse=True)
    assert all(began < time < datetime.now(UTC) for time in times)
    same = {"branch": "main", "mode": "create", "locked": False}
    assert document == {
        "runs": [
            {
                "run_id": unfinished.run_id,
                "source": str(source),
                "state": "unfinished",
                "batches_done": 8,
                "batches_total": 26,
            }
            | same,
            {
                "run_id": staged.run_id,
                "source": str(tmp_path / "air.zarr"),
                "state": "staged",
                "batches_done": 1,
                "batches_total": 1,
            }
            | same,
            {
                "run_id": published.run_id,
                "source": str(source),
                "state": "published",
                "batches_done": 26,
                "batches_total": 26,
            }
            | same,
        ]
    }
    # It only looks.
    assert stamp(target) == files


def test_the_text(capsys, source, target):
    """One line a run, with what a person wants to know."""
    refreeze.ingest(source, target, target_group="one", branch="main", **SMALL_COMMITS)
    unfinished_run = kill_after(9, source, target, **SMALL_COMMITS)
    ended = cli(capsys, "status", target)
    assert ended.code == 0
    unfinished, published = ended.out.splitlines()
    for word in (unfinished_run.run_id, "unfinished", "8/26 batches", "branch main", str(source)):
        assert word in unfinished
    assert "published" in published


def test_no_runs(capsys, target):
    """A repository that refreeze never touched has none; where there is no repository, that is said."""
    with pytest.raises(TargetNotFoundError, match="there is no repository"):
        refreeze.status(target)
    assert not target.exists()
    target.mkdir()
    with pytest.raises(TargetNotFoundError):
        refreeze.status(target)
    assert not any(target.iterdir())
    icechunk.Repository.create(icechunk.local_filesystem_storage(str(target)))
    assert refreeze.status(target).to_dict() == {"runs": []}
    ended = cli(capsys, "status", target)
    assert ended.out == f"No ingests in {target}.\n"
    ended = cli(capsys, "status", target.parent / "nowhere", "--json")
    assert ended.code == 1
    assert ended.document["error"]["type"] == "TargetNotFoundError"


def test_something_else_than_a_repository(target):
    """Files of somebody else are no repository, and stay."""
    target.mkdir()
    (target / "repo").write_text("something else")
    with pytest.raises(TargetError):
        refreeze.status(target)
    assert stamp(target) == {"repo": b"something else"}


def test_locked_while_somebody_is_at_work(monkeypatch, source, target):
    """An ingest that is running is locked, and its lock is gone when it is."""
    raised = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: raised.append(args.exc_value))
    seen = []

    def look(event):
        if event["stage"] == "commit" and event["commits"] > 3 and not seen:
            seen.extend(run("status", target, "--json").document["runs"])
            # Regression: a call of refreeze from its own callback ended the ingest.
            assert refreeze.status(target).to_dict()["runs"] == seen

    refreeze.ingest(source, target, progress=look, **SMALL_COMMITS)
    assert raised == []
    assert [(one["state"], one["locked"]) for one in seen] == [("unfinished", True)]
    (now,) = refreeze.status(target).runs
    assert (now.state, now.locked) == ("published", False)


def test_locked_by_a_stranger(capsys, source, target):
    """The lock is the system's own on the folder: whoever has it, status says so and does not wait."""
    kill_after(4, source, target, **SMALL_COMMITS)
    folder = os.open(target, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        assert refreeze.status(target).runs[0].locked
        assert "at work" in cli(capsys, "status", target).out
    finally:
        os.close(folder)
    assert not refreeze.status(target).runs[0].locked


def test_runs_on_several_branches(source, target):
    """A published run is told once, with the branch it was published on, also when others hold it."""
    first = refreeze.ingest(source, target, branch="main")
    repository = local_repository(target)
    repository.create_branch("zz", repository.lookup_branch("main"))
    second = refreeze.ingest(source, target, branch="zz", target_group="more")
    runs = {run.run_id: run for run in refreeze.status(target).runs}
    assert len(refreeze.status(target).runs) == 2
    assert runs[first.run_id].branch == "main"
    assert runs[second.run_id].branch == "zz"
    repository.delete_branch("zz")
    assert [run.run_id for run in refreeze.status(target).runs] == [first.run_id]


def test_after_expiry(source, target):
    """What expired snapshots said is gone; a run of which some are left is still told."""
    report = refreeze.ingest(source, target, **SMALL_COMMITS)
    local_repository(target).expire_snapshots(older_than=datetime.now(UTC))
    (one,) = refreeze.status(target).runs
    assert (one.run_id, one.state) == (report.run_id, "published")
    assert one.batches_done == one.batches_total == 26


def test_on_object_storage(source, s3_bucket):
    """The same from a bucket, where nobody can hold a lock."""
    server, bucket = s3_bucket
    target, options = f"s3://{bucket}/series", {"target_options": server.options}
    staged = refreeze.ingest(source, target, no_publish=True, **options)
    (run,) = refreeze.status(target, **options).runs
    assert (run.run_id, run.state, run.locked) == (staged.run_id, "staged", False)
    refreeze.publish(target, **options)
    (run,) = refreeze.status(target, **options).runs
    assert run.state == "published"
    with pytest.raises(TargetNotFoundError):
        refreeze.status(f"s3://{bucket}/nothing", **options)
