"""Stopping an ingest at any time: quick, said plainly, and without a trace on ``main``."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import zarr

import refreeze
from scenarios import PROMPTLY, command, group, local_repository, nodes, state

CHUNKS = 500
"""Each makes a commit when one reference is enough for one: that takes many seconds in all."""
VALUES = np.arange(1, CHUNKS + 1)


@pytest.fixture(scope="module")
def many_chunks(tmp_path_factory):
    """Write a store of many small chunks."""
    source = tmp_path_factory.mktemp("interruption") / "many.zarr"
    root = zarr.open_group(source, mode="w", zarr_format=3)
    root.create_array("x", data=VALUES, chunks=(1,), compressors=None)
    return source


def staging(folder):
    """Return the staging branches of a repository, none while it is not there yet."""
    if not (folder / "repo").exists():
        return []
    branches = local_repository(folder).list_branches()
    return [name for name in branches if name.startswith("refreeze/")]


def start(source, target, *options, references_per_commit=1):
    return subprocess.Popen(
        command("ingest", source, target, "--max-refs-per-commit", references_per_commit, *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_staging(process, target, commits=1):
    """Wait until the ingest has committed something on its staging branch."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        found = staging(target)
        if found:
            repository = local_repository(target)
            done = len(list(repository.ancestry(snapshot_id=repository.lookup_branch(found[0]))))
            if done > commits:
                return
        time.sleep(0.05)
    raise AssertionError("nothing was staged in a minute")


def assert_readable(target):
    assert (group(local_repository(target))["x"][:] == VALUES).all()


@pytest.mark.parametrize(
    ("number", "code", "word", "as_json"),
    [(signal.SIGINT, 130, "interrupted", False), (signal.SIGTERM, 143, "terminated", True)],
)
def test_signals(tmp_path, many_chunks, number, code, word, as_json):  # noqa: PLR0917 cases
    """Within two seconds: the exit code, one line, no traceback, main empty, the work kept."""
    target = tmp_path / "repo"
    process = start(many_chunks, target, *(["--json"] if as_json else []))
    wait_for_staging(process, target)
    sent = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    took = time.monotonic() - sent
    assert process.returncode == code, err
    assert took < PROMPTLY, took
    assert err.splitlines() == [
        f"error: {word}: nothing was published; run the same command again to resume"
    ]
    assert ('"hint": "nothing was published' in out) == as_json
    (run,) = refreeze.status(target).runs
    assert (run.state, run.locked, run.batches_total) == ("unfinished", False, CHUNKS)
    now = state(local_repository(target))
    assert now["nodes"] == []
    assert set(now["branches"]) == {"main", f"refreeze/{run.run_id}"}
    report = refreeze.ingest(many_chunks, target)
    assert report.run_id == run.run_id
    assert report.resumed_batches == run.batches_done > 0
    assert_readable(target)


def test_a_signal_leaves_what_was_there(tmp_path, many_chunks):
    """An earlier ingest is on main before and after; the same command then ends right."""
    target = tmp_path / "repo"
    refreeze.ingest(many_chunks, target, target_group="before")
    before = state(local_repository(target))
    process = start(many_chunks, target)
    wait_for_staging(process, target)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    now = state(local_repository(target))
    assert now["nodes"] == before["nodes"]
    assert now["branches"]["main"] == before["branches"]["main"]
    again = start(many_chunks, target, "--quiet", references_per_commit=CHUNKS)
    out, err = again.communicate(timeout=60)
    assert again.returncode == 0, err
    assert err == ""
    assert out.startswith("Ingested")
    assert_readable(target)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_metadata_is_read(tmp_path, number):
    """Before the core is at work, a source that does not answer is given up as quickly."""
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        process = subprocess.Popen(
            command("ingest", "s3://bucket/air.zarr", tmp_path / "repo"),
            env={
                **os.environ,
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
                "AWS_ALLOW_HTTP": "true",
                "AWS_ACCESS_KEY_ID": "x",
                "AWS_SECRET_ACCESS_KEY": "x",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        silent.settimeout(60)
        connection, _ = silent.accept()
        with connection:
            sent = time.monotonic()
            process.send_signal(number)
            _, err = process.communicate(timeout=30)
            took = time.monotonic() - sent
    assert process.returncode == 128 + number, err
    assert "Traceback" not in err
    assert took < PROMPTLY, took
    assert not (tmp_path / "repo").exists()


def test_ctrl_c_in_python(tmp_path, many_chunks):
    """`refreeze.ingest` raises KeyboardInterrupt within a second, and the process can go on."""
    target = tmp_path / "repo"
    sent = []

    def interrupt(event):
        if event["commits"] >= 3 and not sent:
            sent.append(time.monotonic())
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        refreeze.ingest(many_chunks, target, max_refs_per_commit=1, progress=interrupt)
    assert time.monotonic() - sent[0] < PROMPTLY
    assert nodes(local_repository(target)) == []
    assert refreeze.ingest(many_chunks, target).resumed_batches >= 2
    assert_readable(target)


def test_an_interruption_while_publishing(tmp_path, many_chunks):
    """Regression: it said that nothing was published when it was. Now the publish is waited for."""
    target = tmp_path / "repo"
    code = """
import os, signal, sys
import refreeze

def interrupt(event):
    if event["stage"] == "publish":
        os.kill(os.getpid(), signal.SIGINT)
        import time; time.sleep(0.5)

try:
    refreeze.ingest(sys.argv[1], sys.argv[2], progress=interrupt)
except KeyboardInterrupt:
    print("interrupted")
"""
    arguments = [sys.executable, "-c", code, str(many_chunks), str(target)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout == "interrupted\n"
    repository = local_repository(target)
    assert repository.list_branches() == {"main"}
    assert_readable(target)


def test_kill_at_any_instant(tmp_path, many_chunks):
    """SIGKILL of the command leaves main as it was; see test_kill.py for the rest."""
    target = tmp_path / "repo"
    refreeze.ingest(many_chunks, target, target_group="before")
    before = state(local_repository(target))
    pause = random.Random(3)  # noqa: S311 instants, not secrets
    for commits in (0, 4):
        process = start(many_chunks, target)
        if commits:
            wait_for_staging(process, target, commits)
        time.sleep(pause.uniform(0, 0.7))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        now = state(local_repository(target))
        assert now["nodes"] == before["nodes"]
        assert now["branches"]["main"] == before["branches"]["main"]
    # The lock went with the process.
    report = refreeze.ingest(many_chunks, target)
    assert report.resumed_batches >= 3
    assert report.references_written == CHUNKS
    assert_readable(target)
    assert (group(local_repository(target))["before/x"][:] == VALUES).all()
