"""Regions as users give them: what is legal, what is not, and what the errors say."""

import re

import numpy as np
import pyarrow as pa
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import LocalStore, MemoryStore

import refreeze
from refreeze.exceptions import RefreezeError, RegionError
from refreeze.metadata.region import bounds_of, parse_region

LENGTHS = {"time": (100, 24), "dim_1": (9, 3)}


@pytest.fixture(scope="module")
def store():
    """Hold an array of 100 by 9 in chunks of 24 by 3; the second dimension has no name."""
    memory = MemoryStore()
    array = zarr.create_array(
        zarr.storage.ObjectStore(memory),
        name="air",
        shape=(100, 9),
        chunks=(24, 3),
        dtype="u1",
        dimension_names=("time", None),
    )
    array[:] = 1
    return memory


def found(store, region):
    table = pa.table(refreeze.list_chunks(store, "air", region=region))
    return sorted(tuple(c) for c in table["chunk"].to_pylist())


@pytest.mark.parametrize(
    ("region", "rows", "columns"),
    [
        (None, range(5), range(3)),
        ({"time": slice(None)}, range(5), range(3)),
        ({"time": slice(24, 72)}, range(1, 3), range(3)),
        ({"time": slice(24, 72, 1)}, range(1, 3), range(3)),
        ({"time": slice(96, 100)}, range(4, 5), range(3)),
        ({"time": slice(96, 10**30)}, range(4, 5), range(3)),
        ({"time": slice(-(10**30), 24)}, range(1), range(3)),
        ({"time": slice(-4, None)}, range(4, 5), range(3)),
        ({"time": slice(-100, -4)}, range(4), range(3)),
        ({"dim_1": slice(3, 6)}, range(5), range(1, 2)),
        ({"dim_1": slice(6, None), "time": slice(None, 24)}, range(1), range(2, 3)),
        ({"time": slice(np.int64(24), np.uint8(48))}, range(1, 2), range(3)),
    ],
)
def test_legal(store, region, rows, columns):
    """Slices follow Python's rules, and coordinates are those of the whole grid."""
    assert found(store, region) == [(row, column) for row in rows for column in columns]


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ({"time": slice(10, None)}, ["start 10", "time", "air", "24", "0 and 24"]),
        ({"time": slice(None, 97)}, ["stop 97", "time", "96 and 100"]),
        ({"time": slice(-5, None)}, ["start 95", "72 and 96"]),
        ({"dim_1": slice(0, 4)}, ["stop 4", "dim_1", "3 and 6"]),
        ({"time": slice(24, 24)}, ["empty", "time", "24:24"]),
        ({"time": slice(48, 24)}, ["empty", "48:24"]),
        ({"time": slice(100, None)}, ["empty", "time", "100"]),
        ({"time": slice(10**30, None)}, ["empty", "time"]),
        ({"time": slice(0, 24, 2)}, ["step", "time", "2"]),
        ({"time": slice(24, 0, -1)}, ["step", "time", "-1"]),
        ({"time": slice(0, 24, 10**30)}, ["step", "time"]),
        ({"lat": slice(0, 24)}, ["lat", "time", "dim_1"]),
        ({"dim_0": slice(0, 24)}, ["dim_0", "time", "dim_1"]),
        ({"Time": slice(0, 24)}, ["Time"]),
        ({}, ["no dimension"]),
    ],
)
def test_illegal(store, region, said):
    """A `RegionError` naming the dimension, the bound and the nearest legal bounds."""
    with pytest.raises(RegionError) as raised:
        refreeze.list_chunks(store, "air", region=region)
    assert isinstance(raised.value, ValueError)
    assert isinstance(raised.value, RefreezeError)
    for word in said:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    "region",
    [
        5,
        "time=0:24",
        [("time", slice(0, 24))],
        slice(0, 24),
        {"time": 5},
        {"time": (0, 24)},
        {"time": None},
        {0: slice(0, 24)},
        {"time": slice(0.0, 24.0)},
        {"time": slice("0", "24")},
        {"time": slice(np.datetime64("2000"), None)},
        {"time": slice(0, 24, 1.0)},
    ],
)
def test_wrong_types(store, region):
    """`TypeError`, before anything is read."""
    with pytest.raises(TypeError):
        refreeze.list_chunks(store, "air", region=region)


def test_scalars_and_empty_dimensions():
    """They have nothing to cut."""
    memory = MemoryStore()
    root = zarr.create_group(zarr.storage.ObjectStore(memory))
    root.create_array("scalar", shape=(), dtype="u1")
    root.create_array("none", shape=(0, 4), chunks=(1, 2), dtype="u1")
    with pytest.raises(RegionError, match="none"):
        refreeze.list_chunks(memory, "scalar", region={"dim_0": slice(None)})
    with pytest.raises(RegionError, match="empty"):
        refreeze.list_chunks(memory, "none", region={"dim_0": slice(None)})
    assert list(refreeze.list_chunks(memory, "none")) == []
    assert list(refreeze.list_chunks(memory, "none", region={"dim_1": slice(0, 2)})) == []


bounds = st.none() | st.integers(-120, 120)


@given(bounds, bounds)
def test_nearest_bounds_are_legal(store, start, stop):
    """Either a slice is taken as Python takes it, or the bounds that the error offers are."""
    first, last, _ = slice(start, stop).indices(100)
    legal = first < last and first % 24 == 0 and (last % 24 == 0 or last == 100)
    region = {"time": slice(start, stop)}
    if legal:
        rows = range(first // 24, -(-last // 24))
        assert found(store, region) == [(row, column) for row in rows for column in range(3)]
        return
    with pytest.raises(RegionError) as raised:
        found(store, region)
    offered = re.search(r"bounds are (\d+) and (\d+)", str(raised.value))
    if offered:
        below, above = map(int, offered.groups())
        assert below < above
        bad = first if "start" in str(raised.value) else last
        assert below < bad < above
        assert found(store, {"time": slice(below, above)})
    else:
        assert "empty" in str(raised.value)
        assert first >= last


def test_the_command_line_s_form():
    """`DIM=START:STOP`, either bound may be left out."""
    assert parse_region([]) is None
    assert parse_region(["time=0:240", "x=-5:"]) == {"time": slice(0, 240), "x": slice(-5, None)}
    assert parse_region(["a=b=:"]) == {"a=b": slice(None, None)}
    for bad in (
        "time",
        "=0:1",
        "time=0",
        "time=0:1:2",
        "time=a:b",
        "time=-:1",
        "time=1e3:",
        "t= 0:1",
    ):
        with pytest.raises(ValueError, match="DIM=START:STOP"):
            parse_region([bad])
    with pytest.raises(ValueError, match="twice"):
        parse_region(["t=0:1", "t=1:2"])
    assert bounds_of(None) == {}


def test_names_of_version_2(tmp_path):
    """`_ARRAY_DIMENSIONS` names dimensions; without it they are dim_0, dim_1, …."""
    root = zarr.create_group(tmp_path, zarr_format=2)
    attributes = {"_ARRAY_DIMENSIONS": ["y", "x"]}
    for name, options in (("named", {"attributes": attributes}), ("plain", {})):
        root.create_array(name, shape=(4, 4), chunks=(2, 2), dtype="u1", **options)[:] = 1
    store = LocalStore(tmp_path)
    for name, dimension in (("named", "y"), ("plain", "dim_0")):
        stream = refreeze.list_chunks(store, name, region={dimension: slice(2, 4)})
        assert pa.table(stream).num_rows == 2
    with pytest.raises(RegionError, match="y, x"):
        refreeze.list_chunks(store, "named", region={"dim_0": slice(2, 4)})
