"""`ZarrSaver`: what its documentation promises, kept by commits of a repository."""

import multiprocessing

import icechunk
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import Blosc

import refreeze
from refreeze.exceptions import TargetError
from refreeze.writer.indexing import assign


def saved(path, name="dataset"):
    return refreeze.ZarrSaver(path).open()[name][...]


def test_append_creates_and_grows(tmp_path):
    """Each save is one commit, lists and scalars are converted, nothing stored is contradicted."""
    saver = refreeze.ZarrSaver(tmp_path / "r", approach="  Append ")
    first = saver.save([1, 2, 3], chunks=2)
    second = saver.save(4)
    assert second.commits == 1
    assert second.replaced_snapshot_id == first.snapshot_id
    assert saved(tmp_path / "r").tolist() == [1, 2, 3, 4]
    assert saver.open()["dataset"].chunks == (2,)
    with pytest.raises(ValueError, match="first dimension"):
        saver.save([[1, 2]])
    with pytest.raises(ValueError, match="chunks"):
        saver.save([5], chunks=(3,))
    assert saver.save([5], chunks=2).commits == 1


def test_overwrite_replaces_type_and_shape_and_keeps_history(tmp_path):
    """The old state stays in the history under the snapshot that the report names."""
    refreeze.ZarrSaver(tmp_path / "r", "a/b").save(np.arange(6.0))
    report = refreeze.ZarrSaver(tmp_path / "r", "a/b", "overwrite").save(np.ones((2, 2), "i2"))
    assert saved(tmp_path / "r", "a/b").dtype == "i2"
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(tmp_path / "r")))
    old = repository.readonly_session(snapshot_id=report.replaced_snapshot_id)
    assert zarr.open_array(old.store, path="a/b", mode="r")[:].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("indices", "data"),
    [
        (0, 9),
        ([0, 2], 9),
        (slice(1, None, 2), [[1] * 4, [2] * 4]),
        (slice(None, None, -1), np.arange(16).reshape(4, 4)),
        (np.eye(4, dtype=bool), [1, 2, 3, 4]),
        ((1, slice(2)), [7, 8]),
        (np.array([3, -1]), 5),
        (([0, 1], [2, 3]), [6, 7]),
        ((..., 0), [1, 2, 3, 4]),
    ],
)
def test_update_means_what_numpy_means(tmp_path, indices, data):
    """Every kind of index, 0 and negative steps included."""
    before = np.arange(16).reshape(4, 4)
    refreeze.ZarrSaver(tmp_path / "r", approach="overwrite").save(before, chunks=(3, 2))
    refreeze.ZarrSaver(tmp_path / "r", approach="update").save(data, indices=indices)
    before[indices] = data
    assert saved(tmp_path / "r").tolist() == before.tolist()


@settings(max_examples=60)
@given(st.data())
def test_assignment_is_that_of_numpy(data):
    """Arbitrary integer arrays, duplicates included: the last value counts."""
    shape = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    length = data.draw(st.integers(1, 6))
    rows = data.draw(
        st.lists(st.integers(-shape[0], shape[0] - 1), min_size=length, max_size=length)
    )
    columns = data.draw(st.lists(st.integers(0, shape[1] - 1), min_size=length, max_size=length))
    index = data.draw(
        st.sampled_from([(rows, columns), (rows,), (slice(None), columns), (rows, 0), rows])
    )
    model = np.zeros(shape, "i8")
    stored = zarr.create_array({}, shape=shape, dtype="i8", chunks=(2, 3))
    values = np.arange(model[index].size).reshape(model[index].shape) + 1
    model[index] = values
    assign(stored, index, values)
    assert stored[...].tolist() == model.tolist()


def test_errors(tmp_path):
    """The classes that the documentation names; the missing array wins over missing indices."""
    path = tmp_path / "r"
    update = refreeze.ZarrSaver(path, approach="update")
    with pytest.raises(FileNotFoundError):
        update.save([1])
    assert not path.exists()
    refreeze.ZarrSaver(path).save(np.arange(4))
    with pytest.raises(FileNotFoundError):
        refreeze.ZarrSaver(path, "other", "update").save([1])
    with pytest.raises(ValueError, match="indices"):
        update.save([1])
    with pytest.raises(IndexError):
        update.save(1, indices=4)
    with pytest.raises(ValueError, match="shape"):
        update.save([1, 2, 3], indices=slice(2))
    for bad in ([[1], [1, 2]], [object()]):
        with pytest.raises(TypeError):
            refreeze.ZarrSaver(path).save(bad)
    with pytest.raises(ValueError, match="approach"):
        refreeze.ZarrSaver(path, approach="replace")
    with pytest.raises(ValueError, match="no_such"):
        refreeze.ZarrSaver(path).save([1], no_such=1)
    with pytest.raises(ValueError, match="cannot hold"):
        refreeze.ZarrSaver(path).save([1.5])


def test_keywords_of_zarr_2_and_3(tmp_path):
    """Compressors of numcodecs become codecs of format 3; the same again is no contradiction."""
    keywords = {"compressor": Blosc("zstd", 3), "dtype": "f4", "fill_value": 7, "chunks": (2,)}
    saver = refreeze.ZarrSaver(tmp_path / "r")
    saver.save([1, 2, 3], **keywords)
    array = saver.open()["dataset"]
    assert array.compressors[0].clevel == 3
    assert (array.dtype, array.fill_value, array.chunks) == ("f4", 7, (2,))
    saver.save([4], **keywords)
    with pytest.raises(ValueError, match="compressors"):
        saver.save([4], compressor=None)
    with pytest.raises(ValueError, match="dtype"):
        saver.save([4], dtype="f8")
    refreeze.ZarrSaver(tmp_path / "r", "s").save(np.zeros(8), chunks=(2,), shards=(4,))
    assert saver.open()["s"].shards == (4,)


def test_plain_store_is_left_alone(tmp_path):
    """The error names what makes a repository of it, and nothing was copied or deleted."""
    zarr.create_array(tmp_path / "plain", name="dataset", shape=(2,), dtype="i4")
    zarr.open_group(tmp_path / "plain", mode="a")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(TargetError, match="refreeze ingest"):
        refreeze.ZarrSaver(tmp_path / "plain").save([1, 2])
    assert sorted(tmp_path.rglob("*")) == before


def append_ten(path, number):
    for step in range(10):
        refreeze.ZarrSaver(path).save(np.full(5, 10 * number + step), chunks=7)


def test_eight_processes_append_at_once(tmp_path):
    """The very first saves included, which race to create the repository: none is lost."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=append_ten, args=(tmp_path / "r", n)) for n in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 8
    values, counts = np.unique(saved(tmp_path / "r"), return_counts=True)
    assert values.tolist() == list(range(80))
    assert set(counts.tolist()) == {5}


def test_saver_on_s3_and_by_mapper(s3_bucket, monkeypatch):
    """An `s3://` URL by the environment, and the same place by a mapper of s3fs."""
    s3fs = pytest.importorskip("s3fs")
    server, bucket = s3_bucket
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    refreeze.ZarrSaver(f"s3://{bucket}/r").save([1, 2])
    files = s3fs.S3FileSystem(
        key=server.access_key_id,
        secret=server.secret_access_key,
        endpoint_url=server.endpoint,
        client_kwargs={"region_name": server.region},
    )
    mapper = s3fs.S3Map(f"{bucket}/r", s3=files)
    refreeze.ZarrSaver(mapper).save([3])
    assert saved(mapper).tolist() == [1, 2, 3]
