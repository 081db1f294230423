"""Append: the recorded source has grown. Read through xarray on both cores; see `modes_for_tests`."""

import json
from itertools import pairwise

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import refreeze
from modes_for_tests import LAYOUTS, assert_same, grow, rewrite, source, values, world_of, write
from refreeze.exceptions import MismatchError, RegionError, TargetNotFoundError
from refreeze.planning.target_arrays import Target
from scenarios import edit

APPEND = {"mode": "append", "append_dim": "time"}


@pytest.mark.parametrize("layout", [{"version": 2}, {"month": 7}], ids=str)
@pytest.mark.parametrize(("old", "new"), [(12, 24), (7, 8), (7, 26), (11, 13), (1, 2), (12, 13)])
def test_what_is_new(world, tmp_path, old, new, layout):
    """Ragged last chunks, chunks of other lengths and shards: all of it is as in the source."""
    store = write(tmp_path / "a.zarr", 0, old, **layout)
    world.ingest(store)
    before = world.dataset()
    grow(store, 0, old, new)
    report = world.ingest(store, **APPEND)
    assert (report.mode, report.commits > 0) == ("append", True)
    assert report.previous_snapshot_id != report.snapshot_id == world.tip()
    assert_same(world.dataset(), source(store))
    assert before.sizes["time"] == old


def test_only_what_is_new_is_listed(tmp_path, monkeypatch):
    """Whole chunks that are there are in no piece; a ragged one is; static arrays are in none."""
    world = world_of("memory", tmp_path, monkeypatch)
    store = write(tmp_path / "a.zarr", 0, 14)
    world.ingest(store)
    grow(store, 0, 14, 16)
    world.ingest(store, **APPEND)
    arrays = {array.path: array for array in world.fake.calls[-1]}
    assert set(arrays) == {f"/{name}" for name in (*LAYOUTS, "time", "month")}
    boxes = {path: array.pieces[0].target[0] for path, array in arrays.items() if array.pieces}
    assert boxes == {
        "/air": (4, 6),
        "/wind": (3, 4),
        "/sharded": (2, 3),
        "/holes": (7, 8),
        "/dotted": (2, 3),
        "/month": (2, 3),
    }
    assert set(arrays["/time"].chunks) == {(2,), (3,)}
    assert all(array.shape[0] == 16 for array in arrays.values())


@given(cuts=st.lists(st.integers(1, 30), min_size=2, max_size=4, unique=True).map(sorted))
def test_any_series_of_appends(tmp_path_factory, cuts):
    """However the source grows, the target is the source; a second time nothing is new."""
    folder = tmp_path_factory.mktemp("series")
    with pytest.MonkeyPatch.context() as monkeypatch:
        world = world_of("memory", folder, monkeypatch)
        store = write(folder / "a.zarr", 0, cuts[0], names=("air", "holes"))
        world.ingest(store)
        for old, new in pairwise(cuts):
            grow(store, 0, old, new)
            world.ingest(store, **APPEND)
            assert_same(world.dataset(), source(store))
            assert world.ingest(store, **APPEND).commits == 0


def test_appending_twice(world, tmp_path):
    """The second time nothing is new: no commit, and a warning that says so."""
    store = write(tmp_path / "a.zarr", 0, 7)
    world.ingest(store)
    grow(store, 0, 7, 9)
    first = world.ingest(store, **APPEND)
    tip = world.tip()
    second = world.ingest(store, **APPEND)
    assert (second.commits, second.references_written, second.published) == (0, 0, False)
    assert second.snapshot_id == first.snapshot_id == tip == world.tip()
    assert any("nothing is new" in text for text in second.warnings)
    assert {array.shape[0] for array in second.arrays} == {9}
    json.dumps(second.to_dict())


def test_a_shrunk_source(world, tmp_path):
    """Refused with both lengths."""
    store = write(tmp_path / "a.zarr", 0, 9)
    world.ingest(store)
    write(store, 0, 8)
    with pytest.raises(MismatchError, match=r"8 elements along time.*holds 9"):
        world.ingest(store, **APPEND)


def test_another_source_is_named(world, tmp_path):
    """By its URL and by that of the recorded one."""
    store = write(tmp_path / "a.zarr", 0, 12)
    world.ingest(store)
    other = write(tmp_path / "b.zarr", 0, 24)
    with pytest.raises(MismatchError) as raised:
        world.ingest(other, **APPEND)
    assert "a.zarr" in str(raised.value)
    assert "b.zarr" in str(raised.value)


def test_the_source_spelt_otherwise(world, tmp_path, monkeypatch):
    """As a file URL, a relative path or a store: the references tell that it is the same."""
    from obstore.store import LocalStore

    store = write(tmp_path / "a.zarr", 0, 5)
    world.ingest(store)
    monkeypatch.chdir(tmp_path)
    spellings = (store.as_uri(), "a.zarr", (LocalStore(tmp_path), "a.zarr"))
    for length, spelt in enumerate(spellings, start=6):
        grow(store, 0, length - 1, length)
        assert world.ingest(spelt, **APPEND).commits > 0
        assert_same(world.dataset(), source(store))


def test_groups_of_source_and_target(world, tmp_path):
    """`group`, `target_group` and a selection are those of the first ingest."""
    store = write(tmp_path / "a.zarr/model/out", 0, 5)
    zarr.open_group(tmp_path / "a.zarr", mode="a")
    where = {"group": "model/out", "target_group": "x/y", "skip_variables": ["wind"]}
    world.ingest(tmp_path / "a.zarr", **where)
    grow(store, 0, 5, 8)
    world.ingest(tmp_path / "a.zarr", **where, **APPEND)
    assert_same(world.dataset("x/y"), source(store).drop_vars("wind"))
    with pytest.raises(TargetNotFoundError, match="/x/y/wind"):
        world.ingest(tmp_path / "a.zarr", group="model/out", target_group="x/y", **APPEND)


def test_arrays_one_after_the_other(world, tmp_path):
    """Arrays may be appended at different times; each goes on where it ends."""
    store = write(tmp_path / "a.zarr", 0, 5)
    world.ingest(store)
    grow(store, 0, 5, 9)
    world.ingest(store, arrays=["air"], **APPEND)
    assert (world.array("air").shape[0], world.array("wind").shape[0]) == (9, 5)
    grow(store, 0, 9, 11)
    world.ingest(store, **APPEND)
    assert_same(world.dataset(), source(store))


def test_what_is_not_there(world, tmp_path):
    """No repository, no branch, no array, no dimension."""
    store = write(tmp_path / "a.zarr", 0, 5)
    with pytest.raises(TargetNotFoundError):
        world.ingest(store, **APPEND)
    world.ingest(store, skip_variables=["air"])
    with pytest.raises(TargetNotFoundError, match="/air"):
        world.ingest(store, **APPEND)
    with pytest.raises(TargetNotFoundError, match="other"):
        world.ingest(store, branch="other", **APPEND)
    with pytest.raises(RegionError, match=r"nope.*\n.*time, x"):
        world.ingest(store, mode="append", append_dim="nope")


def test_lengths_that_do_not_agree(world, tmp_path):
    """Arrays of different length along the dimension are refused with both lengths."""
    store = write(tmp_path / "a.zarr", 0, 5)
    world.ingest(store)
    zarr.open_group(store, mode="a")["air"].resize((6, 4))
    with pytest.raises(MismatchError, match=r"time.*has [56].*has [56]"):
        world.ingest(store, **APPEND)


@pytest.mark.parametrize(
    "change",
    [
        {"data_type": "float64"},
        {"fill_value": 3.0},
        {"codecs": [{"name": "bytes", "configuration": {"endian": "little"}}]},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4, 2]}}},
        {"dimension_names": ["time", "y"]},
        {"shape": [9, 6]},
        {"attributes": {"scale_factor": 2.0, "coordinates": "month"}},
        {"attributes": {"units": "K", "coordinates": "month"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_source_that_has_changed_in_more_than_its_length(world, tmp_path, change):
    """Refused, and nothing is listed or published."""
    store = write(tmp_path / "a.zarr", 0, 7)
    world.ingest(store)
    tip = world.tip()
    grow(store, 0, 7, 9)
    edit(store / "air/zarr.json", **change)
    with pytest.raises(MismatchError, match="/air"):
        world.ingest(store, **APPEND)
    assert world.tip() == tip


def test_harmless_differences(world, tmp_path):
    """Another attribute is a warning; the target keeps its own. So are other old values."""
    store = write(tmp_path / "a.zarr", 0, 7)
    world.ingest(store)
    grow(store, 0, 7, 9)
    root = zarr.open_group(store, mode="a")
    root["air"].attrs["long_name"] = "air temperature"
    root["time"][2] = 100
    report = world.ingest(store, **APPEND)
    assert any("/air" in text and "attributes have changed" in text for text in report.warnings)
    assert any("other values" in text and "/time" in text for text in report.warnings)
    result = world.dataset(decode_times=False)
    assert "long_name" not in result["air"].attrs
    np.testing.assert_array_equal(result["time"], np.arange(9))


def test_units_that_the_source_has_changed(world, tmp_path):
    """The copied coordinate of a source that counts otherwise now is expressed in the target's units."""
    store = write(tmp_path / "a.zarr", 0, 7)
    world.ingest(store)
    write(tmp_path / "b.zarr", 0, 9, units="days since 1999-01-01")
    grow(store, 0, 7, 9)
    root, other = (zarr.open_group(tmp_path / name, mode="a") for name in ("a.zarr", "b.zarr"))
    root["time"][:] = other["time"][:]
    root["time"].attrs["units"] = "days since 1999-01-01"
    report = world.ingest(store, **APPEND)
    assert not any("other values" in text for text in report.warnings)
    np.testing.assert_array_equal(world.dataset(decode_times=False)["time"], np.arange(9))


def test_after_a_region(world, tmp_path):
    """Where the target begins in the source is read from the references."""
    store = write(tmp_path / "a.zarr", 0, 30, month=7)
    world.ingest(store, region={"time": slice(12, 24)})
    assert_same(world.dataset(), source(store, time=slice(12, 24)))
    world.ingest(store, **APPEND)
    assert_same(world.dataset(), source(store, time=slice(12, None)))


@pytest.mark.parametrize("month", [6, 7])
def test_bounded_by_a_region(world, tmp_path, month):
    """It begins at the recorded end and ends on a chunk; the rest can follow."""
    store = write(tmp_path / "a.zarr", 0, 40, month=month)
    world.ingest(store, region={"time": slice(0, 12)})
    for wrong in (slice(13, 24), slice(11, 24), slice(0, 10), slice(12, 13), slice(12, 30)):
        with pytest.raises(RegionError, match="time"):
            world.ingest(store, region={"time": wrong}, **APPEND)
    for part in (slice(12, 24), slice(None, 36)):
        world.ingest(store, region={"time": part}, **APPEND)
        assert_same(world.dataset(), source(store, time=slice(0, part.stop)))
        assert world.ingest(store, region={"time": part}, **APPEND).commits == 0
    world.ingest(store, region={"time": slice(36, None)}, **APPEND)
    assert_same(world.dataset(), source(store))


def test_of_a_part_of_another_dimension(world, tmp_path):
    """The target holds half of the places: their part is appended, if one says so."""
    store = write(tmp_path / "a.zarr", 0, 12)
    world.ingest(store, region={"x": slice(0, 4)}, arrays=["wind", "time", "x"])
    grow(store, 0, 12, 14)
    world.ingest(store, arrays=["wind", "time", "x"], **APPEND)
    names = ["air", "holes", "time", "x", "height"]
    half = world_half(world)
    half.ingest(store, region={"x": slice(2, 4)}, arrays=names)
    grow(store, 0, 14, 17)
    half.ingest(store, arrays=names, **APPEND)
    assert_same(half.dataset(), source(store, x=slice(2, 4))[names].drop_vars("month"))
    first = world_half(world, "first")
    first.ingest(store, region={"x": slice(0, 2)}, arrays=names)
    grow(store, 0, 17, 18)
    with pytest.raises(MismatchError, match="--region x"):
        first.ingest(store, arrays=names, **APPEND)
    first.ingest(store, arrays=names, region={"x": slice(0, 2)}, **APPEND)
    assert_same(first.dataset(), source(store, x=slice(0, 2))[names].drop_vars("month"))


def world_half(world, name="half"):
    """Return the same core with another target."""
    other = type(world)(world.folder, world.fake)
    other.target = world.folder / name
    return other


def test_nothing_but_fill_values(world, tmp_path):
    """An array without any chunk, and a coordinate whose only value is its fill value."""
    store = tmp_path / "a.zarr"
    root = zarr.open_group(store, mode="w")
    for name, fill in (("time", 0), ("empty", 0), ("air", -1)):
        array = root.create_array(
            name, shape=(1,), chunks=(2,), dtype="i4", fill_value=fill, dimension_names=("time",)
        )
        array[:] = 0
    world.ingest(store)
    for array in (root["time"], root["empty"], root["air"]):
        array.resize((5,))
        array[1:] = np.arange(1, 5)
    world.ingest(store, **APPEND)
    for name in ("time", "empty", "air"):
        np.testing.assert_array_equal(world.array(name)[:], root[name][:])


def test_coordinates_that_are_referenced(world, tmp_path):
    """Without any copied array, and with one that is copied besides."""
    store = write(tmp_path / "a.zarr", 0, 8)
    world.ingest(store, loadable_variables=["air"])
    grow(store, 0, 8, 12)
    # Which arrays are copied was decided by the first ingest.
    world.ingest(store, **APPEND)
    assert_same(world.dataset(), source(store))


def test_another_array_of_the_target_keeps_its_length(world, tmp_path):
    """Merged of two stores, one grows first, then the other; the coordinate grows but once."""
    one = write(tmp_path / "a.zarr", 0, 8, names=("air",))
    two = write(tmp_path / "b.zarr", 0, 8, names=("wind",))
    world.ingest([one, two], arrays=["air", "wind", "time", "x"])
    grow(one, 0, 8, 12)
    grow(two, 0, 8, 12)
    with pytest.raises(TargetNotFoundError, match=r"/(crs|height|month)"):
        world.ingest(one, **APPEND)
    world.ingest(one, arrays=["air", "time"], **APPEND)
    world.ingest(two, arrays=["wind", "time"], **APPEND)
    assert world.array("wind").shape == world.array("air").shape == (12, 4)
    np.testing.assert_array_equal(world.dataset(decode_times=False)["time"], np.arange(12))


def test_an_array_that_has_left_the_source(world, tmp_path):
    """It keeps its length, with a warning that names it."""
    import shutil

    store = write(tmp_path / "a.zarr", 0, 8)
    world.ingest(store)
    grow(store, 0, 8, 12)
    shutil.move(store / "wind", tmp_path / "wind")
    report = world.ingest(store, **APPEND)
    assert [text for text in report.warnings if "/wind" in text and "keeps its length" in text]
    shutil.move(tmp_path / "wind", store / "wind")
    assert (world.array("air").shape[0], world.array("wind").shape[0]) == (12, 8)


def test_after_snapshots_were_expired(tmp_path, monkeypatch):
    """Where references come from is read from them, not from commit properties."""
    from datetime import UTC, datetime, timedelta

    world = world_of("icechunk", tmp_path, monkeypatch)
    store = write(tmp_path / "a.zarr", 0, 30)
    world.ingest(store, region={"time": slice(12, 24)})
    grow(store, 0, 30, 31)
    world.ingest(store, **APPEND)
    repository = world.repository()
    repository.expire_snapshots(datetime.now(UTC) + timedelta(seconds=1))
    repository.garbage_collect(datetime.now(UTC) + timedelta(seconds=1))
    grow(store, 0, 31, 33)
    world.ingest(store, **APPEND)
    assert_same(world.dataset(), source(store, time=slice(12, None)))


def test_rewritten_chunks_stay_as_they_were_recorded(tmp_path, monkeypatch):
    """Append does not look at old chunks: one that has changed cannot be read until it is updated."""
    world = world_of("icechunk", tmp_path, monkeypatch)
    store = write(tmp_path / "a.zarr", 0, 12)
    world.ingest(store)
    rewrite(store, "air", slice(0, 1), 5.0)
    grow(store, 0, 12, 14)
    world.ingest(store, **APPEND)
    np.testing.assert_array_equal(world.array("air")[12:], values("air", [12, 13]))
    with pytest.raises(Exception, match=r"checksum|modified|changed"):
        world.array("air")[0]
    world.ingest(store, mode="update", region={"time": slice(0, 12)})
    assert_same(world.dataset(), source(store))


def test_a_coordinate_of_many_chunks(world, tmp_path, monkeypatch):
    """What an append costs does not grow with the copied coordinate: old chunks are not read."""
    store = tmp_path / "a.zarr"
    root = zarr.open_group(store, mode="w")
    for name, chunk in (("time", 1), ("air", 50)):
        array = root.create_array(
            name, shape=(150,), chunks=(chunk,), dtype="i4", dimension_names=("time",)
        )
        array[:] = np.arange(150)
    world.ingest(store)
    for name in ("time", "air"):
        root[name].append(np.arange(150, 153, dtype="i4"))
    monkeypatch.setattr(Target, "chunks", None)
    world.ingest(store, **APPEND)
    for name in ("time", "air"):
        np.testing.assert_array_equal(world.array(name)[:], np.arange(153))


def test_dry_run(world, tmp_path):
    """A plan of what would be listed; nothing is written."""
    store = write(tmp_path / "a.zarr", 0, 14)
    world.ingest(store)
    tip = world.tip()
    grow(store, 0, 14, 16)
    plan = world.ingest(store, dry_run=True, **APPEND)
    assert isinstance(plan, refreeze.Plan)
    arrays = {array.path: array for array in plan.arrays}
    assert (arrays["/air"].chunks_in_region, arrays["/time"].list_requests) == (4, 0)
    assert arrays["/air"].region == {"time": (12, 16)}
    assert world.tip() == tip
    world.ingest(store, **APPEND)
    nothing = world.ingest(store, dry_run=True, **APPEND)
    assert (nothing.arrays, nothing.totals.commits) == ((), 0)
