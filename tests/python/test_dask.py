"""Ingests whose listing and writing a Dask cluster does: workers that are killed, that never come, that are strangers."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import pytest

import refreeze
from refreeze.distributed.dask_crew import DaskCrew
from refreeze.exceptions import MismatchError, RefreezeError
from test_batch_queue import SMALL, references, store_of
from test_crews import check


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.LocalCluster]:
    """Three worker processes, which a nanny replaces when they die."""
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: distributed.LocalCluster) -> Iterator[distributed.Client]:
    with distributed.Client(cluster) as client:
        client.wait_for_workers(1, timeout=60)
        yield client


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return store_of(tmp_path)


@pytest.fixture
def reference(tmp_path: Path, source: Path) -> Path:
    refreeze.ingest(str(source), str(tmp_path / "one.icechunk"))
    return tmp_path / "one.icechunk"


def pids(client: distributed.Client) -> list[int]:
    """Return the processes of the workers."""
    return list(client.run(os.getpid).values())


def test_a_cluster_makes_what_one_process_makes(
    tmp_path: Path, source: Path, reference: Path, client: distributed.Client
) -> None:
    """The workers of a Dask cluster list and write; their results do not stay on the cluster."""
    target = tmp_path / "t.icechunk"
    report = refreeze.ingest(str(source), str(target), client=client, **SMALL)
    check(report, target, reference)
    assert not client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks))


def test_workers_that_are_killed_change_nothing(
    tmp_path: Path,
    source: Path,
    reference: Path,
    client: distributed.Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SIGKILL of workers, several times, changes nothing in the result."""
    target = tmp_path / "t.icechunk"
    kills: list[int] = []
    arrived = DaskCrew.arrived

    def killing(crew: DaskCrew) -> list[str]:
        if len(kills) < 5 and (alive := client.scheduler_info()["workers"]):
            victim = next(iter(alive))
            pid = client.run(os.getpid, workers=[victim], on_error="return")[victim]
            if isinstance(pid, int):
                os.kill(pid, signal.SIGKILL)
                kills.append(pid)
        return arrived(crew)

    monkeypatch.setattr(DaskCrew, "arrived", killing)
    report = refreeze.ingest(str(source), str(target), client=client, **SMALL)
    assert len(kills) == 5
    check(report, target, reference)
