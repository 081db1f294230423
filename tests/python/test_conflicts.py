"""Others who write to the same repository: one wins, the other is told, and nothing is lost."""

import subprocess
import sys

import icechunk
import numpy as np
import pytest
import zarr

import refreeze
from refreeze.exceptions import ConflictError
from scenarios import (
    VALUES,
    command,
    group,
    local_repository,
    nodes,
    s3_repository,
    s3_storage,
    theirs,
    upload,
)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "air.icechunk"


def foreign_commit(repository, name="foreign"):
    session = repository.writable_session("main")
    zarr.create_array(session.store, name=name, data=np.arange(4))
    return session.commit(f"theirs: {name}")


def conflicting(source, target, repository, **options):
    """Ingest while somebody else commits to main; return the error and their snapshot."""
    foreign = []

    def meanwhile(event):
        if event["stage"] == "commit" and not foreign:
            foreign.append(foreign_commit(repository))

    with pytest.raises(ConflictError) as raised:
        refreeze.ingest(source, target, progress=meanwhile, **options)
    return raised.value, foreign[0]


def check_conflict(error, foreign, repository):
    branches = repository.list_branches()
    [staging] = [name for name in branches if name.startswith("refreeze/")]
    assert staging in error.message
    assert "main" in error.message
    assert "nothing was published" in error.message
    assert "--rebase" in error.hint
    assert "--restart" in error.hint
    assert repository.lookup_branch("main") == foreign
    assert "/foreign" in nodes(repository)
    assert "/air" not in nodes(repository)
    assert (group(repository)["foreign"][:] == np.arange(4)).all()
    # The work is kept, and complete.
    assert (group(repository, staging)["air"][:] == VALUES).all()


def test_a_foreign_commit_meanwhile(source, folder):
    """The branch moved: ConflictError, their commit stands, our work is kept and named."""
    repository = theirs(folder)
    error, foreign = conflicting(source, folder, repository)
    check_conflict(error, foreign, local_repository(folder))
    # The hint's advice works, onto the new tip.
    assert refreeze.publish(folder, rebase=True).rebased
    repository = local_repository(folder)
    assert {"/foreign", "/air", "/theirs"} <= set(nodes(repository))
    assert foreign in [snapshot.id for snapshot in repository.ancestry(branch="main")]


def test_a_foreign_commit_meanwhile_on_s3(s3_bucket, source):
    """The same, by conditional writes."""
    server, bucket = s3_bucket
    options = {"source_options": server.options, "target_options": server.options}
    repository = icechunk.Repository.create(s3_storage(server, bucket, "repo"))
    url = upload(server, bucket, source, "air.zarr")
    error, foreign = conflicting(url, f"s3://{bucket}/repo", repository, **options)
    check_conflict(error, foreign, s3_repository(server, bucket, "repo"))


def test_a_foreign_branch_of_the_same_name(source, folder):
    """A branch that the ingest wants to create and somebody else creates meanwhile is theirs."""

    def meanwhile(event):
        if event["stage"] == "commit":
            repository = local_repository(folder)
            if "new" not in repository.list_branches():
                repository.create_branch("new", repository.lookup_branch("main"))

    with pytest.raises(ConflictError):
        refreeze.ingest(source, folder, branch="new", progress=meanwhile)
    assert nodes(local_repository(folder), "new") == []


HOLD = """
import sys, time
import refreeze

def hold(event):
    if event["stage"] == "commit":
        print("holding", flush=True)
        sys.stdin.readline()

report = refreeze.ingest(sys.argv[1], sys.argv[2], progress=hold)
print(report.snapshot_id, flush=True)
"""


@pytest.mark.parametrize("as_storage", [False, True])
def test_two_processes_on_one_folder(source, folder, as_storage):
    """One wins and the other gets ConflictError at once; nothing is lost, and the lock ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(source), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as winner:
        assert winner.stdout.readline() == "holding\n"
        target = icechunk.local_filesystem_storage(str(folder)) if as_storage else folder
        with pytest.raises(ConflictError, match="another process") as raised:
            refreeze.ingest(source, target, target_group="second")
        assert str(folder) in raised.value.message
        assert raised.value.hint
        out, _ = winner.communicate("\n")
        assert winner.returncode == 0
    repository = local_repository(folder)
    assert repository.lookup_branch("main") == out.splitlines()[-1]
    refreeze.ingest(source, folder, target_group="second")
    assert {"/air", "/second/air"} <= set(nodes(repository))


def test_processes_at_once(source, folder):
    """Started together: each says that it won or that it lost, and the winners' arrays are there."""
    running = [
        subprocess.Popen(
            command("ingest", source, folder, "--target-group", f"g{number}", "--quiet"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    results = [(process.communicate()[1], process.returncode) for process in running]
    won = [number for number, (_, code) in enumerate(results) if code == 0]
    for said, code in results:
        assert code == 0 or (code == 1 and "another process" in said), said
    assert won
    repository = local_repository(folder)
    assert {f"/g{number}/air" for number in won} <= set(nodes(repository))
    assert repository.list_branches() == {"main"}
