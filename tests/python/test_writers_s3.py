"""Writers on a real S3 server: many at once, the very first saves and lazily read data included."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import icechunk
import numpy as np
import obstore
import pytest
import xarray as xr
import zarr.storage

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


def save_three(url, number):
    for k in range(3):
        refreeze.ZarrSaver(url).save([10 * number + k] * 5, chunks=(7,))


def test_processes_whose_very_first_saves_race(bucket):
    """None of them finds a repository; each has its own connection, and every append lands once."""
    context = multiprocessing.get_context("spawn")
    url = f"{bucket}/r"
    workers = [context.Process(target=save_three, args=(url, n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 3
    values, counts = np.unique(refreeze.ZarrSaver(url).open()["dataset"], return_counts=True)
    assert values.tolist() == [10 * n + k for n in range(3) for k in range(3)]
    assert set(counts.tolist()) == {5}


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


def test_files_in_a_bucket(s3_bucket, bucket, tmp_path):
    """NetCDF and Zarr by their URLs, copied and as references that are read from the bucket."""
    server, name = s3_bucket
    store = server.store(name)
    for number in range(2):
        path = file_of(tmp_path, number, chunksizes=(12, 3, 4), zlib=True)
        obstore.put(store, f"in/{path.name}", path)
    day(2).to_zarr(
        zarr.storage.ObjectStore(server.store(name, "in/day02.zarr")), consolidated=False
    )
    files = [f"{bucket}/in/day00.nc", f"{bucket}/in/day01.nc", f"{bucket}/in/day02.zarr"]
    refreeze.create_template(files[0], f"{bucket}/r", global_end="2000-01-03")
    refreeze.write_region(files, f"{bucket}/r")
    expected = xr.concat([day(k) for k in range(3)], "time").t
    assert read(f"{bucket}/r").t.load().equals(expected)

    target = tmp_path / "references"
    refreeze.create_template(files[0], target, global_end="2000-01-02", references=True)
    refreeze.write_region(files[:2], target, references=True)
    access = {
        f"{bucket}/in/": icechunk.s3_credentials(
            access_key_id=server.access_key_id, secret_access_key=server.secret_access_key
        )
    }
    found = icechunk.Repository.open(
        icechunk.local_filesystem_storage(str(target)),
        authorize_virtual_chunk_access=icechunk.containers_credentials(access),
    ).readonly_session("main")
    there = xr.open_zarr(found.store, consolidated=False, chunks=None)
    assert there.t.load().equals(expected[:48])


def test_what_is_for_local_disks_only(bucket):
    with pytest.raises(TargetError, match=r"refreeze\.write"), refreeze.replacing(f"{bucket}/x"):
        pass
