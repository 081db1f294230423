"""Writers on a real S3 server: many at once, the very first saves and lazily read data included."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr

import refreeze
from archives_for_tests import day, file_of
from refreeze.exceptions import ConflictError, TargetError
from refreeze.writer.repository import open_target

pytest.importorskip("dask")


@pytest.fixture
def bucket(s3_bucket, monkeypatch):
    server, name = s3_bucket
    for variable, value in server.environment.items():
        monkeypatch.setenv(variable, value)
    return f"s3://{name}"


def read(url):
    store = open_target(url, create=False).readonly().store
    return xr.open_zarr(store, consolidated=False, chunks={})


def test_appends_that_race_from_the_first_one_on(bucket):
    """Six savers, none of which finds a repository: every append lands once."""

    def save(number):
        for k in range(5):
            refreeze.ZarrSaver(f"{bucket}/r").save([10 * number + k] * 3, chunks=(7,))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(save, range(6)))
    values, counts = np.unique(
        refreeze.ZarrSaver(f"{bucket}/r").open()["dataset"], return_counts=True
    )
    assert values.tolist() == [10 * n + k for n in range(6) for k in range(5)]
    assert set(counts.tolist()) == {3}


def test_a_template_and_its_regions(bucket, tmp_path):
    """Regions that share chunks, written at once; what is overwritten by itself; what is stale."""
    target = f"{bucket}/r"
    refreeze.create_template(day(0), target, global_end="2000-01-06", chunking="time:36")
    files = [file_of(tmp_path, k) for k in range(6)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda file: refreeze.write_region(file, target), files))
    expected = xr.concat([day(k) for k in range(6)], "time").t
    assert read(target).t.load().equals(expected)
    stale = read(target)
    refreeze.write(read(target) + 1, target, mode="overwrite")
    assert read(target).t.load().equals(expected + 1)
    with pytest.raises(ConflictError):
        refreeze.write(stale * 2, target, mode="overwrite")


def test_what_is_for_local_disks_only(bucket):
    with pytest.raises(TargetError, match=r"refreeze\.write"), refreeze.replacing(f"{bucket}/x"):
        pass
