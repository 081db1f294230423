"""`write`: one commit, whole or not at all, safe for data that is read from the target itself."""

import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr

import refreeze
from refreeze.exceptions import (
    AlreadyExistsError,
    ConflictError,
    MismatchError,
    TargetNotFoundError,
)

da = pytest.importorskip("dask.array")
pytestmark = pytest.mark.filterwarnings("ignore:The specified chunks separate:UserWarning")


def repository(path):
    return icechunk.Repository.open(icechunk.local_filesystem_storage(str(path)))


def opened(path, **options):
    store = repository(path).readonly_session("main").store
    return xr.open_zarr(store, consolidated=False, **options)


def dataset(start=0, steps=6):
    times = np.datetime64("2000-01-01", "ns") + np.arange(start, start + steps) * np.timedelta64(
        1, "D"
    )
    values = np.arange(start, start + steps)[:, None] * np.ones(4)
    return xr.Dataset(
        {"t": (("time", "x"), values)}, coords={"time": times, "x": np.arange(4.0)}, attrs={"a": 1}
    )


@pytest.mark.parametrize("chunks", [None, {}, {"time": 2}, {"time": 4, "x": 3}])
def test_a_data_set_plus_one_over_itself(tmp_path, chunks):
    """Lazily loaded data whose source is the target, with and without dask, however it is cut."""
    refreeze.write(dataset(), tmp_path / "r", encoding={"t": {"chunks": (3, 4)}})
    for _ in range(3):
        refreeze.write(opened(tmp_path / "r", chunks=chunks) + 1, tmp_path / "r", mode="overwrite")
    assert opened(tmp_path / "r", chunks=None).equals(dataset() + 3)


@pytest.mark.parametrize("chunks", [None, {}])
def test_stale_data_replaces_nothing(tmp_path, chunks):
    """A commit between reading and writing is a conflict; based_on says otherwise or more."""
    refreeze.write(dataset(), tmp_path / "r")
    stale = opened(tmp_path / "r", chunks=chunks)
    base = repository(tmp_path / "r").lookup_branch("main")
    refreeze.write(dataset() + 10, tmp_path / "r", mode="overwrite")
    with pytest.raises(ConflictError, match="moved"):
        refreeze.write(stale * 2 if chunks == {} else stale, tmp_path / "r", mode="overwrite")
    with pytest.raises(ConflictError):
        refreeze.write(dataset(), tmp_path / "r", mode="overwrite", based_on=base)
    assert opened(tmp_path / "r").equals(dataset() + 10)
    refreeze.write(stale, tmp_path / "r", mode="overwrite", based_on=None)
    assert opened(tmp_path / "r").equals(dataset())


def test_a_writable_session_as_source(tmp_path):
    """It is read at its base; with changes that are not committed it is refused."""
    refreeze.write(dataset(), tmp_path / "r")
    session = repository(tmp_path / "r").writable_session("main")
    data = xr.open_zarr(session.store, consolidated=False)
    refreeze.write(data + 1, tmp_path / "r", mode="overwrite")
    assert opened(tmp_path / "r").equals(dataset() + 1)
    session = repository(tmp_path / "r").writable_session("main")
    zarr.open_array(session.store, path="t", mode="r+")[0, 0] = 99
    data = xr.open_zarr(session.store, consolidated=False)
    with pytest.raises(MismatchError, match="not committed"):
        refreeze.write(data, tmp_path / "r", mode="overwrite")


def test_arrays_of_every_kind(tmp_path):
    """numpy, dask and zarr arrays; dask chunks that do not fit the stored ones lose nothing."""
    path = tmp_path / "r"
    refreeze.write(np.arange(20.0), path, name="n", encoding={"chunks": (6,)})
    lazy = da.from_array(np.arange(25.0), chunks=4)
    refreeze.write(lazy, path, name="n", mode="append")
    stored = zarr.open_group(repository(path).readonly_session("main").store, mode="r")
    assert stored["n"][:].tolist() == [*range(20), *range(25)]
    refreeze.write(stored["n"], path, name="copy")
    refreeze.write(da.from_zarr(stored["n"]) + 1, path, name="n", mode="overwrite", based_on=None)
    refreeze.write(5, path, name="n", mode="update", indices=0)
    stored = zarr.open_group(repository(path).readonly_session("main").store, mode="r")
    assert stored["copy"][:].tolist() == [*range(20), *range(25)]
    assert stored["n"][:].tolist() == [5, *range(2, 21), *range(1, 26)]
    with pytest.raises(AlreadyExistsError):
        refreeze.write([1], path, name="n")
    with pytest.raises(TargetNotFoundError):
        refreeze.write([1], path, name="none", mode="append")
    with pytest.raises(ValueError, match="indices"):
        refreeze.write([1], path, name="n", mode="update")


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_schedulers_of_dask(tmp_path, scheduler):
    """Tasks in other processes write through forks of the session."""
    import dask

    refreeze.write(dataset(), tmp_path / "r")
    with dask.config.set(scheduler=scheduler, num_workers=2):
        data = opened(tmp_path / "r", chunks={"time": 2})
        refreeze.write(data + 1, tmp_path / "r", mode="overwrite")
    assert opened(tmp_path / "r", chunks=None).equals(dataset() + 1)


def test_append_and_labels_that_are_there(tmp_path):
    """Repeated labels are refused, skipped or overwritten; times keep the target's units."""
    path = tmp_path / "r"
    refreeze.write(dataset(), path, encoding={"t": {"chunks": (4, 4)}})
    refreeze.write(dataset(6).chunk({"time": 4}), path, mode="append", append_dim="time")
    assert opened(path, chunks=None).equals(dataset(steps=12))
    with pytest.raises(MismatchError, match="labels"):
        refreeze.write(dataset(10), path, mode="append", append_dim="time")
    options = {"mode": "append", "append_dim": "time"}
    refreeze.write(dataset(10) * 2, path, if_present="skip", **options)
    assert opened(path).t[10, 0] == 10
    assert opened(path).t[12, 0] == 24
    refreeze.write(dataset(10), path, if_present="overwrite", **options)
    assert opened(path, chunks=None).equals(dataset(steps=16))
    half = dataset(20).assign_coords(time=dataset(20).time + np.timedelta64(90, "m"))
    with pytest.raises(MismatchError, match="exactly"):
        refreeze.write(half, path, **options)
    with pytest.raises(ValueError, match="append_dim"):
        refreeze.write(half, path, mode="append")


def test_tree_and_data_array(tmp_path):
    """A tree becomes groups; a data array lands under its name."""
    tree = xr.DataTree.from_dict({"/": dataset()[["x"]], "/deep/er": dataset(3)})
    refreeze.write(tree, tmp_path / "r")
    refreeze.write(dataset()["t"], tmp_path / "r", name="other/v")
    assert opened(tmp_path / "r", group="deep/er").equals(dataset(3).drop_vars("x"))
    assert opened(tmp_path / "r", group="other")["v"].equals(dataset()["t"].rename("v"))
