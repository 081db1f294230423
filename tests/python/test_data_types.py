"""Data types, fill values and masks: what xarray reads from the result is what the source gives."""

import numpy as np
import pytest
import xarray as xr

from stores_for_tests import (
    assert_same_dataset,
    ingest,
    ingest_and_compare,
    open_dataset,
    open_group,
    write_array,
)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    "dtype",
    ["?", "i1", "u1", ">i2", "<u2", "<i4", ">u4", "<i8", "<u8", "<f2", "<f4", ">f8", "<c8", ">c16"],
)
def test_data_types(paths, zarr_format, dtype):
    """Numbers of every kind, size and byte order, with a fill value, without one, and sparse."""
    source, target = paths
    root = open_group(source, zarr_format)
    write_array(root, "default", dtype)
    write_array(root, "filled", dtype, fill_value=np.ones((), dtype)[()])
    write_array(root, "without", dtype, **({"fill_value": None} if zarr_format == 2 else {}))
    result = ingest_and_compare(source, target)
    assert_same_dataset(source, result)
    if zarr_format == 2:
        # The stored bytes keep their order: the codec says it, not the data type.
        codec = result.document("filled")["codecs"][0]
        order = {">": "big", "<": "little"}.get(dtype[0])
        assert codec.get("configuration", {}).get("endian") == order


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", ["<M8[s]", "<M8[ns]", "<m8[h]", "<m8[ns]"])
def test_times_that_zarr_stores_as_such(paths, zarr_format, dtype):
    """Native dates and durations keep their unit and their missing values."""
    source, target = paths
    root = open_group(source, zarr_format)
    write_array(root, "when", dtype)
    result = ingest_and_compare(source, target)
    expected = xr.open_zarr(source, consolidated=False).load()
    # In version 2 xarray shows the fill value as an attribute of such arrays.
    expected["when"].attrs.pop("_FillValue", None)
    xr.testing.assert_identical(result.dataset().load(), expected)
    assert result.array("when").dtype == np.dtype(dtype)


@pytest.mark.filterwarnings("ignore::xarray.SerializationWarning")  # of several fill values
@pytest.mark.parametrize(
    "value", [np.nan, np.inf, -np.inf, -9999.0, 9.969209968386869e36, 0.0, -0.0]
)
@pytest.mark.parametrize("dtype", ["<f4", ">f8"])
def test_floating_fill_values_and_masks_of_version_2(paths, dtype, value):
    """The v2 fill value masks in xarray as it did, as does a _FillValue beside no fill value."""
    source, target = paths
    root = open_group(source, 2)
    write_array(root, "fill", dtype, fill_value=value)
    write_array(root, "both", dtype, fill_value=value, attributes={"_FillValue": 3.0})
    write_array(root, "attribute", dtype, fill_value=None, attributes={"_FillValue": value})
    write_array(root, "masked", dtype, fill_value=8.0, attributes={"missing_value": 9.0})
    result = ingest_and_compare(source, target)
    expected = assert_same_dataset(source, result)
    assert np.isnan(expected.fill[3, 0]) or np.isinf(value)
    assert result.document("fill")["attributes"]["_FillValue"].endswith("=")


def test_integer_masks_of_version_2(paths):
    """Packed, unsigned-by-attribute and boolean arrays keep their masks."""
    source, target = paths
    root = open_group(source, 2)
    packing = {"scale_factor": 0.5, "add_offset": 3.0}
    write_array(root, "packed", "<i2", fill_value=7, attributes=packing)
    write_array(root, "zero", "<i2", fill_value=0, attributes=packing)
    write_array(root, "attribute", ">i2", fill_value=None, attributes=packing | {"_FillValue": 9})
    write_array(root, "unsigned", "i1", fill_value=-1, attributes={"_Unsigned": "true"})
    write_array(root, "flag", "?", fill_value=True)
    write_array(root, "complex", "<c8", fill_value=complex(1, np.nan))
    expected = assert_same_dataset(source, ingest_and_compare(source, target))
    assert np.isnan(expected.packed.values[1, 1])
    assert np.isnan(expected.attribute.values[1, 3])


def test_text(paths):
    """Fixed and variable text of version 2 and 3, empty strings and missing chunks included."""
    source, target = paths
    two = open_group(source, 2)
    words = np.array(["", "a", "ü", "long enough", "日本"] * 7, dtype=object).reshape(7, 5)
    for name, options in {
        "strings": {},
        "column": {"order": "F"},
        "plain": {"compressors": None},
    }.items():
        write_array(two, name, str, fill_value=None, **options)[:3] = words[:3]
    write_array(two, "fixed", "<U11", fill_value=None)[:3] = words[:3]
    write_array(two, "bytes", "S3", fill_value=None)
    result = ingest_and_compare(source, target)
    assert_same_dataset(source, result)
    assert result.document("strings")["data_type"] == "string"
    assert result.report.warnings == ()

    # Here xarray makes other types of version 2's text (objects, `<U44`): the values count.
    filled = open_group(source / "filled", 2)
    write_array(filled, "strings", str)[:3] = words[:3]
    write_array(filled, "swapped", ">U11", fill_value=None)[:3] = words[:3]
    result = ingest_and_compare(source / "filled", target / "filled")
    xr.testing.assert_identical(result.dataset().load(), open_dataset(source / "filled").load())

    three = open_group(source / "inner", 3)
    for name, dtype in {"strings": str, "fixed": "<U11"}.items():
        write_array(three, name, dtype)[:3] = words[:3]
    write_array(three, "bytes", "S3")
    assert_same_dataset(source / "inner", ingest_and_compare(source / "inner", target / "inner"))


def test_text_whose_mask_is_lost_is_announced(paths):
    """The report says that xarray cannot mask fixed text in version 3; the values are there."""
    source, target = paths
    root = open_group(source, 2)
    write_array(root, "code", "<U3", fill_value="")
    write_array(root, "word", str, fill_value="missing")
    result = ingest_and_compare(source, target)
    assert len(result.report.warnings) == 2
    assert "array code" in result.report.warnings[0]
    assert "array word" in result.report.warnings[1]
    assert result.dataset().code.values[3, 0] == ""
    assert result.dataset().word.values[3, 0] == "missing"


def test_structured_arrays(paths):
    """Records come back, big-endian ones of version 2 too."""
    source, target = paths
    root = open_group(source, 2)
    for name, order in {"little": "<", "big": ">"}.items():
        dtype = np.dtype([("a", order + "i4"), ("b", order + "f8"), ("c", "S2")])
        array = root.create_array(name, shape=(5,), chunks=(2,), dtype=dtype)
        array[:3] = np.array([(1, 2.5, b"x"), (3, 4.5, b"y"), (5, 6.5, b"")], dtype=dtype)
    result = ingest(source, target)
    for name in ("little", "big"):
        assert result.array(name)[:].tolist() == root[name][:].tolist()
