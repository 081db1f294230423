"""What `status` says of a repository: exactly, for readers and for programs."""

import fcntl
import os
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import icechunk
import pytest

import refreeze
from refreeze.exceptions import MismatchError, TargetError, TargetNotFoundError
from scenarios import (
    SMALL_COMMITS,
    cli,
    kill_after,
    local_contents,
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
    places = [container["url_prefix"] for container in document.pop("containers")]
    assert sorted(places) == sorted(f"file://{place}/" for place in (source, tmp_path / "air.zarr"))
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
    unfinished, published, *containers = ended.out.splitlines()
    for word in (unfinished_run.run_id, "unfinished", "8/26 batches", "branch main", str(source)):
        assert word in unfinished
    assert "published" in published
    # What relocate takes as --from.
    (container,) = containers
    assert container.endswith(f"file://{source}/")


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


def test_status_disturbs_nobody(source, target):
    """Regression: asking for the status at that instant made an ingest fail with a conflict."""
    refreeze.ingest(source, target)
    stop = threading.Event()
    locked = []

    def ask():
        while not stop.is_set():
            locked.extend(run.locked for run in refreeze.status(target).runs)

    def hold():
        folder = os.open(target, os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_SH)
        held.set()
        time.sleep(0.05)
        os.close(folder)

    askers = [threading.Thread(target=ask) for _ in range(2)]
    try:
        for asker in askers:
            asker.start()
        for _ in range(20):
            held = threading.Event()
            looking = threading.Thread(target=hold)
            looking.start()
            held.wait()
            assert refreeze.ingest(source, target).already_published
            looking.join()
    finally:
        stop.set()
        for asker in askers:
            asker.join()
    assert set(locked) <= {False}


def test_a_plan_that_has_expired(capsys, source, target):
    """Regression: a run whose first commit expired was forgotten, and its branch stayed for ever.

    It is told as a run that nobody can go on with; the same command discards it, and says so.
    """
    options = {"target_group": "two"} | SMALL_COMMITS
    first = refreeze.ingest(source, target, target_group="one", **SMALL_COMMITS)
    run = kill_after(9, source, target, **options)
    local_repository(target).expire_snapshots(older_than=datetime.now(UTC))
    lost, published = refreeze.status(target).runs
    assert (published.run_id, published.state) == (first.run_id, "published")
    assert (lost.run_id, lost.state, lost.source) == (run.run_id, "unfinished", str(source))
    assert (lost.batches_done, lost.batches_total, lost.branch, lost.mode) == (0, 0, "", "")
    assert "plan expired, begins anew" in cli(capsys, "status", target).out
    for name in ({}, {"run": run.run_id}):
        with pytest.raises(MismatchError, match=f"{run.run_id} cannot be published"):
            refreeze.publish(target, **name)
    # It is in nobody's way.
    refreeze.ingest(write_store(source.parent / "other.zarr"), target, target_group="three")
    assert lost in refreeze.status(target).runs

    report = refreeze.ingest(source, target, **options)
    assert report.published
    assert report.run_id != run.run_id
    assert (report.resumed_batches, report.references_written) == (0, 86)
    assert any(run.run_id in warning and "expired" in warning for warning in report.warnings)
    assert local_repository(target).list_branches() == {"main"}
    assert {one.state for one in refreeze.status(target).runs} == {"published"}
    nodes = local_contents(target)
    assert nodes["/one/hourly"] == nodes["/two/hourly"]


def test_restart_discards_an_expired_plan_of_the_same_source(source, target):
    """What cannot be told to be the same ingest any more goes with `--restart`."""
    run = kill_after(9, source, target, **SMALL_COMMITS)
    local_repository(target).expire_snapshots(older_than=datetime.now(UTC))
    refreeze.ingest(source, target, skip_variables=["sparse"])
    assert run.run_id in {one.run_id for one in refreeze.status(target).runs}
    refreeze.ingest(source, target, target_group="again", restart=True)
    assert local_repository(target).list_branches() == {"main"}


def test_expiry_while_an_ingest_runs(source, target):
    """What is running knows its plan, and ends as ever."""

    def expire(event):
        if (event["stage"], event["commits"]) == ("list", 9):
            local_repository(target).expire_snapshots(older_than=datetime.now(UTC))

    report = refreeze.ingest(source, target, progress=expire, **SMALL_COMMITS)
    assert (report.published, report.references_written) == (True, 86)
    refreeze.ingest(source, target, target_group="other")
    nodes = local_contents(target)
    assert nodes["/hourly"] == nodes["/other/hourly"]
    (one, _other) = sorted(refreeze.status(target).runs, key=lambda run: run.last_commit_at)
    assert (one.run_id, one.state) == (report.run_id, "published")


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
