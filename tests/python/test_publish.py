"""Publishing: at once, later, on a branch that has moved, and never over somebody else's work."""

import multiprocessing
import shutil
from datetime import UTC, datetime, timedelta

import icechunk
import numpy as np
import pytest
import zarr

import refreeze
from refreeze.exceptions import (
    AlreadyExistsError,
    ConflictError,
    MismatchError,
    TargetNotFoundError,
)
from scenarios import (
    SMALL_COMMITS,
    VALUES,
    cli,
    foreign_commit,
    group,
    kill_after,
    local_contents,
    local_repository,
    nodes,
    state,
    write_series,
    write_store,
)


@pytest.fixture
def source(tmp_path):
    return write_series(tmp_path / "series.zarr")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "target.icechunk"


@pytest.fixture
def expected(tmp_path, source):
    """Return what the source becomes when it is published at once."""
    refreeze.ingest(source, tmp_path / "expected.icechunk")
    return local_contents(tmp_path / "expected.icechunk")


def history(target, branch="main"):
    return list(local_repository(target).ancestry(branch=branch))


def assert_staged(target, run_id):
    run = refreeze.status(target).runs[0]
    assert (run.run_id, run.state) == (run_id, "staged")
    assert run.batches_done == run.batches_total


def commit(target, change, message="foreign", branch="main"):
    """Let somebody else change a branch by the icechunk wheel."""
    session = local_repository(target).writable_session(branch)
    change(zarr.open_group(session.store, mode="a", zarr_format=3))
    return session.commit(message)


def test_staged_until_published(capsys, source, target, expected):
    """`--no-publish` shows readers nothing; `publish` shows them all; each says so."""
    refreeze.ingest(write_store(source.parent / "before.zarr"), target, target_group="before")
    before = state(local_repository(target))
    staged = cli(capsys, "ingest", source, target, "--no-publish")
    assert staged.code == 0
    now = state(local_repository(target))
    assert now["nodes"] == before["nodes"]
    assert now["branches"]["main"] == before["branches"]["main"]
    (staging,) = now["branches"].keys() - before["branches"].keys()
    run_id = staging.removeprefix("refreeze/")
    assert f"refreeze publish {target} --run {run_id}" in staged.out
    assert_staged(target, run_id)
    published = cli(capsys, "publish", target, "--json")
    assert published.code == 0, published.err
    assert published.document == {
        "target": str(target),
        "run_id": run_id,
        "branch": "main",
        "snapshot_id": history(target)[0].id,
        "rebased": False,
    }
    assert local_repository(target).list_branches() == {"main"}
    found = local_contents(target)
    assert {path: found[path] for path in expected if path != "/"} == {
        path: node for path, node in expected.items() if path != "/"
    }


@pytest.mark.parametrize("moment", [("commit", 3), ("check", 25)])
def test_a_foreign_commit_in_the_middle(source, target, moment, expected):
    """It is not lost, nor is the run: that is staged, and `publish --rebase` puts it on top."""
    foreign = []

    def interfere(event):
        if (event["stage"], event["commits"]) == moment:
            foreign.append(foreign_commit(target))

    with pytest.raises(ConflictError, match="main moved") as raised:
        refreeze.ingest(source, target, progress=interfere, **SMALL_COMMITS)
    assert "publish --rebase" in str(raised.value)
    assert "--restart" in str(raised.value)
    base = history(target)[-1].id
    assert [snapshot.id for snapshot in history(target)] == [*foreign, base]
    run = refreeze.status(target).runs[0]
    assert_staged(target, run.run_id)
    staged = history(target, f"refreeze/{run.run_id}")
    with pytest.raises(ConflictError):
        refreeze.publish(target)
    assert_staged(target, run.run_id)

    report = refreeze.publish(target, rebase=True)
    assert report.rebased
    assert report.run_id == run.run_id
    told = history(target)
    assert told[0].id == report.snapshot_id
    # Linear: the base, the foreign commit, then the run's commits again.
    assert [snapshot.id for snapshot in told[-2:]] == [*foreign, base]
    assert [snapshot.message for snapshot in told[:-2]] == [
        snapshot.message for snapshot in staged[:-1]
    ]
    assert [snapshot.metadata for snapshot in told[:-2]] == [s.metadata for s in staged[:-1]]
    assert {snapshot.id for snapshot in told[:-2]}.isdisjoint(s.id for s in staged[:-1])
    found = local_contents(target)
    assert "/theirs" in found
    assert {path: node for path, node in found.items() if path in expected and path != "/"} == {
        path: node for path, node in expected.items() if path != "/"
    }
    np.testing.assert_array_equal(group(local_repository(target))["theirs"][:], np.arange(5))
    assert local_repository(target).list_branches() == {"main"}
    assert refreeze.ingest(source, target).already_published


def test_exit_code_of_a_conflict(capsys, source, target):
    """The command line: 1, with both ways out; running it again says the same."""
    refreeze.ingest(source, target, no_publish=True)
    foreign_commit(target)
    for verb in (["ingest", source], ["publish"]):
        ended = cli(capsys, *verb, target, "--json")
        assert ended.code == 1
        error = ended.document["error"]
        assert error["type"] == "ConflictError"
        assert "--rebase" in error["hint"]
        assert "--restart" in error["hint"]
    ended = cli(capsys, "publish", target, "--rebase")
    assert ended.code == 0
    assert "on top of its new tip" in ended.out


def test_restart_after_a_conflict(source, target, expected):
    """The other way out: a new run on the new tip."""
    refreeze.ingest(source, target, no_publish=True)
    foreign_commit(target)
    report = refreeze.ingest(source, target, restart=True)
    assert history(target)[-2].message == "create theirs"
    assert history(target)[0].id == report.snapshot_id
    found = local_contents(target)
    assert {path: found[path] for path in expected if path != "/"} == {
        path: node for path, node in expected.items() if path != "/"
    }


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda root: root.create_array("hourly", shape=(3,), dtype="i4"), "/hourly"),
        (lambda root: root.create_array("time", shape=(3,), dtype="i4"), "/time"),
        # Regression: the array was left out in silence.
        (lambda root: root.create_group("hourly/below"), "/hourly"),
        (lambda root: root.create_array("nested", shape=(3,), dtype="i4"), "/nested"),
        (lambda root: root.create_array("nested/even", shape=(3,), dtype="i4"), "/nested/even"),
    ],
)
def test_no_rebase_onto_the_same_paths(source, target, change, path):
    """What somebody else created where the run has something is named and kept; the run stays staged."""
    report = refreeze.ingest(source, target, no_publish=True)
    tip = commit(target, change)
    before = local_contents(target)
    with pytest.raises(ConflictError, match=f"{path}(?![/a-z])") as raised:
        refreeze.publish(target, rebase=True)
    assert "--restart" in raised.value.hint
    assert local_repository(target).lookup_branch("main") == tip
    assert local_contents(target) == before
    assert_staged(target, report.run_id)


def test_no_rebase_without_the_parent_group(source, target):
    """A group that the run was to go into, and that somebody deleted meanwhile, is named."""
    refreeze.ingest(write_store(source.parent / "before.zarr"), target, target_group="home")
    report = refreeze.ingest(source, target, target_group="home/series", no_publish=True)

    def delete(root):
        del root["home"]

    commit(target, delete)
    with pytest.raises(ConflictError, match="/home"):
        refreeze.publish(target, rebase=True)
    assert_staged(target, report.run_id)


def test_rebase_onto_groups_that_were_created_meanwhile(source, target):
    """A group of both is no conflict: the attributes and members of the first one stay."""
    refreeze.ingest(source, target, no_publish=True)

    def create(root):
        root.attrs["title"] = "theirs"
        root.create_group("nested", attributes={"by": "them"}).create_array(
            "odd", data=np.arange(3)
        )

    commit(target, create)
    foreign_commit(target)
    refreeze.publish(target, rebase=True)
    root = group(local_repository(target))
    assert dict(root.attrs) == {"title": "theirs"}
    assert dict(root["nested"].attrs) == {"by": "them"}
    assert root["nested/odd"][:].tolist() == [0, 1, 2]
    assert (root["nested/even"][:] == zarr.open_group(source, mode="r")["nested/even"][:]).all()


def test_an_ordinary_repository_after_a_rebase(source, target, expected):
    """Further commits, diff, expiry and garbage collection by the wheel leave everything readable."""
    refreeze.ingest(source, target, no_publish=True, **SMALL_COMMITS)
    foreign = foreign_commit(target)
    snapshot = refreeze.publish(target, rebase=True).snapshot_id
    repository = local_repository(target)
    diff = repository.diff(from_snapshot_id=foreign, to_snapshot_id=snapshot)
    arrays = {"/hourly", "/nested/even", "/scalar", "/sparse", "/time"}
    assert diff.new_arrays == arrays
    assert {path: len(chunks) for path, chunks in diff.updated_chunks.items()} == {
        path: len(expected[path][1]) for path in arrays
    }

    def write(root):
        root["hourly"][3] = -1
        root.attrs["by"] = "hand"

    mine = commit(target, write, "by hand")
    later = datetime.now(UTC) + timedelta(seconds=1)
    foreseen = repository.garbage_collect(later, dry_run=True)
    collected = repository.garbage_collect(later)
    # The snapshots that were not published, and nothing that they share with those that were.
    assert foreseen.snapshots_deleted == collected.snapshots_deleted == 25
    assert foreseen.manifests_deleted == collected.manifests_deleted == 0
    repository.expire_snapshots(older_than=datetime.now(UTC))
    repository.garbage_collect(later)

    repository = local_repository(target)
    assert repository.lookup_branch("main") == mine
    root, original = group(repository), zarr.open_group(source, mode="r")
    for path in arrays - {"/hourly"}:
        assert (root[path][...] == original[path][...]).all(), path
    assert root["hourly"][3].tolist() == [-1] * 4
    assert (root["hourly"][4:] == original["hourly"][4:]).all()
    with pytest.raises(AlreadyExistsError):
        refreeze.ingest(write_series(source.parent / "again.zarr"), target)


def test_an_unfinished_run_is_not_published(source, target):
    """It is not complete, says how far it is, and stays."""
    run = kill_after(7, source, target, **SMALL_COMMITS)
    for options in ({}, {"rebase": True}, {"run": run.run_id}, {"run": f"refreeze/{run.run_id}"}):
        with pytest.raises(MismatchError, match="6 of 26 batches"):
            refreeze.publish(target, **options)
    assert refreeze.status(target).runs == (run,)
    assert nodes(local_repository(target)) == []


def test_several_staged_runs(tmp_path, source, target):
    """One has to be named; the second then needs a rebase."""
    one = refreeze.ingest(source, target, no_publish=True, target_group="one")
    two = refreeze.ingest(source, target, no_publish=True, target_group="two")
    with pytest.raises(MismatchError, match="several") as raised:
        refreeze.publish(target)
    assert one.run_id in raised.value.message
    assert two.run_id in raised.value.message
    assert "--run" in raised.value.hint
    with pytest.raises(TargetNotFoundError, match="nobody"):
        refreeze.publish(target, run="nobody")
    assert refreeze.publish(target, run=two.run_id).run_id == two.run_id
    with pytest.raises(ConflictError):
        refreeze.publish(target)
    assert refreeze.publish(target, rebase=True).run_id == one.run_id
    found = local_contents(target)
    mine, theirs = (
        {path.removeprefix(start): node for path, node in found.items() if path.startswith(start)}
        for start in ("/one/", "/two/")
    )
    assert mine == theirs
    assert len(mine) == 6


def test_an_unfinished_run_is_in_nobodys_way(source, target):
    """With one complete run and one that is not, the complete one is meant."""
    staged = refreeze.ingest(source, target, no_publish=True, target_group="one")
    run = kill_after(7, source, target, **SMALL_COMMITS)
    assert refreeze.publish(target).run_id == staged.run_id
    assert run in refreeze.status(target).runs


def test_nothing_to_publish(capsys, source, target):
    """No repository, or none with a staged run: TargetNotFoundError, and nothing is created."""
    with pytest.raises(TargetNotFoundError, match="there is no repository"):
        refreeze.publish(target)
    assert not target.exists()
    refreeze.ingest(source, target)
    with pytest.raises(TargetNotFoundError, match="no staged ingest"):
        refreeze.publish(target)
    ended = cli(capsys, "publish", target, "--json")
    assert ended.code == 1
    assert ended.document["error"]["type"] == "TargetNotFoundError"


def test_a_conflict_after_empty_batches(tmp_path, target):
    """Regression: a run whose last batches hold nothing counted as unfinished after a conflict."""
    source = tmp_path / "head.zarr"
    array = zarr.create_array(
        source, name="a", shape=(40,), chunks=(1,), dtype="i4", dimension_names=("time",)
    )
    array[:10] = np.arange(1, 11)

    def interfere(event):
        if event["stage"] == "check":
            foreign_commit(target)

    with pytest.raises(ConflictError):
        refreeze.ingest(source / "a", target, max_refs_per_commit=4, progress=interfere)
    assert_staged(target, refreeze.status(target).runs[0].run_id)
    refreeze.publish(target, rebase=True)
    assert group(local_repository(target))["a"][:12].tolist() == [*range(1, 11), 0, 0]


def test_a_branch_that_is_not_there_yet(source, target, expected):
    """Publishing creates it; when somebody else was quicker, that is a conflict too."""
    refreeze.ingest(source, target, branch="dev", no_publish=True)
    assert "dev" not in local_repository(target).list_branches()
    refreeze.publish(target)
    assert local_contents(target, "dev") == expected
    assert nodes(local_repository(target)) == []


def test_a_branch_that_somebody_else_created(source, target):
    """The new branch is kept, and the run goes on top of it."""
    refreeze.ingest(source, target, branch="dev", no_publish=True)
    repository = local_repository(target)
    repository.create_branch("dev", repository.lookup_branch("main"))
    foreign_commit(target, branch="dev")
    with pytest.raises(ConflictError, match="dev"):
        refreeze.publish(target)
    refreeze.publish(target, rebase=True)
    root = group(local_repository(target), "dev")
    assert {"theirs", "hourly"} <= set(root.array_keys())


def test_the_read_check_comes_before(tmp_path, target):
    """A chunk that cannot be read back: nothing is published, and the run stays staged."""
    source = write_store(tmp_path / "air.zarr")

    def spoil(event):
        if event["stage"] == "check":
            shutil.rmtree(source / "air" / "c")

    with pytest.raises(refreeze.exceptions.TargetError, match="/air") as raised:
        refreeze.ingest(source, target, progress=spoil)
    assert "nothing was published" in raised.value.hint
    assert nodes(local_repository(target)) == []
    assert_staged(target, refreeze.status(target).runs[0].run_id)
    write_store(source)
    refreeze.ingest(source, target, restart=True)
    assert (group(local_repository(target))["air"][:] == VALUES).all()


def test_a_repository_object_can_be_published(source, target, expected):
    """`publish` and `status` take what `ingest` takes."""
    refreeze.ingest(source, target, no_publish=True)
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    assert refreeze.status(repository).runs[0].state == "staged"
    refreeze.publish(repository.storage)
    assert local_contents(target) == expected


def publish_on_the_tip(target):
    """Publish in a process of its own, which the test kills."""
    refreeze.publish(target, rebase=True)


@pytest.mark.parametrize("repeated", [0, 1, 2, 7, 13, 19, 24, 25])
def test_killed_while_it_rebases(source, target, expected, repeated):
    """Killed when so many commits are made anew, main is as it was or complete; again ends well."""
    staged = refreeze.ingest(source, target, no_publish=True, **SMALL_COMMITS)
    foreign = foreign_commit(target)
    before = local_contents(target)
    snapshots = target / "snapshots"
    enough = len(list(snapshots.iterdir())) + repeated
    process = multiprocessing.get_context("forkserver").Process(
        target=publish_on_the_tip, args=(target,), daemon=True
    )
    process.start()
    while process.is_alive() and len(list(snapshots.iterdir())) < enough:
        pass
    process.kill()
    process.join()
    if process.exitcode == 0 or local_repository(target).lookup_branch("main") != foreign:
        # It was quicker: published, and at most its staging branch is left.
        assert {run.state for run in refreeze.status(target).runs} == {"published"}
        with pytest.raises(TargetNotFoundError, match="no staged ingest"):
            refreeze.publish(target, rebase=True)
    else:
        assert local_contents(target) == before
        assert_staged(target, staged.run_id)
        assert refreeze.publish(target, rebase=True).run_id == staged.run_id
    found = local_contents(target)
    assert found.pop("/theirs") == before["/theirs"]
    assert {path: found[path] for path in expected if path != "/"} == {
        path: node for path, node in expected.items() if path != "/"
    }
    assert local_repository(target).list_branches() == {"main"}
    # Neither the commits that were not finished nor those that were put aside are in the history.
    assert len(history(target)) == 25 + 2
    # What the kill has left is garbage to Icechunk.
    repository = local_repository(target)
    repository.garbage_collect(datetime.now(UTC) + timedelta(seconds=1))
    assert local_contents(target) == found | {"/theirs": before["/theirs"]}
    assert refreeze.ingest(source, target).already_published
