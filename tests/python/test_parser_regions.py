"""`ZarrParser(region=...)`: the region's shape, keys from zero, its chunks and no others, at its cost and no more."""

import itertools
import math
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from obspec_utils.registry import ObjectStoreRegistry

import refreeze
from endpoint import PAGE, array
from parser_stores import LAYOUTS, SLASH, add_array, open_virtual, read, registry_of, write_climate
from refreeze.exceptions import RegionError


def manifests(url, registry, region, **options):
    """Parse and return the arrays' manifests as dictionaries of locations."""
    found = refreeze.ZarrParser(region=region, **options)(str(url), registry)
    return {
        name: {key: entry["path"] for key, entry in array.manifest.dict().items()}
        for name, array in found._group.arrays.items()
    }


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_keys_begin_at_zero_and_paths_stay(tmp_path, layout):
    """Chunk 2 of the source is chunk 0 of a region that begins there."""
    group = zarr.open_group(tmp_path / "s.zarr", mode="w", zarr_format=layout.zarr_format)
    data = np.arange(1, 61).reshape(12, 5)
    add_array(group, "air", data, (2, 2), ("time", "x"), layout=layout, fill_value=0)
    region = {"time": slice(4, 8), "x": slice(2, None)}
    parser = refreeze.ZarrParser(region=region)
    found = manifests(tmp_path / "s.zarr", registry_of(tmp_path), region)["air"]
    base = f"file://{tmp_path}/s.zarr/air"
    expected = {f"{i}.{j}": f"{base}/{layout.key((i + 2, j + 1))}" for i in (0, 1) for j in (0, 1)}
    assert found == expected
    result = read(tmp_path / "s.zarr", registry_of(tmp_path), parser)["air"]
    assert result.shape == (4, 3)
    assert result.chunks == (2, 2)
    np.testing.assert_array_equal(result, data[4:8, 2:])


def test_only_the_region_is_listed(serve):
    """A million chunks: a region of seven pages' worth costs seven pages and the proof of the end."""
    endpoint = serve(array("air", 1000, 1000), groups=[""])
    registry = ObjectStoreRegistry({"s3://bucket": endpoint.store()})
    parser = refreeze.ZarrParser(region={"dim_0": slice(200, 207)})
    parser("s3://bucket", registry)
    endpoint.reset()
    found = parser("s3://bucket", registry)
    stats = endpoint.stats()
    assert found._group.arrays["air"].manifest.shape_chunk_grid == (7, 1000)
    assert len(found._group.arrays["air"].manifest.dict()) == 7 * PAGE
    metadata = 2
    assert stats["list"] <= 7 + 2 + metadata
    assert stats["keys"] <= (7 + 2) * PAGE


def test_what_is_held_depends_on_the_region(serve):
    """Three chunks of 10^15 possible ones: three references, a handful of requests."""
    endpoint = serve(array("air", 100_000, 100_000, 100_000), groups=[""])
    registry = ObjectStoreRegistry({"s3://bucket": endpoint.store()})
    region = {"dim_0": slice(7, 8), "dim_1": slice(99_999, 100_000), "dim_2": slice(10, 13)}
    found = manifests("s3://bucket", registry, region)["air"]
    assert found == {f"0.0.{k}": f"s3://bucket/air/c/7/99999/{10 + k}" for k in range(3)}
    assert endpoint.stats()["list"] < 12


def test_coordinates_are_cut(tmp_path):
    """Lengths match with loadable variables, all virtual, and whatever is loaded."""
    source, registry = write_climate(tmp_path / "s.zarr", SLASH), registry_of(tmp_path)
    region = {"time": slice(60, 84)}
    expected = zarr.open_group(source)
    for loadable in (None, [], ["time", "t2m"], ["month", "pressure"]):
        parser = refreeze.ZarrParser(region=region)
        dataset = open_virtual(source, registry, parser, loadable_variables=loadable)
        assert dataset.sizes == {"time": 24, "x": 5, "level": 2}
    group = read(source, registry, parser)
    for name in ("time", "month", "t2m", "count", "pressure"):
        np.testing.assert_array_equal(group[name], expected[name][60:84])
    for name in ("orography", "x", "crs"):
        np.testing.assert_array_equal(group[name][...], expected[name][...])
    for name in expected:
        assert group[name].attrs == expected[name].attrs
        assert group[name].metadata.codecs == expected[name].metadata.codecs
        assert group[name].metadata.dimension_names == expected[name].metadata.dimension_names


def test_the_whole_dimension_is_referenced(tmp_path):
    """A region of everything needs no cut: coordinates are references as they are without a region."""
    source, registry = write_climate(tmp_path / "s.zarr", SLASH), registry_of(tmp_path)
    whole = manifests(source, registry, None)
    for region in ({"time": slice(None)}, {"time": slice(0, 10**9)}, {"time": slice(-105, None)}):
        assert manifests(source, registry, region) == whole


def test_aligned_coordinates_are_referenced(tmp_path):
    """Nothing is read or copied when chunks fit."""
    group = zarr.open_group(tmp_path / "s.zarr", mode="w")
    add_array(group, "air", np.arange(1, 13), (4,), ("time",), fill_value=0)
    add_array(group, "time", np.arange(1, 13), (2,), ("time",), fill_value=0)
    found = manifests(tmp_path / "s.zarr", registry_of(tmp_path), {"time": slice(4, 8)})
    base = f"file://{tmp_path}/s.zarr/time/c"
    assert found["time"] == {"0": f"{base}/2", "1": f"{base}/3"}


@pytest.mark.parametrize("dtype", ["i8", ">i4", "f4", "M8[ns]", "S5", "U4", "bool", "str"])
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings(
    "ignore:array time. xarray masks its fill value in version 2:UserWarning"
)
def test_inlined_coordinates_of_every_type(tmp_path, dtype, zarr_format):
    """What is read and encoded again decodes to the same."""
    layout = next(layout for layout in LAYOUTS if layout.zarr_format == zarr_format)
    group = zarr.open_group(tmp_path / "s.zarr", mode="w", zarr_format=zarr_format)
    add_array(group, "air", np.arange(1, 13), (2,), ("time",), layout=layout, fill_value=0)
    if dtype == "str":
        values = np.array([f"step {number}" for number in range(12)], np.dtypes.StringDType())
    elif dtype == "M8[ns]":
        values = np.arange(12).astype("M8[D]").astype(dtype)
    else:
        values = np.arange(12).astype(dtype)
    add_array(group, "time", values, (12,), ("time",), layout=layout)
    parser = refreeze.ZarrParser(region={"time": slice(2, 8)})
    found = read(tmp_path / "s.zarr", registry_of(tmp_path), parser)["time"]
    np.testing.assert_array_equal(found[:], group["time"][2:8])


def test_a_sharded_coordinate(tmp_path):
    """Its slice is no shard any more."""
    group = zarr.open_group(tmp_path / "s.zarr", mode="w")
    add_array(group, "air", np.arange(1, 13), (3,), ("time",), fill_value=0)
    add_array(group, "time", np.arange(100, 112), (2,), ("time",), shards=(12,), fill_value=0)
    parser = refreeze.ZarrParser(region={"time": slice(3, 9)})
    found = read(tmp_path / "s.zarr", registry_of(tmp_path), parser)["time"]
    np.testing.assert_array_equal(found, np.arange(103, 109))
    assert found.shards is None


def test_coordinates_with_missing_chunks(tmp_path):
    """They read as the fill value, and are not written."""
    group = zarr.open_group(tmp_path / "s.zarr", mode="w")
    add_array(group, "air", np.arange(1, 13), (2,), ("time",), fill_value=0)
    time = add_array(group, "time", np.arange(12), (5,), ("time",), write=False, fill_value=-1)
    time[5:] = np.arange(5, 12)
    found = refreeze.ZarrParser(region={"time": slice(2, 8)})(
        str(tmp_path / "s.zarr"), registry_of(tmp_path)
    )
    values = zarr.open_group(found, mode="r")["time"][:]
    np.testing.assert_array_equal(values, [-1, -1, -1, 5, 6, 7])
    assert set(found._group.arrays["time"].manifest.dict()) == {"1", "2"}


def test_dimensions_without_names(tmp_path):
    """They are addressed by their place; every array that has so many takes part."""
    group = zarr.open_group(tmp_path / "s.zarr", mode="w")
    data = np.arange(1, 49).reshape(8, 6)
    add_array(group, "a", data, (2, 3), None, fill_value=0)
    add_array(group, "b", data[0], (3,), None, fill_value=0)
    region = {"dim_0": slice(2, 6), "dim_1": slice(3, 6)}
    with pytest.raises(RegionError, match=r"stop|start"):
        manifests(tmp_path / "s.zarr", registry_of(tmp_path), region)
    parser = refreeze.ZarrParser(region=region, skip_variables=["b"])
    found = read(tmp_path / "s.zarr", registry_of(tmp_path), parser)
    np.testing.assert_array_equal(found["a"], data[2:6, 3:6])


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ({"time": slice(0, 4)}, r"stop 4 along time is inside a chunk of array /count .* 3 and 6"),
        ({"time": slice(2, 6)}, r"start 2 along time is inside a chunk of array /count .* 0 and 3"),
        ({"time": slice(6, 6)}, "empty along time"),
        ({"time": slice(12, 6)}, "empty along time"),
        ({"time": slice(500, 600)}, "empty along time"),
        ({"time": slice(0, 12, 2)}, "step along time is 2"),
        ({"time": slice(0, 12, 0)}, "step along time is 0"),
        ({"lat": slice(0, 1)}, r"no array has the dimension lat\nhint: dimensions: level, time, x"),
        ({"time": slice(0, 6), "x": slice(1, 5)}, "start 1 along x"),
    ],
)
def test_regions_that_do_not_fit(tmp_path, serve, region, said):
    """RegionError before anything is listed, with what would be legal."""
    source = write_climate(tmp_path / "s.zarr", SLASH)
    with pytest.raises(RegionError) as raised:
        refreeze.ZarrParser(region=region)(str(source), registry_of(tmp_path))
    assert re.search(said, str(raised.value))


def test_nothing_is_listed_when_one_array_does_not_fit(serve):
    """The first array fits and is not asked for either."""
    arrays = [array("a", 50, 50, chunk=2), array("b", 50, 50, chunk=3)]
    endpoint = serve(*arrays)
    registry = ObjectStoreRegistry({"s3://bucket": endpoint.store()})
    endpoint.set(log=True)
    endpoint.reset()
    with pytest.raises(RegionError, match="array /b"):
        refreeze.ZarrParser(region={"dim_0": slice(0, 4)})("s3://bucket", registry)
    assert not [request for request in endpoint.log() if request["prefix"].strip("/") in {"a", "b"}]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_the_separator_that_appending_needs(tmp_path, layout):
    """A slash with a region, VirtualiZarr's dot without one."""
    source, registry = write_climate(tmp_path / "s.zarr", layout), registry_of(tmp_path)
    for region, separator in ((None, "."), ({"time": slice(0, 6)}, "/")):
        found = refreeze.ZarrParser(region=region)(str(source), registry)._group
        for array_ in found.arrays.values():
            encoding = array_.metadata.chunk_key_encoding
            assert (encoding.name, encoding.separator) == ("default", separator)


@st.composite
def cases(draw):
    """Draw a layout, a grid, which chunks exist, and a region that is aligned."""
    layout = draw(st.sampled_from(LAYOUTS))
    ndim = draw(st.integers(1, 3))
    chunks = draw(st.tuples(*[st.integers(1, 3)] * ndim))
    grid = draw(st.tuples(*[st.integers(1, 12 if ndim < 3 else 5)] * ndim))
    shape = tuple(
        draw(st.integers((n - 1) * c + 1, n * c)) for n, c in zip(grid, chunks, strict=True)
    )
    everywhere = list(itertools.product(*map(range, grid)))
    present = draw(
        st.one_of(st.just(everywhere), st.lists(st.sampled_from(everywhere), unique=True))
    )
    box = []
    for extent in grid:
        start = draw(st.integers(0, extent - 1))
        box.append((start, draw(st.integers(start + 1, extent))))
    named = draw(st.lists(st.sampled_from(range(ndim)), unique=True))
    return (
        layout,
        shape,
        chunks,
        present,
        [box[i] if i in named else (0, grid[i]) for i in range(ndim)],
        named,
    )


@given(cases())
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_against_a_brute_force(case):
    """Every chunk of the region that exists, by asking the file system for each possible one."""
    layout, shape, chunks, present, box, named = case
    dims = [f"d{axis}" for axis in range(len(shape))]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        group = zarr.open_group(root / "s.zarr", mode="w", zarr_format=layout.zarr_format)
        add_array(
            group,
            "air",
            np.broadcast_to(np.uint8(0), shape),
            chunks,
            dims,
            layout=layout,
            write=False,
        )
        for coords in present:
            file = root / "s.zarr" / "air" / layout.key(coords)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"x" * (1 + sum(coords)))
        region = {}
        for axis in named:
            start, end = box[axis]
            stop = min(end * chunks[axis], shape[axis])
            region[dims[axis]] = slice(start * chunks[axis], stop)
        found = refreeze.ZarrParser(region=region or None)(str(root / "s.zarr"), registry_of(root))
        manifest = found._group.arrays["air"].manifest
        expected = {}
        for local in itertools.product(*(range(end - start) for start, end in box)):
            coords = tuple(start + at for (start, _), at in zip(box, local, strict=True))
            file = root / "s.zarr" / "air" / layout.key(coords)
            if file.is_file():
                expected[".".join(map(str, local))] = {
                    "path": f"file://{file}",
                    "offset": 0,
                    "length": file.stat().st_size,
                }
        assert manifest.dict() == expected
        assert manifest.shape_chunk_grid == tuple(end - start for start, end in box)
        lengths = [
            min(end * c, n) - start * c
            for (start, end), c, n in zip(box, chunks, shape, strict=True)
        ]
        assert found._group.arrays["air"].shape == tuple(lengths)
        assert len(manifest) == math.prod(end - start for start, end in box)
