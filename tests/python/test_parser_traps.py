"""What corrupts data in silence elsewhere: each trap ends in the right values or in an error that says what is wrong."""

import itertools
import shutil

import numpy as np
import obstore
import pytest
import xarray as xr
import zarr
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import LocalStore, MemoryStore
from virtualizarr.parsers import ZarrParser as TheirParser

import refreeze
from endpoint import array
from parser_stores import (
    LAYOUTS,
    SLASH,
    Layout,
    add_array,
    append_regions,
    new_repository,
    open_repository,
    open_source,
    open_virtual,
    read,
    registry_of,
)
from refreeze.exceptions import RegionError, SourceNotFoundError, UnsupportedArrayError

V2_KEYS = [Layout(3, "v2", "."), Layout(3, "v2", "/")]


def write(folder, layout=SLASH, name="air", shape=(12, 6), chunks=(2, 3), **options):
    """Write one array of numbers from 1 on, and return them."""
    group = zarr.open_group(folder, mode="a", zarr_format=layout.zarr_format)
    data = np.arange(1, 1 + np.prod(shape), dtype="i4").reshape(shape)
    options.setdefault("fill_value", 0)
    add_array(group, name, data, chunks, ["time", "x"][: len(shape)], layout=layout, **options)
    return data


def test_a_stop_inside_a_chunk(tmp_path):
    """RegionError: dimension, bound, array, and the nearest legal bounds."""
    write(tmp_path / "s.zarr")
    parser = refreeze.ZarrParser(region={"time": slice(0, 5)})
    with pytest.raises(RegionError, match=r"stop 5 along time.*array /air.*4 and 6"):
        parser(str(tmp_path / "s.zarr"), registry_of(tmp_path))


def test_a_start_inside_a_chunk(tmp_path):
    """The same for the start."""
    write(tmp_path / "s.zarr")
    parser = refreeze.ZarrParser(region={"time": slice(3, 6)})
    with pytest.raises(RegionError, match=r"start 3 along time.*array /air.*2 and 4"):
        parser(str(tmp_path / "s.zarr"), registry_of(tmp_path))


def test_appending_after_a_ragged_last_chunk(tmp_path):
    """A region cannot begin behind a chunk that is not full: the source has grown, 7 is inside of a chunk."""
    write(tmp_path / "s.zarr", shape=(7, 6))
    shutil.rmtree(tmp_path / "s.zarr")
    data = write(tmp_path / "s.zarr", shape=(12, 6))
    url, registry = str(tmp_path / "s.zarr"), registry_of(tmp_path)
    with pytest.raises(RegionError, match=r"start 7 along time.*6 and 8"):
        refreeze.ZarrParser(region={"time": slice(7, 12)})(url, registry)
    regions = refreeze.regions(url, registry, dim="time", max_refs=8)
    assert all(region["time"].start % 2 == 0 for region in regions)
    repository = new_repository(tmp_path)
    append_regions(repository, url, registry, "time", 8)
    np.testing.assert_array_equal(open_repository(repository, mask_and_scale=False)["air"], data)


def test_sharded_arrays_follow_shards(tmp_path):
    """A bound on an inner chunk's boundary inside a shard is refused; on a shard's it reads right."""
    data = write(tmp_path / "s.zarr", shards=(4, 6), chunks=(2, 3))
    url, registry = str(tmp_path / "s.zarr"), registry_of(tmp_path)
    with pytest.raises(RegionError, match=r"stop 6 along time.*4 and 8"):
        refreeze.ZarrParser(region={"time": slice(0, 6)})(url, registry)
    parser = refreeze.ZarrParser(region={"time": slice(4, 12)})
    store = parser(url, registry)
    assert store._group.arrays["air"].manifest.shape_chunk_grid == (2, 1)
    np.testing.assert_array_equal(read(url, registry, parser)["air"], data[4:])


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("region", [None, {"time": slice(2, 10)}], ids=["whole", "region"])
def test_stray_files(tmp_path, layout, region):
    """A README, a backup, keys of no chunk: ignored, with one warning for the array that gives an example."""
    data = write(tmp_path / "s.zarr", layout)
    folder = tmp_path / "s.zarr" / "air"
    prefix = "" if layout.encoding == "v2" else "c" + layout.separator
    strays = [
        "README",
        "zarr.json.bak",
        f"{prefix}00{layout.separator}0",
        f"{prefix}+1{layout.separator}0",
    ]
    strays += [
        f"{prefix}0_1{layout.separator}0",
        f"{prefix}-1{layout.separator}0",
        f"{prefix}٣{layout.separator}0",
    ]
    for stray in strays:
        (folder / stray).parent.mkdir(parents=True, exist_ok=True)
        (folder / stray).write_bytes(b"stray")
    with pytest.warns(UserWarning, match=r"array /air: \d+ keys? below it are not chunks") as noted:
        group = read(tmp_path / "s.zarr", registry_of(tmp_path), refreeze.ZarrParser(region=region))
    assert len(noted) == 1
    np.testing.assert_array_equal(group["air"], data[(region or {}).get("time", slice(None))])
    manifest = group.store._group.arrays["air"].manifest
    assert all(entry["length"] != len(b"stray") for entry in manifest.dict().values())


@pytest.mark.parametrize("odd", ["00", "+1", "0_1", " 1", "1 ", "٣"])
def test_keys_that_int_would_read(tmp_path, odd):
    """`int` takes all of them for numbers, so that they would replace or invent chunks."""
    store = MemoryStore()
    group = zarr.open_group(zarr.storage.ObjectStore(store), mode="w")
    data = np.arange(1, 41, dtype="i4")
    add_array(group, "air", data, (1,), ("time",), fill_value=0)
    obstore.put(store, f"air/c/{odd}", b"stray")
    registry = ObjectStoreRegistry({"memory://": store})
    with pytest.warns(UserWarning, match="not chunks"):
        found = read("memory://", registry, refreeze.ZarrParser())
    np.testing.assert_array_equal(found["air"], data)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_keys_outside_a_shrunk_grid(tmp_path, layout):
    """Chunks of a former, larger shape are no chunks of this one."""
    data = write(tmp_path / "s.zarr", layout)
    array = zarr.open_array(tmp_path / "s.zarr", path="air", mode="r+")
    leftovers = tmp_path / "kept"
    shutil.copytree(tmp_path / "s.zarr" / "air", leftovers)
    array.resize((6, 3))
    # zarr deletes what is outside; other writers do not.
    for file in leftovers.rglob("*"):
        target = tmp_path / "s.zarr" / "air" / file.relative_to(leftovers)
        if file.is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    with pytest.warns(UserWarning, match="not chunks"):
        group = read(tmp_path / "s.zarr", registry_of(tmp_path), refreeze.ZarrParser())
    np.testing.assert_array_equal(group["air"], data[:6, :3])


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_an_empty_chunk(tmp_path, layout):
    """An object of no bytes cannot be decoded: an error that names it, unless it is outside the region."""
    data = write(tmp_path / "s.zarr", layout)
    (tmp_path / "s.zarr" / "air" / layout.key((5, 1))).write_bytes(b"")
    url, registry = str(tmp_path / "s.zarr"), registry_of(tmp_path)
    with pytest.raises(UnsupportedArrayError, match=r"air.*5.1 of array /air is an empty object"):
        refreeze.ZarrParser()(url, registry)
    with pytest.raises(UnsupportedArrayError, match=r"5.1 of array /air is an empty object"):
        refreeze.ZarrParser(region={"time": slice(8, 12)})(url, registry)
    parser = refreeze.ZarrParser(region={"time": slice(0, 10)})
    np.testing.assert_array_equal(read(url, registry, parser)["air"], data[:10])


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_directory_markers(layout, serve):
    """Empty objects that end in a slash, as consoles and sync tools make them, on S3."""
    markers = [{"key": key} for key in ("air/", "air/c/", "air/c/0/", "air/0/", "air/1/")]
    encoding = {"encoding": layout.encoding, "separator": layout.separator}
    is_v2 = {"v2": layout.zarr_format == 2}
    root = {"key": ".zgroup", "json": {"zarr_format": 2}} if layout.zarr_format == 2 else None
    groups = [] if root else [""]
    objects = [*markers, root] if root else markers
    endpoint = serve(array("air", 4, 3, zarr=is_v2, **encoding), objects=objects, groups=groups)
    registry = ObjectStoreRegistry({"s3://bucket": endpoint.store()})
    with pytest.warns(UserWarning, match="array /air: .* not chunks"):
        found = refreeze.ZarrParser()("s3://bucket", registry)
    manifest = found._group.arrays["air"].manifest.dict()
    expected = {
        ".".join(map(str, at)): f"s3://bucket/air/{layout.key(at)}"
        for at in itertools.product(range(4), range(3))
    }
    assert {key: entry["path"] for key, entry in manifest.items()} == expected


def test_directory_markers_in_a_store_in_memory():
    """The slash is stripped by obstore, so that the marker of a folder looks like a chunk of fewer dimensions."""
    store = MemoryStore()
    group = zarr.open_group(zarr.storage.ObjectStore(store), mode="w", zarr_format=2)
    add_array(group, "air", np.arange(1, 13.0).reshape(4, 3), (1, 3), None, layout=LAYOUTS[1])
    for marker in ("air/0", "air/1/"):
        obstore.put(store, marker, b"")
    registry = ObjectStoreRegistry({"memory://": store})
    with pytest.warns(UserWarning, match="not chunks"):
        manifest = refreeze.ZarrParser()("memory://", registry)._group.arrays["air"].manifest
    assert set(manifest.dict()) == {"0.0", "1.0", "2.0", "3.0"}


def test_time_in_one_chunk_while_data_has_many(tmp_path):
    """Regions cut it: lengths match, and every region has its own part."""
    data = write(tmp_path / "s.zarr")
    group = zarr.open_group(tmp_path / "s.zarr", mode="a")
    add_array(group, "time", np.arange(100, 112), (12,), ("time",), fill_value=-1)
    for start in range(0, 12, 4):
        region = {"time": slice(start, start + 4)}
        parser = refreeze.ZarrParser(region=region)
        dataset = open_virtual(tmp_path / "s.zarr", registry_of(tmp_path), parser)
        assert dataset.sizes == {"time": 4, "x": 6}
        np.testing.assert_array_equal(dataset["time"], np.arange(100 + start, 104 + start))
        whole = open_virtual(
            tmp_path / "s.zarr", registry_of(tmp_path), parser, loadable_variables=["air", "time"]
        )
        np.testing.assert_array_equal(whole["air"], data[start : start + 4])


@pytest.mark.parametrize("layout", V2_KEYS, ids=str)
def test_version_3_arrays_with_version_2_keys(tmp_path, layout):
    """Their chunks are found: with VirtualiZarr 2.8's own parser such arrays are empty."""
    data = write(tmp_path / "s.zarr", layout)
    url, registry = str(tmp_path / "s.zarr"), registry_of(tmp_path)
    assert not TheirParser()(url, registry)._group.arrays["air"].manifest.dict()
    np.testing.assert_array_equal(read(url, registry, refreeze.ZarrParser())["air"], data)
    region = {"time": slice(4, 8), "x": slice(3, 6)}
    found = read(url, registry, refreeze.ZarrParser(region=region))
    np.testing.assert_array_equal(found["air"], data[4:8, 3:6])


@pytest.mark.parametrize("dtype", ["i4", "u2", "i1", "f4"])
def test_version_2_fill_values_mask(tmp_path, dtype):
    """What xarray masks in the source it masks in the result, stored and missing alike."""
    group = zarr.open_group(tmp_path / "s.zarr", mode="w", zarr_format=2)
    data = np.array([1, 99, 3, 99, 5, 6], dtype)
    add_array(group, "air", data, (2,), ("time",), layout=LAYOUTS[0], fill_value=99)
    (tmp_path / "s.zarr" / "air" / "2").unlink()
    url, registry = tmp_path / "s.zarr", registry_of(tmp_path)
    expected = open_source(url)
    assert np.isnan(expected["air"]).sum() == 4
    for region in (None, {"time": slice(0, 6)}):
        parser = refreeze.ZarrParser(region=region)
        found = open_virtual(url, registry, parser, loadable_variables=["air"])
        xr.testing.assert_identical(found.load(), expected)
        repository = new_repository(tmp_path)
        session = repository.writable_session("main")
        open_virtual(url, registry, parser).vz.to_icechunk(session.store)
        session.commit("all")
        xr.testing.assert_identical(open_repository(repository), expected)


@pytest.mark.parametrize("layout", [Layout(3, "default", "."), Layout(2, "v2", ".")], ids=str)
def test_dots_under_a_prefix_that_is_no_whole_segment(tmp_path, layout):
    """`air/c.0.0` is not below a folder `air/c`; a neighbour whose name begins alike is not mixed in."""
    data = write(tmp_path / "s.zarr", layout)
    other = write(tmp_path / "s.zarr", layout, name="air2", shape=(4, 6))
    url, registry = str(tmp_path / "s.zarr"), registry_of(tmp_path)
    group = read(url, registry, refreeze.ZarrParser())
    np.testing.assert_array_equal(group["air"], data)
    np.testing.assert_array_equal(group["air2"], other)


NAMES = [
    "a b",
    "température",
    "温度",
    "a+b",
    "a=b&c",
    "a;b",
    "100%",
    "a%b",
    "a'b",
    "a:b",
    "[a]",
    "~a",
    "a@b",
    "(a)",
]


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_read_right_everywhere(tmp_path, name):
    """Through VirtualiZarr's own reader and through Icechunk."""
    data = write(tmp_path / "s.zarr", name=name)
    url, registry = tmp_path / "s.zarr", registry_of(tmp_path)
    np.testing.assert_array_equal(read(url, registry, refreeze.ZarrParser())[name], data)
    repository = new_repository(tmp_path)
    append_regions(repository, url, registry, "time", 4)
    np.testing.assert_array_equal(open_repository(repository, mask_and_scale=False)[name], data)


@pytest.mark.parametrize("name", ["a#b", "a%20b", "a?b", "a%C3b"])
def test_names_that_two_readers_read_differently_are_refused(tmp_path, name):
    """VirtualiZarr reads `%20` as it is and Icechunk as a space; both end a path at `#`. Nothing else is affected."""
    write(tmp_path / "s.zarr", name=name)
    data = write(tmp_path / "s.zarr", name="air")
    url, registry = str(tmp_path / "s.zarr"), registry_of(tmp_path)
    with pytest.raises(UnsupportedArrayError, match=r"skip_variables.*refreeze\.ingest") as raised:
        refreeze.ZarrParser()(url, registry)
    assert f"array /{name} " in str(raised.value)
    found = read(url, registry, refreeze.ZarrParser(skip_variables=[name]))
    assert list(found) == ["air"]
    np.testing.assert_array_equal(found["air"], data)


@pytest.mark.parametrize("folder", ["with space", "grün", "a%b"])
def test_odd_folders(tmp_path, folder):
    """A path comes to the parser as a URL, which writes a space as `%20`: the folder is found all the same."""
    data = write(tmp_path / folder / "s.zarr")
    url, registry = tmp_path / folder / "s.zarr", registry_of(tmp_path)
    np.testing.assert_array_equal(read(url, registry, refreeze.ZarrParser())["air"], data)
    repository = new_repository(tmp_path)
    append_regions(repository, url, registry, "time", 4)
    np.testing.assert_array_equal(open_repository(repository, mask_and_scale=False)["air"], data)
    assert next(refreeze.regions(url, registry, dim="time", max_refs=4)) == {"time": slice(0, 4)}


def test_urls_with_a_fragment_or_a_query(tmp_path):
    """`file:///data/a#b` would be read as `/data/a`, another store: refused."""
    write(tmp_path / "a")
    registry = ObjectStoreRegistry({"file://": LocalStore()})
    for url in (f"file://{tmp_path}/a#b", f"file://{tmp_path}/a?b"):
        with pytest.raises(ValueError, match="query or fragment"):
            refreeze.ZarrParser()(url, registry)
    with pytest.raises(SourceNotFoundError):
        refreeze.ZarrParser()(f"file://{tmp_path}/absent", registry)
