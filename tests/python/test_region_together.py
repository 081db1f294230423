"""Many processes write regions of one template at once, into shared chunks too: nothing is lost."""

import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pytest
import xarray as xr
import zarr

import refreeze
from archives_for_tests import commits, day, file_of, opened, repository
from refreeze.exceptions import MismatchError
from refreeze.writer.region_job import Done
from refreeze.writer.region_workers import groups_by_chunk
from refreeze.writer.repository import open_target

pytest.importorskip("dask")

FULL = "REFREEZE_SWEEP" in os.environ
"""Whether there is time for all of it: `make test-together`."""
PROCESSES, KILLS = (8, 4) if FULL else (3, 1)
DAYS = 5 * PROCESSES


def write_days(files, target, options):
    """Write files one after another, each as a commit of its own."""
    for file in files:
        refreeze.write_region(file, target, target_options=options)


def one_element(number):
    return day(number, lat=1, lon=1)


@pytest.fixture
def files(tmp_path):
    return [str(file_of(tmp_path, k, one_element(k))) for k in range(DAYS)]


@pytest.mark.parametrize("place", ["local", "s3"])
def test_days_by_many_processes_of_which_some_are_killed(
    tmp_path, files, place, request, monkeypatch
):
    """Days of 24 hours into chunks of 100, killed and run again: no hour is wrong."""
    target, options = str(tmp_path / "r"), None
    if place == "s3":
        server, bucket = request.getfixturevalue("s3_bucket")
        target, options = f"s3://{bucket}/r", server.options
    refreeze.create_template(
        one_element(0),
        target,
        global_end=day(DAYS - 1).time.values[-1],
        chunking="time:100",
        target_options=options,
    )
    found = open_target(target, options=options).repository
    context = multiprocessing.get_context("spawn")
    chance = random.Random(40)  # noqa: S311 no secret depends on it

    def start(share):
        process = context.Process(target=write_days, args=(share, target, options))
        process.start()
        return process

    shares = [files[k::PROCESSES] for k in range(PROCESSES)]
    running = [start(share) for share in shares]
    tips = {found.lookup_branch("main")}
    # Until they have begun to commit.
    while len(tips) < 2 and all(process.is_alive() for process in running):
        tips.add(found.lookup_branch("main"))
        time.sleep(0.02)
    for k in chance.sample(range(PROCESSES), KILLS):
        time.sleep(chance.uniform(0, 0.3))
        running[k].kill()
        running[k].join()
        if running[k].exitcode == -signal.SIGKILL:
            running[k] = start(shares[k])
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0] * PROCESSES
    store = found.readonly_session("main").store
    hours = xr.open_zarr(store, consolidated=False, chunks=None).t.values.ravel()
    assert np.flatnonzero(hours != np.arange(24 * DAYS)).tolist() == []


def test_a_chunk_that_another_has_written_meanwhile(tmp_path, monkeypatch):
    """The region is written again from the new tip; chunks of others are left as they are."""
    target = tmp_path / "r"
    refreeze.create_template(day(0), target, global_end="2000-01-10", chunking="time:100")
    real, calls = zarr.Array.__setitem__, []

    def interrupted(self, place, values):
        calls.append(place)
        if len(calls) == 1:
            refreeze.write_region(day(1), target)
        real(self, place, values)

    monkeypatch.setattr(zarr.Array, "__setitem__", interrupted)
    before = commits(target)
    refreeze.write_region(day(0), target)
    assert len(calls) == 3
    assert commits(target) == before + 2
    assert opened(target).t[:48].equals(xr.concat([day(0), day(1)], "time").t)


def test_workers_make_one_commit(tmp_path):
    """Files that share chunks go to one worker; the labels of all files are where they belong."""
    target = tmp_path / "r"
    refreeze.create_template(day(0), target, global_end="2000-01-09", chunking="time:36,lat:2")
    before, events = commits(target), []
    report = refreeze.write_region(
        [file_of(tmp_path, k) for k in range(9)], target, workers=2, progress=events.append
    )
    assert commits(target) == before + 1
    assert report.snapshot_id == repository(target).lookup_branch("main")
    assert [each["region"]["time"] for each in report.regions] == [
        [24 * k, 24 * k + 24] for k in range(9)
    ]
    assert events[-1]["files_done"] == 9
    assert opened(target).t.equals(xr.concat([day(k) for k in range(9)], "time").t)
    with pytest.raises(MismatchError, match="same elements"):
        refreeze.write_region([day(1), day(1)], target, workers=1)


def test_a_client_of_dask(tmp_path):
    """Workers of a cluster write, the coordinator commits."""
    distributed = pytest.importorskip("distributed")
    target = tmp_path / "r"
    refreeze.create_template(day(0), target, global_end="2000-01-04", chunking="time:36")
    before = commits(target)
    with (
        distributed.LocalCluster(
            n_workers=2, processes=False, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        refreeze.write_region([file_of(tmp_path, k) for k in range(4)], target, client=client)
    assert commits(target) == before + 1
    assert opened(target).t.equals(xr.concat([day(k) for k in range(4)], "time").t)


def test_write_with_a_client(tmp_path):
    """`write` of lazy data, its own source, through a cluster: one commit, every value."""
    distributed = pytest.importorskip("distributed")
    data = xr.Dataset({"t": (("time", "x"), np.arange(240.0).reshape(60, 4))})
    refreeze.write(data, tmp_path / "r", encoding={"t": {"chunks": (10, 4)}})
    before = commits(tmp_path / "r")
    with (
        distributed.LocalCluster(
            n_workers=2, processes=False, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster),
    ):
        lazy = opened(tmp_path / "r").chunk({"time": 7})
        refreeze.write(lazy + 1, tmp_path / "r", mode="overwrite")
    assert commits(tmp_path / "r") == before + 1
    assert opened(tmp_path / "r").equals(data + 1)


def test_groups_share_no_chunk():
    """Files 0 and 1 share a chunk, 1 and 2 another: one group; 3 is on its own."""
    done = [
        Done("f", {"time": list(span)}, ("/t",), (), 0, ())
        for span in ((0, 24), (24, 48), (48, 60), (72, 96))
    ]
    assert groups_by_chunk(done, {"/t": {"time": 36}}) == [[0, 1, 2], [3]]
    assert groups_by_chunk(done, {"/t": {"time": 12}}) == [[0], [1], [2], [3]]
