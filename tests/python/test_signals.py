"""SIGINT and SIGTERM at any instant of a command: the exit code, one line, and nothing else."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import zarr

import refreeze
from scenarios import command, local_repository

CHUNKS = 400
SIGNALS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}
VERBS = ("help", "status", "list", "list-table", "plan", "ingest")

HOOK = """
import _signal, os, sys

seen = []
number = int(os.environ.get("TEST_SIGNAL", "0"))
instant = int(os.environ.get("TEST_INSTANT", "-1"))

def hook(event, arguments):
    # Once its handlers stand the first lines of the program are done.
    if event != "import" or _signal.getsignal(_signal.SIGTERM) == _signal.SIG_DFL:
        return
    if len(seen) == instant:
        os.kill(os.getpid(), number)
    seen.append(arguments[0])
    if "TEST_RECORD" in os.environ:
        with open(os.environ["TEST_RECORD"], "a") as record:
            record.write(arguments[0] + chr(10))

sys.addaudithook(hook)
"""
"""Sends the process that imports it a signal when it imports its n-th module."""


class Commands:
    """Command lines of all verbs, on a small store and a repository of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "many.zarr"
        self.targets = 0
        root = zarr.open_group(self.source, mode="w", zarr_format=2)
        root.create_array("x", shape=(CHUNKS,), chunks=(1,), dtype="i4")[:] = 1
        self.repository = folder / "repository"
        refreeze.ingest(self.source, self.repository)
        self.hook = folder / "hook"
        self.hook.mkdir()
        (self.hook / "sitecustomize.py").write_text(HOOK)

    def line(self, verb: str, *options: str) -> list[str]:
        self.targets += 1
        table = self.folder / f"table{self.targets}.parquet"
        target = self.folder / f"target{self.targets}"
        arguments = {
            "help": ["ingest", "--help"],
            "status": ["status", self.repository],
            "list": ["list", self.source / "x"],
            "list-table": ["list", self.source / "x", "--output", table],
            "plan": ["plan", self.source],
            "ingest": ["ingest", self.source, target, "--max-refs-per-commit", 40],
        }
        return command(*arguments[verb], *options)


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    return Commands(tmp_path_factory.mktemp("signals"))


def assert_interrupted_or_done(number, code, out, err):
    """Check that there is the signal's exit code, one line and no result; or the whole result and exit 0."""
    if code == 0:
        assert out.endswith("\n")
        assert err == ""
        return
    expected, word = SIGNALS[number]
    assert code == expected, (code, err)
    assert err.startswith(f"error: {word}: "), err
    assert err.count("\n") == 1, err
    # Help is printed piece by piece, by the library that makes it.
    assert out == "" or out.startswith("Usage: ")


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "list"])
def test_while_something_is_imported(commands, tmp_path, verb):
    """Regression: tracebacks of imports; a process that aborted where numpy was imported for a batch."""
    record = tmp_path / "record"
    environment = {**os.environ, "PYTHONPATH": str(commands.hook)}
    subprocess.run(
        commands.line(verb),
        env={**environment, "TEST_RECORD": str(record)},
        check=True,
        capture_output=True,
    )
    modules = record.read_text().splitlines()
    instants = random.Random(verb).sample(range(len(modules)), 4)  # noqa: S311 instants, not secrets
    # The worst places: native code that imports, and cannot pass on what is raised in it.
    worst = {"numpy", "numpy._core.multiarray", "arro3.core", "refreeze._refreeze"}
    instants += [at for at, module in enumerate(modules) if module in worst]
    codes = []
    for turn, instant in enumerate(instants):
        number = list(SIGNALS)[turn % 2]
        process = subprocess.run(
            commands.line(verb),
            env={**environment, "TEST_SIGNAL": str(int(number)), "TEST_INSTANT": str(instant)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        said = (process.stdout, process.stderr)
        assert_interrupted_or_done(number, process.returncode, *said)
        codes.append(process.returncode)
    # Late instants may find the result being printed.
    # To print help is all of its work: that is finished.
    assert verb == "help" or max(codes) > 128


@contextmanager
def busy_loops(count=2):
    """Keep processors busy, so that all else takes its time."""
    with ExitStack() as running:
        for _ in range(count):
            loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            running.callback(loop.wait)
            running.callback(loop.kill)
        yield


def wait_for_first_line(process):
    """Wait until the command listens to SIGTERM, which Python by itself does not."""
    if not Path("/proc/self/status").exists():
        time.sleep(0.3)
        return
    listens = 1 << (signal.SIGTERM - 1)
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
        if int(caught.split()[1], 16) & listens:
            return
        time.sleep(0.001)


@pytest.mark.parametrize("verb", VERBS)
def test_at_random_instants_on_a_busy_machine(commands, verb):
    """From the first line to the last: interrupted in one line, or all of the result and exit 0."""
    instants = random.Random(f"{verb} busy")  # noqa: S311 as above
    with busy_loops():
        for turn in range(4):
            number = list(SIGNALS)[turn % 2]
            process = subprocess.Popen(
                commands.line(verb), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            wait_for_first_line(process)
            time.sleep(instants.uniform(0, 1.2) if turn else 0)
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
            assert_interrupted_or_done(number, process.returncode, out, err)


@pytest.mark.parametrize("number", list(SIGNALS))
def test_json_stays_one_document(commands, number):
    """With ``--json`` an interruption before any work is a document on stdout, too."""
    process = subprocess.Popen(
        commands.line("plan", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for_first_line(process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    code, word = SIGNALS[number]
    assert process.returncode == code
    assert err.count("\n") == 1
    assert json.loads(out)["error"]["message"] == word


def test_a_file_whose_writer_does_not_stop(tmp_path):
    """Regression: on a busy machine an unfinished table was left, because its writer had no time to remove it."""
    deaf = """
from pathlib import Path
from time import sleep
from refreeze.runtime import command
from refreeze.runtime.output import whole_or_absent

def main():
    command.begin(lambda: "a hint")
    with whole_or_absent(Path("table.csv")) as unfinished:
        unfinished.write_text("half")
        print("writing", flush=True)
        sleep(60)

command.run(main)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", deaf], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert list(tmp_path.iterdir()) == []


def test_what_the_command_leaves(commands):
    """A table that was being written leaves no unfinished file; a signal that is ignored stays so."""
    line = commands.line("list-table")
    ignoring = subprocess.run(
        ["/bin/sh", "-c", 'trap "" INT; "$@" & sleep 0.2; kill -INT $!; wait $!', "sh", *line],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ignoring.returncode == 0, ignoring.stderr
    assert not list(commands.folder.glob("*.unfinished"))
    assert not list(commands.folder.glob(".*.unfinished"))


def test_a_result_that_cannot_be_written():
    """One line and exit 1, where the interpreter's end printed an exception and gave 120."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command("--help"), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write the result: ")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_has_had_enough(commands):
    """Regression: `refreeze ... | head` ended with an internal error. A full disk is named."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        commands.line("status"), stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
    if Path("/dev/full").exists():
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                commands.line("status"), stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert done.returncode == 1
        assert done.stderr.startswith("error: cannot write the result: ")


def test_published_all_the_same(commands):
    """An ingest that is run again after an interruption holds everything."""
    target = commands.folder / "again"
    line = command("ingest", commands.source, target, "--max-refs-per-commit", 40)
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_first_line(process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert subprocess.run(line, check=False, capture_output=True).returncode == 0
    session = local_repository(target).readonly_session("main")
    assert (zarr.open_group(session.store, mode="r")["x"][:] == 1).all()
