"""Every layout of Zarr, written by zarr-python or xarray, is read back from Icechunk unchanged."""

import shutil

import cftime
import numpy as np
import pytest
import xarray as xr
import zarr
from obstore.store import LocalStore
from zarr.core.sync import sync

from stores_for_tests import (
    assert_same_array,
    assert_same_dataset,
    chunk_files,
    ingest,
    ingest_and_compare,
    open_group,
    write_array,
)

LAYOUTS = {
    "v2-dot": (2, {"name": "v2", "separator": "."}),
    "v2-slash": (2, {"name": "v2", "separator": "/"}),
    "v3-slash": (3, {"name": "default", "separator": "/"}),
    "v3-dot": (3, {"name": "default", "separator": "."}),
    "v3-v2-dot": (3, {"name": "v2", "separator": "."}),
    "v3-v2-slash": (3, {"name": "v2", "separator": "/"}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_key_layout_with_every_shape(paths, layout):
    """Ragged, sparse, scalar, empty and long arrays come back from each of the key layouts."""
    source, target = paths
    zarr_format, keys = LAYOUTS[layout]
    root = open_group(
        source, zarr_format, attributes={"title": "all shapes", "n": [1, {"a": None}]}
    )

    def create(name, shape, chunks, dimensions, dtype="i4", **options):
        names = (
            {"attributes": {"_ARRAY_DIMENSIONS": dimensions}}
            if zarr_format == 2
            else {"dimension_names": dimensions}
        )
        return root.create_array(
            name,
            shape=shape,
            chunks=chunks,
            dtype=dtype,
            chunk_key_encoding=keys,
            **names,
            **options,
        )

    ragged = create("ragged", (7, 5, 4), (3, 2, 4), ["a", "b", "c"], fill_value=-1)
    ragged[...] = np.arange(140).reshape(7, 5, 4)
    sparse = create("sparse", (30, 5), (1, 2), ["d", "b"], fill_value=7)
    sparse[3:25:4, 1:3] = 5
    # 9, 10, 99 and 100 change the number of digits in a key.
    long = create("long", (103,), (1,), ["n"], dtype="i2")
    long[1:] = np.arange(1, 103)
    create("scalar", (), (), [])[...] = 42
    create("absent_scalar", (), (), [], fill_value=13)
    create("absent", (20, 4), (3, 3), ["e", "c"], fill_value=9)
    create("empty", (0, 4), (2, 3), ["z", "c"])
    create("empty_line", (0,), (5,), ["z"])

    result = ingest_and_compare(source, target)
    if keys["name"] == "default" or zarr_format == 2:
        # xarray makes a ZarrStore of any of them; zarr was asked above.
        assert_same_dataset(source, result)
    assert result.chunks("sparse") == {(i, j) for i in range(3, 25, 4) for j in (0, 1)}
    assert result.chunks("scalar") == {()}
    assert (
        result.chunks("absent_scalar") == result.chunks("absent") == result.chunks("empty") == set()
    )
    missing = {array.path: array.missing for array in result.report.arrays}
    assert missing["/long"] == 1
    assert missing["/absent_scalar"] == 1
    assert missing["/absent"] == 14
    assert missing["/empty"] == 0


@pytest.mark.parametrize("keys", [keys for form, keys in LAYOUTS.values() if form == 3])
def test_a_chunk_of_a_sharded_array_is_a_shard(paths, keys):
    """References, grids and reports count stored objects, and inner chunks stay readable."""
    source, target = paths
    root = open_group(source)
    sharded = root.create_array(
        "sharded",
        shape=(25, 9),
        shards=(10, 4),
        chunks=(5, 2),
        dtype="f8",
        fill_value=np.nan,
        dimension_names=("y", "x"),
        chunk_key_encoding=keys,
    )
    sharded[:20] = np.arange(180).reshape(20, 9)
    line = root.create_array(
        "y", shape=(25,), shards=(10,), chunks=(5,), dtype="i8", dimension_names=("y",)
    )
    line[:] = np.arange(25)

    result = ingest_and_compare(source, target)
    assert_same_dataset(source, result)
    array = next(array for array in result.report.arrays if array.path == "/sharded")
    assert array.chunk_shape == (10, 4)
    assert array.grid_shape == (3, 3)
    assert array.references == 6
    np.testing.assert_array_equal(result.array("sharded")[7:12, 3], sharded[7:12, 3])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_groups_within_groups(paths, zarr_format):
    """Groups three deep, empty ones too, keep their arrays and attributes."""
    source, target = paths
    root = open_group(source, zarr_format, attributes={"level": 0})
    deep = root.create_group("one", attributes={"level": 1}).create_group(
        "two", attributes={"level": 2, "ü": "é"}
    )
    write_array(deep, "air")
    write_array(root, "air", "i4")
    deep.create_group("three", attributes={"level": 3})
    write_array(root.create_group("other"), "air", "u1")

    result = ingest_and_compare(source, target)
    assert result.group("one/two/three").attrs["level"] == 3
    assert result.group().attrs.asdict() == {"level": 0}
    xr.testing.assert_identical(
        result.dataset("one/two").load(),
        xr.open_zarr(source, group="one/two", consolidated=False).load(),
    )


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("consolidated", [False, True])
def test_what_xarray_writes(paths, zarr_format, consolidated):
    """Packed, masked and dated variables decode to the same values, with the same encodings."""
    source, target = paths
    rng = np.random.default_rng(0)
    times = xr.date_range("2001-01-30", periods=13, freq="D", calendar="noleap", use_cftime=True)
    packed = rng.normal(280, 10, (13, 6))
    packed[2, 3] = np.nan
    dataset = xr.Dataset(
        {
            "packed": (("time", "x"), packed, {"units": "K", "flags": [1, 2]}),
            "plain": (("time", "x"), rng.normal(size=(13, 6)).astype("f4")),
            "counts": (("time",), np.arange(13, dtype="i8"), {"valid_min": 0}),
            "bounds": (("time", "x"), np.full((13, 6), np.datetime64("2000-01-01T06:00", "ns"))),
            "lag": (("x",), np.arange(6).astype("m8[h]").astype("m8[ns]")),
            "flag": (("x",), np.arange(6) % 2 == 0),
            "code": (("x",), np.array(["a", "bb", "", "d", "ü", "f"])),
            "text": (("x",), np.array(["a", "bb", "", "long text", "ü", "f"], dtype=object)),
            "raw": (("x",), np.array([b"a", b"", b"c", b"d", b"e", b"f"])),
            "crs": ((), np.int32(7), {"grid_mapping_name": "latitude_longitude"}),
        },
        coords={
            "time": times,
            "x": ("x", np.linspace(0, 1, 6), {"axis": "X"}),
            "height": ((), 2.0, {"units": "m"}),
            "lat2d": (("time", "x"), rng.normal(size=(13, 6))),
        },
        attrs={"title": "a title", "numbers": [1, 2.5]},
    )
    encoding = {
        "packed": {
            "dtype": "i2",
            "scale_factor": 0.01,
            "add_offset": 280.0,
            "_FillValue": -32768,
            "chunks": (5, 4),
        },
        "plain": {"_FillValue": np.float32(-9999), "chunks": (5, 6)},
        "time": {"units": "hours since 2001-01-01", "calendar": "noleap", "dtype": "i4"},
        "bounds": {"units": "days since 1950-01-01", "dtype": "f8", "chunks": (13, 2)},
    }
    # A packed variable's missing value in a chunk that is all missing.
    dataset["packed"][5:10, 4:] = np.nan
    dataset.to_zarr(source, zarr_format=zarr_format, encoding=encoding, consolidated=consolidated)

    result = ingest_and_compare(source, target)
    expected = assert_same_dataset(source, result)
    assert expected.packed.isnull().sum() == 11
    assert isinstance(expected.time.values[0], cftime.DatetimeNoLeap)
    assert result.dataset().packed.encoding["chunks"] == (5, 4)
    assert {array.path for array in result.report.arrays if array.loaded} == {"/time", "/x"}
    assert "consolidated_metadata" not in result.document("")


def test_arrays_without_dimension_names(paths):
    """OME-Zarr and its kin: no names are invented, and nothing is copied."""
    source, target = paths
    for zarr_format in (2, 3):
        root = open_group(source / str(zarr_format), zarr_format)
        array = root.create_array("image", shape=(9, 8), chunks=(4, 4), dtype="u2")
        array[:] = np.arange(72).reshape(9, 8)
        line = root.create_array("line", shape=(9,), chunks=(4,), dtype="u2")
        line[:] = 1
        result = ingest_and_compare(source / str(zarr_format), target / str(zarr_format))
        assert result.array("image").metadata.dimension_names is None
        assert not any(array.loaded for array in result.report.arrays)


def test_some_dimensions_without_a_name(paths):
    """Version 3 allows names for some dimensions only."""
    source, target = paths
    write_array(open_group(source), "air", dimensions=("y", None))
    result = ingest_and_compare(source, target)
    assert result.array("air").metadata.dimension_names == ("y", None)


def test_consolidated_metadata_is_not_copied(paths):
    """A copy would go stale; what the source's own says is used, as xarray uses it."""
    source, target = paths
    for zarr_format in (2, 3):
        folder = source / str(zarr_format)
        root = open_group(folder, zarr_format, attributes={"a": 1})
        write_array(root.create_group("inner", attributes={"b": 2}), "air")
        zarr.consolidate_metadata(folder)
        result = ingest_and_compare(folder, target / str(zarr_format))
        assert "consolidated_metadata" not in result.document("")
        assert "consolidated_metadata" not in result.document("inner")
        assert result.group("inner").attrs.asdict() == {"b": 2}


def test_a_store_with_metadata_of_both_versions(paths):
    """Version 3 wins, as it does for zarr-python and xarray."""
    source, target = paths
    root = open_group(source, 2, attributes={"version": 2})
    write_array(root, "air", ">i4", fill_value=9)
    from zarr.metadata.migrate_v3 import migrate_v2_to_v3

    migrate_v2_to_v3(input_store=zarr.storage.LocalStore(source))
    assert (source / "air" / ".zarray").exists()
    assert (source / "air" / "zarr.json").exists()
    result = ingest(source, target)
    expected = zarr.open_group(source, mode="r", zarr_format=3)
    assert_same_array(expected["air"], result.array("air"))
    assert result.report.warnings == ()


SELECTIONS = {
    "array": ({"arrays": ["air"]}, {"/air", "/one/air", "/one/two/air"}),
    "path": ({"arrays": ["one/air"]}, {"/one/air"}),
    "rooted": ({"arrays": ["/one/two/air"]}, {"/one/two/air"}),
    "glob": ({"arrays": ["one/*"]}, {"/one/air", "/one/two/air", "/one/two/x"}),
    "several": ({"arrays": ["x", "ic?"]}, {"/one/two/x", "/ice"}),
    "skip": ({"skip_variables": ["a*"]}, {"/ice", "/one/two/x"}),
    "both": ({"arrays": ["one/*"], "skip_variables": ["x"]}, {"/one/air", "/one/two/air"}),
    "group": ({"group": "one"}, {"/air", "/two/air", "/two/x"}),
    "deep": ({"group": "/one/two/"}, {"/air", "/x"}),
    "target": ({"group": "one/two", "target_group": "a/b"}, {"/a/b/air", "/a/b/x"}),
    "rooted target": ({"arrays": ["ice"], "target_group": "/a/"}, {"/a/ice"}),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_selections(paths, name):
    """Groups, arrays and patterns choose what is ingested, and where it lands."""
    source, target = paths
    options, wanted = SELECTIONS[name]
    root = open_group(source, 3, attributes={"n": "root"})
    one = root.create_group("one", attributes={"n": "one"})
    two = one.create_group("two", attributes={"n": "two"})
    for group in (root, one, two):
        write_array(group, "air")
    write_array(root, "ice")
    write_array(two, "x")[:] = 3

    result = ingest(source, target, **options)
    assert {array.path for array in result.report.arrays} == wanted
    arrays = {f"/{p}" for p, node in result.group().members(None) if isinstance(node, zarr.Array)}
    assert arrays == wanted
    base = options.get("target_group", "").strip("/")
    for path in wanted:
        original = f"{options.get('group', '').strip('/')}/{path.strip('/').removeprefix(base)}"
        assert_same_array(root[original.replace("//", "/").strip("/")], result.array(path))
    if base:
        assert result.group("a").attrs.asdict() == ({} if base == "a/b" else {"n": "root"})
    if name == "deep":
        assert result.group().attrs.asdict() == {"n": "two"}


def test_a_second_ingest_beside_the_first(paths):
    """Another group of the same repository: parents stay, the first is untouched."""
    source, target = paths
    root = open_group(source, 3, attributes={"n": "root"})
    write_array(root.create_group("one"), "air")
    write_array(root.create_group("two"), "air")[:] = 2
    first = ingest(source, target, group="one", target_group="models/one")
    result = ingest(source, target, group="two", target_group="models/two")
    assert_same_array(root["one/air"], result.array("models/one/air"))
    assert_same_array(root["two/air"], result.array("models/two/air"))
    assert first.report.containers == result.report.containers


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_one_array_as_the_source(paths, zarr_format):
    """An array lands under its own name: inside a store, as a store of its own, and by an obstore store."""
    source, target = paths
    root = open_group(source, zarr_format)
    air = write_array(root.create_group("one"), "air", fill_value=4)
    alone = source.parent / "alone.zarr"
    zarr.save_array(alone, np.arange(12).reshape(3, 4), zarr_format=zarr_format)

    inside = ingest(source / "one" / "air", target / "inside")
    assert_same_array(air, inside.array("air"))
    assert [array.path for array in inside.report.arrays] == ["/air"]
    by_group = ingest(source, target / "group", group="one/air", target_group="x/y")
    assert_same_array(air, by_group.array("x/y/air"))
    by_url = ingest((source / "one" / "air").as_uri(), target / "url")
    assert_same_array(air, by_url.array("air"))
    assert by_url.locations() == inside.locations() == by_group.locations()
    by_store = ingest((LocalStore(source), "one/air"), target / "store")
    assert_same_array(air, by_store.array("air"))
    assert by_store.locations() == inside.locations()

    whole = ingest(alone, target / "alone")
    assert_same_array(zarr.open_array(alone, mode="r"), whole.array("alone.zarr"))
    prefixed = ingest((LocalStore(alone), ""), target / "prefixed")
    assert prefixed.locations() == whole.locations()


LOADED = {
    "default": ({}, {"x", "y"}),
    "none": ({"loadable_variables": []}, set()),
    "explicit": ({"loadable_variables": ["air"]}, {"air"}),
    "glob": ({"loadable_variables": ["*"]}, {"x", "y", "air", "station", "scalar"}),
}


@pytest.mark.parametrize("name", LOADED)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_loaded_variables_are_copied_byte_for_byte(paths, name, zarr_format):
    """Copied chunks have the very bytes of the files and need the source no more."""
    source, target = paths
    options, wanted = LOADED[name]
    xr.Dataset(
        {"air": (("y", "x"), np.arange(35.0).reshape(7, 5)), "scalar": ((), 3.0)},
        coords={
            "y": ("y", np.arange(7.0)),
            "x": ("x", np.arange(5)),
            "station": ("x", np.arange(5) * 2),
        },
    ).to_zarr(
        source,
        zarr_format=zarr_format,
        consolidated=False,
        encoding={"y": {"chunks": (2,)}, "air": {"chunks": (3, 2)}},
    )
    result = ingest_and_compare(source, target, **options)
    assert_same_dataset(source, result)
    assert {array.path[1:] for array in result.report.arrays if array.loaded} == wanted
    assert result.report.container == ("" if name == "glob" else f"file://{source}/")

    from zarr.core.buffer import default_buffer_prototype

    prototype = default_buffer_prototype()
    for variable in wanted:
        array = zarr.open_group(source, mode="r")[variable]
        for coordinates, file in chunk_files(source / variable, array).items():
            key = "/".join([variable, "c", *map(str, coordinates)])
            assert sync(result.store.get(key, prototype)).to_bytes() == file.read_bytes()
    shutil.rmtree(source)
    for variable in wanted:
        assert result.array(variable)[...].size
