"""Ingests whose listing and writing threads or spawned processes do."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import refreeze
from crews_for_tests import SMALL, log_chunks, references
from refreeze.distributed.processes import ProcessCrew
from refreeze.exceptions import RefreezeError


def check(report: Any, target: Path, by_one_process: Path) -> None:
    assert report.published
    assert references(target) == references(by_one_process)
    assert log_chunks(target) == log_chunks(by_one_process)
    assert not list(target.glob("refreeze/**/*.json"))


def test_threads_make_what_one_process_makes(
    tmp_path: Path, many_chunks: Path, by_one_process: Path
) -> None:
    """Any executor of concurrent.futures does the work."""
    target = tmp_path / "t.icechunk"
    with ThreadPoolExecutor(3) as executor:
        report = refreeze.ingest(str(many_chunks), str(target), executor=executor, **SMALL)
    check(report, target, by_one_process)


def test_spawned_processes_of_the_caller(
    tmp_path: Path, many_chunks: Path, by_one_process: Path
) -> None:
    """A pool of spawned processes does the work."""
    target = tmp_path / "t.icechunk"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        report = refreeze.ingest(str(many_chunks), str(target), executor=executor, **SMALL)
    check(report, target, by_one_process)


def test_workers_that_are_killed_are_replaced(
    tmp_path: Path, many_chunks: Path, by_one_process: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL of workers, several times, changes nothing in the result."""
    target = tmp_path / "t.icechunk"
    kills = []
    arrived = ProcessCrew.arrived

    def killing(crew: ProcessCrew) -> list[str]:
        if len(kills) < 4:
            for process in list(crew._executor._processes.values())[:1]:
                os.kill(process.pid, signal.SIGKILL)
                kills.append(process.pid)
        return arrived(crew)

    monkeypatch.setattr(ProcessCrew, "arrived", killing)
    report = refreeze.ingest(str(many_chunks), str(target), workers=2, **SMALL)
    assert len(kills) == 4
    check(report, target, by_one_process)


def test_workers_end_with_their_coordinator(
    tmp_path: Path, many_chunks: Path, by_one_process: Path
) -> None:
    """A killed coordinator leaves no process; the same command resumes with what is there."""
    target = tmp_path / "t.icechunk"
    pids = tmp_path / "pids"
    program = f"""
import os, pathlib, signal, refreeze
from refreeze.distributed.processes import ProcessCrew
arrived = ProcessCrew.arrived
if __name__ == "__main__":
    def killed(crew):
        texts = arrived(crew)
        if texts:
            pids = [str(pid) for pid in crew._executor._processes]
            pathlib.Path({str(pids)!r}).write_text(" ".join(pids))
            os.kill(os.getpid(), signal.SIGKILL)
        return texts
    ProcessCrew.arrived = killed
    refreeze.ingest({str(many_chunks)!r}, {str(target)!r}, workers=2, **{SMALL!r})
"""
    script = tmp_path / "coordinator.py"
    script.write_text(program)
    ended = subprocess.run([sys.executable, str(script)], check=False, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    left = [int(pid) for pid in pids.read_text().split()]
    for _ in range(100):
        left = [pid for pid in left if Path(f"/proc/{pid}").exists() and _is_alive(pid)]
        if not left:
            break
        time.sleep(0.1)
    assert not left
    assert list(target.glob("refreeze/**/*.json"))
    report = refreeze.ingest(str(many_chunks), str(target), workers=2, **SMALL)
    check(report, target, by_one_process)


def _is_alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_what_cannot_work_is_refused(tmp_path: Path, many_chunks: Path) -> None:
    """Forked pools, classes and things that are no executor, with the line that works."""

    class DaskDelayedExecutor:
        def submit(self) -> None: ...

    target = str(tmp_path / "t.icechunk")
    fork = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
    for executor, match in (
        (fork, "spawn"),
        (DaskDelayedExecutor(), r"client=distributed\.Client"),
        (object(), "Executor"),
        (ThreadPoolExecutor, "Executor"),
    ):
        with pytest.raises(TypeError, match=match):
            refreeze.ingest(str(many_chunks), target, executor=executor)
    with pytest.raises(ValueError, match="at least 1"):
        refreeze.ingest(str(many_chunks), target, workers=0)
    closed = ThreadPoolExecutor(1)
    closed.shutdown()
    with pytest.raises(RefreezeError, match="nothing is lost"):
        refreeze.ingest(str(many_chunks), target, executor=closed)


def test_an_error_of_a_worker_keeps_its_class(tmp_path: Path, many_chunks: Path) -> None:
    """What a worker raises is raised by ingest."""
    (many_chunks / "air" / "c" / "7" / "0").write_bytes(b"")
    with (
        ThreadPoolExecutor(2) as executor,
        pytest.raises(refreeze.exceptions.UnsupportedArrayError, match="c/7/0"),
    ):
        refreeze.ingest(str(many_chunks), str(tmp_path / "t.icechunk"), executor=executor, **SMALL)
