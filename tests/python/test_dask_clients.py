"""A Dask client's view of an ingest: its tasks' names, its executor, progress, workers that come and go, and no secret."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import pytest

import refreeze
from refreeze.distributed.dask_crew import DaskCrew
from s3_server import S3Server, run_s3_server
from scenarios import upload
from test_batch_queue import SMALL, references, store_of
from test_dask import settings_of_dask  # noqa: F401 used by every test

KEY = "AKIADASKSCHEDULER"
SECRET = "h1ddenFrom/TheScheduler+9876543210"


class Recorder(distributed.SchedulerPlugin):
    """Notes what a scheduler knows of its tasks, at each of their transitions."""

    def __init__(self, scheduler: distributed.Scheduler) -> None:
        self.scheduler = scheduler
        self.keys: set[str] = set()
        self.shown: set[str] = set()
        self.pickles: set[bytes] = set()

    def transition(self, key: Any, *states: Any, **found: Any) -> None:
        """Take a change of a task."""
        self.keys.add(str(key))
        self.shown.add(repr((key, states, found)))
        task = self.scheduler.tasks.get(key)
        if task is not None:
            self.shown |= {repr(task), repr(task.run_spec), repr(task.annotations)}
            self.shown.add(repr(task.exception_text) + repr(task.traceback_text))
            self.pickles.add(pickle.dumps(task.run_spec))


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    """Return a server whose secrets cannot be met by accident; it outlives the workers."""
    with run_s3_server(access_key_id=KEY, secret_access_key=SECRET) as server:
        yield server


@pytest.fixture
def client() -> Iterator[distributed.Client]:
    """Return a client of two workers that are threads of this process, over a plain TCP connection."""
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=False,
            protocol="tcp",
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.wait_for_workers(2, timeout=120)
        yield client


@pytest.fixture
def recorder(client: distributed.Client) -> Recorder:
    """Note what the scheduler of this process does."""
    scheduler = client.cluster.scheduler
    recorder = Recorder(scheduler)
    client.loop.add_callback(scheduler.add_plugin, recorder, name="recorder")
    while "recorder" not in scheduler.plugins:
        time.sleep(0.01)
    return recorder


def test_tasks_say_array_and_range_and_progress_is_told(
    tmp_path: Path, client: distributed.Client, recorder: Recorder
) -> None:
    """The dashboard shows names of tasks; `progress` is called with growing figures."""
    source, target = store_of(tmp_path), tmp_path / "t.icechunk"
    events: list[dict[str, Any]] = []
    report = refreeze.ingest(
        str(source),
        str(target),
        client=client,
        progress=events.append,
        **SMALL,
    )
    assert report.published
    names = {key.split("-")[0] for key in recorder.keys}
    assert any(name.startswith("refreeze air 0:") for name in names), names
    assert any(name.startswith("refreeze sparse ") for name in names), names
    assert events[-1]["references_written"] == report.references_written
    assert [event["commits"] for event in events] == sorted(event["commits"] for event in events)
    recorder.keys.clear()
    assert refreeze.verify(str(source), str(target), client=client).equal
    assert all(key.startswith("refreeze ") for key in recorder.keys)
    assert recorder.keys


def test_the_executor_of_a_client(
    tmp_path: Path, client: distributed.Client, recorder: Recorder
) -> None:
    """`client.get_executor()` is an executor like any other, and its workers are the client's."""
    source, target = store_of(tmp_path), tmp_path / "t.icechunk"
    worker = next(iter(client.scheduler_info()["workers"]))
    with client.get_executor(workers=[worker]) as executor:
        report = refreeze.ingest(str(source), str(target), executor=executor, **SMALL)
    assert report.published
    assert any(key.startswith("refreeze air ") for key in recorder.keys)
    refreeze.ingest(str(source), str(tmp_path / "whole.icechunk"))
    assert references(target) == references(tmp_path / "whole.icechunk")


def test_workers_that_join_and_leave(
    tmp_path: Path, client: distributed.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that were there at the beginning leave, others come; the result is that of one process."""
    source, target = store_of(tmp_path), tmp_path / "t.icechunk"
    first = list(client.scheduler_info()["workers"])
    steps = iter(
        [
            lambda: client.cluster.scale(3),
            lambda: client.retire_workers(first[:1]),
            lambda: client.retire_workers(first[1:]),
        ]
    )
    arrived = DaskCrew.arrived

    def changing(crew: DaskCrew) -> list[str]:
        results = arrived(crew)
        if results:
            next(steps, lambda: None)()
        return results

    monkeypatch.setattr(DaskCrew, "arrived", changing)
    report = refreeze.ingest(str(source), str(target), client=client, **SMALL)
    assert report.published
    assert not set(first) & set(client.scheduler_info()["workers"])
    refreeze.ingest(str(source), str(tmp_path / "whole.icechunk"))
    assert references(target) == references(tmp_path / "whole.icechunk")


def test_no_secret_is_shown_anywhere(
    tmp_path: Path,
    server: S3Server,
    client: distributed.Client,
    recorder: Recorder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Secrets are in the pickle of one argument; not in keys, events, logs, errors or the target."""
    caplog.set_level(logging.DEBUG)
    local = store_of(tmp_path)
    (tmp_path / "bad").mkdir()
    bad = store_of(tmp_path / "bad")
    (bad / "air" / "c" / "7" / "0").write_bytes(b"")
    said = []
    bucket = server.new_bucket()
    options = {"source_options": server.options, "target_options": server.options} | SMALL
    good_url, bad_url = (
        upload(server, bucket, folder, name) for folder, name in ((local, "a"), (bad, "b"))
    )
    target = f"s3://{bucket}/t"
    report = refreeze.ingest(good_url, target, client=client, **options)
    with pytest.raises(refreeze.exceptions.UnsupportedArrayError) as raised:
        refreeze.ingest(bad_url, f"s3://{bucket}/u", client=client, **options)
    said += [repr(report), str(report.to_dict()), repr(raised.value), str(raised.value)]
    files = [file.read_bytes() for file in server.root.rglob("*") if file.is_file()]
    (warning,) = [one for one in report.warnings if "credentials" in one]
    assert "tcp://" in warning
    assert report.published
    logs = (client.get_worker_logs(n=10_000), client.get_scheduler_logs(n=10_000))
    events = client.run_on_scheduler(lambda dask_scheduler: repr(dask_scheduler.get_events()))
    log = client.run_on_scheduler(lambda dask_scheduler: repr(dask_scheduler.transition_log))
    said += [repr(logs), events, log, caplog.text, *recorder.keys, *recorder.shown]
    # Shown is something, and a failed task with its arguments among it.
    assert "Compute Failed" in repr(logs)
    assert any("eval" in text for text in recorder.shown)
    for text in said:
        assert SECRET not in text
        assert SECRET[:12] not in text
    assert not any(SECRET.encode() in data for data in files)
    # What the search would find: the argument itself, as the documentation says.
    assert any(SECRET.encode() in data for data in recorder.pickles)


def test_plain_documents_hold_no_secret(tmp_path: Path, server: S3Server) -> None:
    """Plan, units and results of a batch queue are plain files, and so is what is said at debug level."""
    from refreeze.verbs.batch_queue import begin, commit, work

    local, run = store_of(tmp_path), tmp_path / "run.json"
    bucket = server.new_bucket()
    stores = {"source_options": server.options, "target_options": server.options}
    target = f"s3://{bucket}/t"
    begin(upload(server, bucket, local, "a"), target, run, **stores, **SMALL)
    done = work(run, "0/1", **stores)
    found = [file.read_bytes() for file in server.root.rglob("*") if file.is_file()]
    found += [run.read_bytes(), repr(done).encode()]
    assert any(file.suffix == ".json" for file in (server.root / bucket / "t").rglob("*"))
    assert commit(run, **stores).published
    for data in found:
        assert SECRET.encode() not in data
        assert KEY.encode() not in data
