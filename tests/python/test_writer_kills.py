"""SIGKILL of whatever writes data, at any instant: the old state or the new one, and it runs again.

Few kills in the suite; `make test-writer-kills` makes forty of each kind.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time

import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr

import refreeze
from archives_for_tests import day, file_of, opened, repository
from refreeze.exceptions import AlreadyExistsError

pytest.importorskip("dask")

KILLS = int(os.environ.get("REFREEZE_KILLS", "3"))
"""Instants of each kind."""
LONGEST_S = 0.6 if KILLS < 10 else 1.5
"""After this time at the latest a process is killed: each does its work several times in it."""


def killed(program, *arguments):
    """Run a program, yield after a kill at each of several instants."""
    chance = random.Random(17)  # noqa: S311 no secret depends on it
    for _ in range(KILLS):
        child = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", program, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert child.stdout.readline() == "ready\n", child.stderr.read()
        time.sleep(chance.uniform(0, LONGEST_S))
        alive = child.poll() is None
        # Its workers too, as when a job is cancelled.
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        said = child.stderr.read()
        child.stdout.close()
        child.stderr.close()
        assert alive, said
        yield


PLUS_ONE = """
import sys, icechunk, xarray as xr, dask.array, refreeze, refreeze.writer.write_datasets
storage = icechunk.local_filesystem_storage(sys.argv[1])
print("ready", flush=True)
while True:
    store = icechunk.Repository.open(storage).readonly_session("main").store
    lazy = xr.open_zarr(store, consolidated=False, chunks={})
    refreeze.write(lazy + 1, sys.argv[1], mode="overwrite")
"""


def test_data_that_is_overwritten_by_itself(tmp_path):
    """One value everywhere after each kill, which is the number of commits."""
    path = tmp_path / "r"
    data = xr.Dataset({"t": (("time", "x"), np.zeros((40, 20)))})
    refreeze.write(data, path, encoding={"t": {"chunks": (5, 5)}})
    for _ in killed(PLUS_ONE, path):
        values = np.unique(opened(path).t.values)
        assert len(values) == 1
        assert len(list(repository(path).ancestry(branch="main"))) == int(values[0]) + 2
    refreeze.write(opened(path) + 1, path, mode="overwrite")
    assert np.unique(opened(path).t.values).tolist() == [values[0] + 1]


SAVE = """
import sys, itertools, numpy as np, refreeze, refreeze.writer.saver
approach, path = sys.argv[1:]
print("ready", flush=True)
for number in itertools.count():
    # Large enough for chunks of their own; the first save makes the repository.
    at = f"{path}-{number // 3}" if approach == "append" else path
    saver = refreeze.ZarrSaver(at, approach=approach)
    saver.save(np.full((5, 400), number), chunks=(3, 100))
"""


def test_appends_of_a_saver(tmp_path):
    """Every save is there whole or not at all, the first one included; the next save works."""
    for _ in killed(SAVE, "append", tmp_path / "r"):
        for path in list(tmp_path.glob("r-*")):
            saver = refreeze.ZarrSaver(path)
            report = saver.save(np.full((5, 400), -1))
            assert report.commits == 1
            stored = saver.open()["dataset"][...]
            first = 3 * int(path.name.partition("-")[2])
            saved = np.repeat(np.arange(first, first + len(stored) // 5 - 1), 5)
            assert stored[:, 0].tolist() == [*saved, *[-1] * 5]
            assert (stored == stored[:, :1]).all()
            path.rename(tmp_path / f"seen-{path.name}-{time.monotonic_ns()}")


@pytest.mark.parametrize("left", ["repo#1", None])
def test_beginnings_of_a_repository(tmp_path, left):
    """What a creation that was killed just before its last step has left is in nobody's way."""
    path = tmp_path / "r"
    icechunk.Repository.create(icechunk.local_filesystem_storage(str(path)))
    (path / "repo").rename(path / left) if left else (path / "repo").unlink()
    refreeze.ZarrSaver(path).save(np.arange(400))
    assert refreeze.ZarrSaver(path).open()["dataset"][...].tolist() == list(range(400))


def test_overwrites_of_a_saver(tmp_path):
    """One value everywhere."""
    path = tmp_path / "r"
    refreeze.ZarrSaver(path).save(np.full((5, 400), -1))
    for _ in killed(SAVE, "overwrite", path):
        assert len(np.unique(refreeze.ZarrSaver(path).open()["dataset"][...])) == 1


TEMPLATE = """
import sys, itertools, refreeze, refreeze.writer.template
file, path = sys.argv[1:]
print("ready", flush=True)
for number in itertools.count():
    refreeze.create_template(file, f"{path}-{number}", global_end="2000-12-31", chunking="time:100")
"""


def test_templates(tmp_path):
    """There is the whole template or no array, and in the latter case it can be made."""
    file = file_of(tmp_path, 0)
    options = {"global_end": "2000-12-31", "chunking": "time:100"}
    refreeze.create_template(file, tmp_path / "whole", **options)
    for _ in killed(TEMPLATE, file, tmp_path / "r"):
        for path in list(tmp_path.glob("r-*")):
            with contextlib.suppress(AlreadyExistsError):
                refreeze.create_template(file, path, **options)
            xr.testing.assert_identical(opened(path), opened(tmp_path / "whole"))
            path.rename(tmp_path / f"seen-{path.name}-{time.monotonic_ns()}")


REGIONS = """
import sys, itertools, icechunk, xarray as xr, refreeze, refreeze.writer.write_region
path, workers, *files = sys.argv[1:]
days = [xr.load_dataset(file) for file in files]
# Workers import this program anew.
if __name__ == "__main__":
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(path))
    store = repo.readonly_session("main").store
    stored = xr.open_zarr(store, consolidated=False, chunks=None).t
    print("ready", flush=True)
    for number in itertools.count(int(stored.max()) + 1):
        data = [each.assign(t=each.t * 0 + number) for each in days]
        if workers == "none":
            for each in data:
                refreeze.write_region(each, path)
        else:
            refreeze.write_region(data, path, workers=int(workers))
"""


@pytest.mark.parametrize("workers", ["none", "2"])
def test_regions(tmp_path, workers):
    """Days of 24 hours that share chunks: each is of one call, with workers all of one commit."""
    path, days = tmp_path / "r", [day(k) for k in range(3)]
    refreeze.create_template(days[0], path, global_end="2000-01-03", chunking="time:36")
    refreeze.write_region([each.assign(t=each.t * 0 - 1) for each in days], path)
    files = [file_of(tmp_path, k) for k in range(3)]
    for _ in killed(REGIONS, path, workers, *files):
        hours = opened(path).t.values.reshape(3, -1)
        assert all(len(np.unique(each)) == 1 for each in hours)
        values = hours[:, 0].tolist()
        # One after another, with numbers that only grow: a day is never behind the next one.
        fine = len(set(values)) == 1 if workers != "none" else values == sorted(values)[::-1]
        assert fine, values
    refreeze.write_region(days[1], path)
    assert opened(path).t[24:48].equals(days[1].t)


REPLACE = """
import sys, refreeze, refreeze.writer.replacing, zarr
print("ready", flush=True)
while True:
    old = zarr.open_array(sys.argv[1], mode="r")[:]
    with refreeze.replacing(sys.argv[1]) as new:
        zarr.create_array(new, shape=(20,), chunks=(2,), dtype="i4")[:] = old + 1
"""


def test_replaced_folders(tmp_path):
    """One value everywhere; what the killed left beside is swept by the next call."""
    place = tmp_path / "s.zarr"
    zarr.create_array(place, shape=(20,), chunks=(2,), dtype="i4")[:] = 1
    for _ in killed(REPLACE, place):
        assert len(np.unique(zarr.open_array(place, mode="r")[:])) == 1
    with refreeze.replacing(place) as new:
        zarr.create_array(new, shape=(20,), chunks=(2,), dtype="i4")[:] = 7
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]
