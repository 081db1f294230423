"""Ingests whose listing and writing a Dask cluster does: workers that are killed, that never come, that are strangers."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dask
import distributed
import pytest

import refreeze
from crews_for_tests import SMALL
from refreeze.distributed.dask_crew import DaskCrew
from refreeze.exceptions import RefreezeError
from test_crews import check


@pytest.fixture(scope="module", autouse=True)
def settings_of_dask() -> Iterator[None]:
    """Put dask's settings back: a client that is closed out of order leaves itself as everyone's scheduler."""
    before = dict(dask.config.config)
    yield
    dask.config.config.clear()
    dask.config.config.update(before)


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.LocalCluster]:
    """Three worker processes, which a nanny replaces when they die."""
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: distributed.LocalCluster) -> Iterator[distributed.Client]:
    with distributed.Client(cluster) as client:
        client.wait_for_workers(1, timeout=60)
        yield client


def pids(cluster: distributed.LocalCluster) -> list[int]:
    """Return the processes of the workers, which their nannies know: no worker is asked."""
    nannies = [nanny for nanny in cluster.workers.values() if nanny.process is not None]
    found = [nanny.process.pid for nanny in nannies if nanny.process.is_alive()]
    return [pid for pid in found if pid is not None]


def test_a_cluster_makes_what_one_process_makes(
    tmp_path: Path, many_chunks: Path, by_one_process: Path, client: distributed.Client
) -> None:
    """The workers of a Dask cluster list and write; their results do not stay on the cluster."""
    target = tmp_path / "t.icechunk"
    report = refreeze.ingest(str(many_chunks), str(target), client=client, **SMALL)
    check(report, target, by_one_process)
    assert not client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks))


def test_workers_that_are_killed_change_nothing(
    tmp_path: Path,
    many_chunks: Path,
    by_one_process: Path,
    client: distributed.Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SIGKILL of workers, several times, changes nothing in the result."""
    target = tmp_path / "t.icechunk"
    kills: list[int] = []
    arrived = DaskCrew.arrived

    def killing(crew: DaskCrew) -> list[str]:
        if len(kills) < 5 and (alive := pids(client.cluster)):
            os.kill(alive[0], signal.SIGKILL)
            kills.append(alive[0])
        return arrived(crew)

    monkeypatch.setattr(DaskCrew, "arrived", killing)
    report = refreeze.ingest(str(many_chunks), str(target), client=client, **SMALL)
    assert len(kills) == 5
    check(report, target, by_one_process)


def test_a_coordinator_that_is_killed_is_followed_by_another(
    tmp_path: Path,
    many_chunks: Path,
    by_one_process: Path,
    cluster: distributed.LocalCluster,
    client: distributed.Client,
) -> None:
    """The same ingest again, on a cluster or not, takes the results that are there."""
    target = tmp_path / "t.icechunk"
    program = f"""
import os, signal, distributed, refreeze
from refreeze.distributed.dask_crew import DaskCrew
arrived = DaskCrew.arrived
def killed(crew):
    texts = arrived(crew)
    if texts:
        os.kill(os.getpid(), signal.SIGKILL)
    return texts
DaskCrew.arrived = killed
client = distributed.Client({cluster.scheduler_address!r})
refreeze.ingest({str(many_chunks)!r}, {str(target)!r}, client=client, **{SMALL!r})
"""
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert list(target.glob("refreeze/**/*.json"))
    report = refreeze.ingest(str(many_chunks), str(target), client=client, **SMALL)
    check(report, target, by_one_process)


def test_verify_and_sync_on_a_cluster(
    tmp_path: Path, many_chunks: Path, client: distributed.Client
) -> None:
    """The other verbs find and mend the same as in one process."""
    import zarr

    target = tmp_path / "t.icechunk"
    refreeze.ingest(str(many_chunks), str(target), **SMALL)
    array = zarr.open_group(many_chunks, mode="a")["sparse"]
    array[10:14] = 3
    (many_chunks / "air" / "c" / "7" / "0").unlink()
    alone = refreeze.verify(str(many_chunks), str(target))
    together = refreeze.verify(str(many_chunks), str(target), client=client)
    assert not together.equal
    assert (together.kinds, together.checked) == (alone.kinds, alone.checked)
    assert {str(one) for one in together.examples} == {str(one) for one in alone.examples}
    report = refreeze.sync(str(many_chunks), str(target), client=client, max_refs_per_commit=10)
    assert (report.added, report.removed) == (4, 1)
    assert refreeze.verify(str(many_chunks), str(target), client=client, sample=20).equal


def test_a_cluster_without_workers(tmp_path: Path, many_chunks: Path) -> None:
    """Nobody comes within the time: an error that says what to do, and nothing is lost."""
    target = str(tmp_path / "t.icechunk")
    with (
        distributed.LocalCluster(
            n_workers=0, dashboard_address=":0", silence_logs=logging.CRITICAL
        ) as empty,
        distributed.Client(empty) as client,
    ):
        with pytest.raises(RefreezeError, match=r"no Dask worker.*within 0.5 seconds"):
            refreeze.ingest(str(many_chunks), target, client=client, wait_for_workers=0.5)
        client.close()
        with pytest.raises(RefreezeError, match="client is closed"):
            refreeze.ingest(str(many_chunks), target, client=client)
    assert refreeze.ingest(str(many_chunks), target).published
