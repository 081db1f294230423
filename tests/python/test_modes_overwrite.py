"""Overwrite, update, and ingests of a region; read through xarray on both cores."""

import numpy as np
import pytest
import xarray as xr
import zarr

from modes_for_tests import assert_same, grow, rewrite, source, world_of, write
from refreeze.exceptions import AlreadyExistsError, MismatchError, RegionError, TargetNotFoundError
from scenarios import edit

UPDATE = {"mode": "update"}


# -- create with a region -------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    "region",
    [
        {"time": slice(0, 12)},
        {"time": slice(12, 24)},
        {"time": slice(24, None)},
        {"time": slice(-2, None)},
        {"x": slice(0, 4)},
        {"time": slice(12, None), "x": slice(None, 4)},
    ],
    ids=str,
)
def test_a_region(world, tmp_path, region, version):
    """Shape, coordinates and chunks are the region's; arrays without its dimensions are whole."""
    store = write(tmp_path / "a.zarr", 0, 26, version=version, month=7)
    world.ingest(store, region=region)
    assert_same(world.dataset(), source(store, **region))


def test_a_region_that_does_not_align(world, tmp_path):
    """Refused by array, dimension and bound; coordinates do not count."""
    store = write(tmp_path / "a.zarr", 0, 26)
    for region, named in (
        ({"time": slice(3, 12)}, "time"),
        ({"time": slice(0, 8)}, "time"),
        ({"time": slice(12, 12)}, "empty"),
        ({"time": slice(0, 12, 2)}, "step"),
        ({"lat": slice(0, 12)}, "time, x"),
        ({}, "no dimension"),
    ):
        with pytest.raises(RegionError, match=named):
            world.ingest(store, region=region)
    assert not world.target.exists()


# -- overwrite ------------------------------------------------------------------------------------


def test_overwrite(world, tmp_path):
    """What stood there is gone, arrays of other names too; history keeps it."""
    world.ingest(write(tmp_path / "a.zarr", 0, 12))
    before, old = world.tip(), world.dataset()
    with pytest.raises(AlreadyExistsError):
        world.ingest(write(tmp_path / "b.zarr", 3, 17, names=("air",)))
    report = world.ingest(tmp_path / "b.zarr", mode="overwrite")
    assert report.previous_snapshot_id == before
    assert_same(world.dataset(), source(tmp_path / "b.zarr"))
    if world.fake is None:
        world.repository().reset_branch("main", before)
        assert_same(world.dataset(), old)


def test_overwrite_of_a_group_or_of_arrays(world, tmp_path):
    """Nothing else is touched."""
    store = write(tmp_path / "a.zarr", 0, 12)
    other = write(tmp_path / "b.zarr", 5, 20)
    world.ingest(store, target_group="one")
    world.ingest(store, target_group="two")
    world.ingest(other, target_group="two", mode="overwrite", skip_variables=["holes", "sharded"])
    assert_same(world.dataset("one"), source(store))
    two = zarr.open_group(world.store(), path="two", mode="r", zarr_format=3)
    assert (two["air"].shape[0], two["holes"].shape[0]) == (15, 12)
    world.ingest(other, target_group="two", mode="overwrite")
    assert_same(world.dataset("two"), source(other))


def test_overwrite_of_what_is_not_there(world, tmp_path):
    """Is a create; with regions and several sources too."""
    stores = [write(tmp_path / f"{n}.zarr", n * 12, n * 12 + 12) for n in range(2)]
    world.ingest(stores[0], mode="overwrite", region={"time": slice(0, 12)})
    assert_same(world.dataset(), source(stores[0]))
    world.ingest(stores, mode="overwrite", concat_dim="time")
    assert world.dataset().sizes["time"] == 24
    world.ingest(stores[1] / "air", mode="overwrite")
    assert (world.array("air").shape, world.array("wind").shape) == ((12, 4), (24, 4))


# -- update ---------------------------------------------------------------------------------------


def test_update(world, tmp_path):
    """Rewritten, vanished and new chunks of the region, and coordinates; nothing else."""
    store = write(tmp_path / "a.zarr", 0, 26, month=7)
    world.ingest(store)
    rewrite(store, "month", slice(13, 14), 5)
    rewrite(store, "air", slice(12, 13), 5.0)
    rewrite(store, "wind", slice(16, 20), np.nan)
    rewrite(store, "holes", slice(14, 16), 3.0)
    rewrite(store, "sharded", slice(13, 14), 1.0)
    rewrite(store, "time", slice(14, 15), 500)
    assert (4, 0) in world.chunks("wind")
    world.ingest(store, region={"time": slice(12, 24)}, **UPDATE)
    assert_same(world.dataset(), source(store))
    assert (4, 0) not in world.chunks("wind")
    assert (7, 0) in world.chunks("holes")


def test_only_the_region_is_listed(tmp_path, monkeypatch):
    """Pieces are the region's box; of the copied coordinate only changed chunks are written."""
    world = world_of("memory", tmp_path, monkeypatch)
    store = write(tmp_path / "a.zarr", 0, 26)
    world.ingest(store)
    rewrite(store, "time", slice(14, 15), 500)
    world.ingest(store, region={"time": slice(12, 24)}, **UPDATE)
    arrays = {array.path: array for array in world.fake.calls[-1]}
    assert arrays["/air"].pieces[0].target == ((4, 8), (0, 2))
    assert set(arrays["/time"].chunks) == {(2,)}
    # Not of the region's dimensions: taken whole.
    assert arrays["/height"].pieces[0].target == ((0, 2),)
    assert "/x" not in arrays


def test_the_ragged_end(world, tmp_path):
    """Of the target: also when the source has grown meanwhile."""
    store = write(tmp_path / "a.zarr", 0, 26)
    world.ingest(store)
    rewrite(store, "air", slice(25, 26), 5.0)
    world.ingest(store, region={"time": slice(24, 26)}, **UPDATE)
    assert_same(world.dataset(), source(store))
    grow(store, 0, 26, 29)
    with pytest.raises(MismatchError, match=r"(?s)beyond.*append"):
        world.ingest(store, region={"time": slice(24, None)}, **UPDATE)
    world.ingest(store, region={"time": slice(24, 26)}, **UPDATE)
    assert_same(world.dataset(), source(store, time=slice(0, 26)))
    world.ingest(store, mode="append", append_dim="time")
    assert_same(world.dataset(), source(store))


def test_after_a_region(world, tmp_path):
    """The region is in the source's elements, wherever that is in the target."""
    store = write(tmp_path / "a.zarr", 0, 40)
    world.ingest(store, region={"time": slice(12, 36)})
    rewrite(store, "air", slice(24, 27), 5.0)
    world.ingest(store, region={"time": slice(24, 36)}, **UPDATE)
    assert_same(world.dataset(), source(store, time=slice(12, 36)))
    with pytest.raises(MismatchError, match="begins before"):
        world.ingest(store, region={"time": slice(0, 24)}, **UPDATE)
    with pytest.raises(MismatchError, match="append first"):
        world.ingest(store, region={"time": slice(24, 40)}, **UPDATE)


def test_one_of_several_stores(world, tmp_path):
    """The region is that of the store which is given; the others' chunks stay."""
    stores = [write(tmp_path / f"{n}.zarr", n * 12, n * 12 + 12) for n in range(3)]
    world.ingest(stores, concat_dim="time")
    before = world.dataset()
    rewrite(stores[1], "air", slice(0, 3), 5.0)
    report = world.ingest(
        stores[1], region={"time": slice(0, 12)}, skip_variables=["height", "crs"], **UPDATE
    )
    assert report.commits > 0
    after = world.dataset()
    np.testing.assert_array_equal(after["air"][12:15], 5.0)
    xr.testing.assert_identical(after.isel(time=slice(15, None)), before.isel(time=slice(15, None)))
    # Static arrays were the first store's: they are taken from this one, with a warning.
    report = world.ingest(stores[1], region={"time": slice(0, 12)}, **UPDATE)
    assert [text for text in report.warnings if "/height" in text]
    xr.testing.assert_identical(world.dataset(), after)


def test_what_cannot_be_updated(world, tmp_path):
    """Without a region, without the array, with another source or another type."""
    store = write(tmp_path / "a.zarr", 0, 12)
    region = {"time": slice(0, 12)}
    with pytest.raises(TargetNotFoundError):
        world.ingest(store, region=region, **UPDATE)
    world.ingest(store, skip_variables=["air"])
    with pytest.raises(ValueError, match="region"):
        world.ingest(store, **UPDATE)
    with pytest.raises(FileNotFoundError, match="/air"):
        world.ingest(store, region=region, **UPDATE)
    with pytest.raises(MismatchError, match=r"b\.zarr"):
        world.ingest(
            write(tmp_path / "b.zarr", 0, 12), region=region, skip_variables=["air"], **UPDATE
        )
    with pytest.raises(RegionError, match="time, x"):
        world.ingest(store, region={"lat": slice(0, 1)}, skip_variables=["air"], **UPDATE)
    edit(store / "wind/zarr.json", data_type="float64")
    with pytest.raises(MismatchError, match="/wind"):
        world.ingest(store, region=region, skip_variables=["air"], **UPDATE)


def test_nothing_has_changed(world, tmp_path):
    """A copied coordinate alone, equal: no commit."""
    store = write(tmp_path / "a.zarr", 0, 12)
    world.ingest(store)
    report = world.ingest(store, arrays=["time"], region={"time": slice(0, 12)}, **UPDATE)
    assert report.commits == 0
    assert any("nothing has changed" in text for text in report.warnings)
