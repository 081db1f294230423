"""Concatenation of stores, and merging of stores; read through xarray on both cores."""

from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

from modes_for_tests import assert_same, grow, rewrite, source, world_of, write
from refreeze.exceptions import AlreadyExistsError, MismatchError, RegionError, TargetNotFoundError
from scenarios import edit

CONCAT = {"concat_dim": "time"}
FOLLOW = {"mode": "append", "concat_dim": "time"}
STEP = 12
"""A multiple of all chunk lengths along time."""


def yearly(folder, *bounds, **options):
    """Write stores one after another, each with units of its own."""
    return [
        write(
            folder / f"{number}.zarr",
            start,
            stop,
            units=f"days since {np.datetime64('2000-01-01', 'D') + start}",
            **options,
        )
        for number, (start, stop) in enumerate(pairwise(bounds))
    ]


def expected(stores):
    """Return what xarray makes of stores one after another; what has no time is the first's."""
    opened = [source(store) for store in stores]
    joined = xr.concat(
        opened, "time", data_vars="minimal", coords="minimal", compat="override", join="override"
    )
    return joined[list(opened[0].variables)].assign_attrs(opened[0].attrs)


def assert_series(world, stores):
    """Compare values, times, types and attributes."""
    actual, wanted = world.dataset(), expected(stores)
    xr.testing.assert_identical(actual, wanted)
    raw = world.dataset(decode_times=False, mask_and_scale=False)["time"]
    first = zarr.open_array(stores[0], path="time", mode="r")
    assert raw.dtype == first.dtype
    assert raw.attrs["units"] == first.attrs["units"]


@pytest.mark.parametrize("dtype", ["i2", "i8", "f4", "f8"])
@pytest.mark.parametrize("bounds", [(0, 12, 24), (0, 24, 36, 43), (0, 12)])
def test_years_with_units_of_their_own(world, tmp_path, bounds, dtype):
    """One array, offset by offset; times are exact in the first store's units."""
    stores = yearly(tmp_path, *bounds, dtype=dtype)
    assert np.array_equal(zarr.open_array(stores[-1], path="time", mode="r")[:2], [0, 1])
    report = world.ingest([str(store) for store in stores], **CONCAT)
    assert report.sources == tuple(map(str, stores))
    assert_series(world, stores)


@pytest.mark.parametrize("version", [2, 3])
def test_the_next_years(world, tmp_path, version):
    """They continue at the target's length; the last one may be ragged, and grow."""
    stores = yearly(tmp_path, 0, 12, 24, 36, 48, 55, version=version)
    world.ingest(stores[0])
    world.ingest(stores[1], **FOLLOW)
    assert_series(world, stores[:2])
    world.ingest(stores[2:4], **FOLLOW)
    assert_series(world, stores[:4])
    world.ingest(stores[4], **FOLLOW)
    assert_series(world, stores)
    with pytest.raises(MismatchError, match="not a multiple"):
        world.ingest(write(tmp_path / "late.zarr", 55, 67, version=version), **FOLLOW)
    # What stands last in the target is the recorded source now.
    grow(stores[4], 48, 55, 58, units="days since 2000-02-18")
    world.ingest(stores[4], mode="append", append_dim="time")
    assert_series(world, stores)


def test_the_same_again(world, tmp_path):
    """A command that was killed after it was published finds nothing new."""
    stores = yearly(tmp_path, 0, 12, 24, 36)
    world.ingest(stores[0])
    for _ in range(2):
        report = world.ingest(stores[1:], **FOLLOW)
        assert_series(world, stores)
    assert report.commits == 0
    assert any("nothing is new" in text for text in report.warnings)


@given(
    lengths=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    last=st.integers(1, 14),
    at_once=st.integers(1, 4),
)
def test_any_series(tmp_path_factory, lengths, last, at_once):
    """However the archive is cut, and however many are ingested at once."""
    folder = tmp_path_factory.mktemp("series")
    bounds = np.cumsum([0, *(STEP * length for length in lengths), last])
    with pytest.MonkeyPatch.context() as monkeypatch:
        world = world_of("memory", folder, monkeypatch)
        stores = yearly(folder, *(int(bound) for bound in bounds), names=("air", "holes"))
        world.ingest(stores[:at_once], **CONCAT)
        if stores[at_once:]:
            world.ingest(stores[at_once:], **FOLLOW)
        assert_series(world, stores)


def test_a_store_that_ends_within_a_chunk(world, tmp_path):
    """Refused by naming the store, whatever array it is, and nothing is written."""
    stores = yearly(tmp_path, 0, 12, 26, 36)
    with pytest.raises(MismatchError, match=r"1\.zarr has 14 elements along time") as raised:
        world.ingest(stores, **CONCAT)
    assert "chunks" in str(raised.value)
    assert not world.target.exists()


def test_stores_that_do_not_go_together(world, tmp_path):
    """Other types, dimensions, units of data and masks are refused by store and array."""
    changes = [
        ("air", {"data_type": "float64"}),
        ("air", {"fill_value": 3.0}),
        ("air", {"attributes": {"scale_factor": 0.5}}),
        ("air", {"attributes": {"units": "K"}}),
        ("wind", {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [3, 4]}}}),
        ("height", {"data_type": "float64"}),
    ]
    for number, (name, change) in enumerate(changes):
        stores = yearly(tmp_path / str(number), 0, 12, 24)
        edit(stores[1] / name / "zarr.json", **change)
        with pytest.raises(MismatchError, match=rf"/{name} of .*1\.zarr"):
            world.ingest(stores, **CONCAT)
    stores = yearly(tmp_path / "lacking", 0, 12, 24)
    third = write(tmp_path / "few.zarr", 24, 36, names=("air",))
    for series in ([*stores, third], [third, *stores]):
        with pytest.raises(
            MismatchError, match=r"few\.zarr has no array /(dotted|holes|sharded|wind)"
        ):
            world.ingest(series, **CONCAT)
    zarr.open_group(stores[1], mode="a")["air"].resize((13, 4))
    with pytest.raises(MismatchError, match=r"1\.zarr do not agree.*13"):
        world.ingest(stores, **CONCAT)
    assert not world.target.exists()


def test_other_places(world, tmp_path):
    """A copied coordinate without the dimension has the same values everywhere."""
    stores = yearly(tmp_path, 0, 12, 24)
    zarr.open_group(stores[1], mode="a")["x"][0] = -1
    with pytest.raises(MismatchError, match=r"/x of .*1\.zarr has other values"):
        world.ingest(stores, **CONCAT)
    world.ingest(stores[0])
    with pytest.raises(MismatchError, match=r"/x of .*1\.zarr has other values"):
        world.ingest(stores[1], **FOLLOW)


def test_times_that_cannot_be_exact(world, tmp_path):
    """A data type that does not hold them, or another calendar, is refused."""
    first, second = yearly(tmp_path, 0, 12, 24)
    for name, attributes in (
        ("hours", {"units": "hours since 2000-01-13T01"}),
        ("calendar", {"units": "days since 2000-01-13", "calendar": "360_day"}),
        ("metres", {"units": "m"}),
    ):
        zarr.open_group(second, mode="a")["time"].attrs.put(attributes)
        with pytest.raises(MismatchError, match=r"/time of .*1\.zarr.*units"):
            world.ingest([first, second], **CONCAT)
        assert name


@pytest.mark.parametrize("attribute", ["bounds", "climatology"])
def test_bounds_take_units_from_their_coordinate(world, tmp_path, attribute):
    """References to them would mean other times; copied ones are converted."""
    stores = yearly(tmp_path, 0, 12, 24)
    for start, store in zip((0, 12), stores, strict=True):
        root = zarr.open_group(store, mode="a")
        root["time"].attrs[attribute] = "time_bnds"
        bounds = root.create_array(
            "time_bnds", shape=(12, 2), chunks=(12, 2), dtype="i8", dimension_names=("time", "b")
        )
        bounds[:] = np.add.outer(np.arange(12), [0, 1])
        assert start in {0, 12}
    with pytest.raises(MismatchError, match=r"(?s)/time_bnds.*--load time_bnds"):
        world.ingest(stores, **CONCAT)
    world.ingest(stores, loadable_variables=["time", "x", "time_bnds"], **CONCAT)
    np.testing.assert_array_equal(world.array("time_bnds")[:], np.add.outer(np.arange(24), [0, 1]))


def test_coordinates_in_other_chunks(world, tmp_path):
    """Copied coordinates may be chunked otherwise; so may those that need not be referenced."""
    stores = yearly(tmp_path, 0, 12, 24, 36)
    root = zarr.open_group(stores[1], mode="a")
    for name in ("time", "month"):
        attributes, values = dict(root[name].attrs), root[name][:]
        root.create_array(
            name,
            data=values,
            chunks=(4,),
            fill_value=-1,
            dimension_names=("time",),
            attributes=attributes,
            overwrite=True,
            compressors=None,
        )
    world.ingest(stores, **CONCAT)
    assert_series(world, stores)


def test_following_what_is_not_there(world, tmp_path):
    """The target's arrays and the store's are the same."""
    stores = yearly(tmp_path, 0, 12, 24)
    with pytest.raises(TargetNotFoundError):
        world.ingest(stores[1], **FOLLOW)
    world.ingest(stores[0], skip_variables=["wind"])
    with pytest.raises(TargetNotFoundError, match="/wind"):
        world.ingest(stores[1], **FOLLOW)
    few = write(tmp_path / "few.zarr", 12, 24, names=("air",))
    with pytest.raises(MismatchError, match=r"few\.zarr has no array /(dotted|holes|sharded)"):
        world.ingest(few, **FOLLOW)


def test_parts_of_stores(world, tmp_path):
    """A region along another dimension cuts every store; one along theirs only a single one."""
    stores = yearly(tmp_path, 0, 12, 24, names=("air", "holes"))
    part = {"x": slice(2, 4)}
    world.ingest(stores, region=part, **CONCAT)
    assert_same(world.dataset(), expected(stores).isel(part))
    with pytest.raises(RegionError, match="2 sources"):
        world.ingest(stores, region={"time": slice(0, 6)}, mode="overwrite", **CONCAT)
    third = write(tmp_path / "third.zarr", 18, 36, names=("air", "holes"))
    world.ingest(third, region=part | {"time": slice(6, 12)}, **FOLLOW)
    wanted = [source(store).isel(part) for store in (*stores, third)]
    np.testing.assert_array_equal(
        world.dataset()["air"][24:], wanted[2]["air"].isel(time=slice(6, 12))
    )


def test_groups_that_differ_in_attributes(world, tmp_path):
    """The first's are kept, with a warning that names the attribute."""
    stores = yearly(tmp_path, 0, 12, 24)
    edit(stores[1] / "zarr.json", attributes={"title": "archive", "history": "x"})
    report = world.ingest(stores, **CONCAT)
    assert [text for text in report.warnings if "history" in text]
    assert world.dataset().attrs == {"title": "archive"}


# -- merging --------------------------------------------------------------------------------------


def variables(folder):
    """Write a store for each variable, all with the same coordinates, and one of all."""
    names = ("air", "wind", "holes")
    stores = []
    for name in names:
        store = write(folder / f"{name}.zarr", 0, 14, names=(name,))
        stores.append(store)
    return stores, write(folder / "all.zarr", 0, 14, names=names)


COPIED = {"loadable_variables": ["time", "x", "month", "height", "crs"]}


def test_a_store_for_each_variable(world, tmp_path):
    """One group; what all have and is copied is taken once."""
    stores, everything = variables(tmp_path)
    report = world.ingest(stores, **COPIED)
    assert len(report.sources) == 3
    assert_same(world.dataset(), source(everything)[list(world.dataset().variables)])
    assert set(world.dataset().variables) == set(source(everything).variables)


def test_stores_with_an_array_in_common(world, tmp_path):
    """Copied ones must be equal; references cannot be compared. Both places are named."""
    stores, _ = variables(tmp_path)
    with pytest.raises(AlreadyExistsError, match=r"/crs is in .*air\.zarr and.*wind\.zarr"):
        world.ingest(stores)
    rewrite(stores[1], "time", slice(3, 4), 99)
    with pytest.raises(AlreadyExistsError, match="/time"):
        world.ingest(stores, **COPIED)
    assert not world.target.exists()


def test_a_selection_of_several(world, tmp_path):
    """A pattern may match in one of them alone; but in one it must."""
    from refreeze.exceptions import SourceNotFoundError

    stores, everything = variables(tmp_path)
    wanted = ["air", "wind", "time", "x"]
    report = world.ingest(stores, arrays=wanted)
    assert report.warnings == ()
    assert_same(world.dataset(), source(everything)[wanted].drop_vars("month"))
    with pytest.raises(SourceNotFoundError, match="rain"):
        world.ingest(stores, arrays=["rain"], target_group="other")


def test_single_arrays_and_a_region(world, tmp_path):
    """Arrays as sources land under their names; a region cuts those that have the dimension."""
    stores, everything = variables(tmp_path)
    given = [stores[0] / "air", stores[1] / "wind", stores[0] / "time", stores[0] / "x"]
    world.ingest(given, region={"time": slice(0, 12)})
    wanted = source(everything, time=slice(0, 12))[["air", "wind", "time", "x"]]
    xr.testing.assert_identical(world.dataset(), wanted.drop_vars("month").drop_attrs(deep=False))


def test_pairs_of_a_store_and_a_path(world, tmp_path):
    """One pair is one source; several are a list."""
    from obstore.store import LocalStore

    stores = yearly(tmp_path, 0, 12, 24)
    local = LocalStore(tmp_path)
    world.ingest((local, "0.zarr"))
    world.ingest([(local, "1.zarr")], **FOLLOW)
    assert_series(world, stores)
    world.ingest(tuple(map(str, stores)), mode="overwrite", **CONCAT)
    assert_series(world, stores)
