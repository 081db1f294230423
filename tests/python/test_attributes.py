"""Attributes that JSON or version 3 has no form for, and what they mask: xarray sees what it sees in the source."""

from __future__ import annotations

import json
import math
import warnings
from typing import Any

import numpy as np
import pytest
import xarray as xr

import refreeze
from hand_written import (
    array_v2,
    array_v3,
    consolidate_v2,
    consolidate_v3,
    group_v2,
    group_v3,
    same_values,
    write,
)
from refreeze.exceptions import UnsupportedArrayError
from stores_for_tests import ingest

NAN, INF = math.nan, math.inf
FLOATS = np.array([1, -9999, 3, 4], "<f4")
ODD = {"esa_path": NAN, "valid_max": INF, "valid_min": -INF, "deep": [1, {"x": NAN}], "units": "K"}
AS_TEXT = {
    "esa_path": "NaN",
    "valid_max": "Infinity",
    "valid_min": "-Infinity",
    "deep": [1, {"x": "NaN"}],
    "units": "K",
}


@pytest.fixture
def source(tmp_path):
    return tmp_path / "source.zarr"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "target"


def store(source, zarr_format, attributes, consolidated=False, data=FLOATS, **members):
    """Write a group and an array `a` in a group of a version, both with these attributes."""
    group, array = (group_v2, array_v2) if zarr_format == 2 else (group_v3, array_v3)
    group(source, attributes)
    group(source / "inner", {"x": NAN})
    array(source / "a", data, (2,), attributes=attributes, **members)
    array(source / "plain", data, (2,))
    if consolidated:
        (consolidate_v2 if zarr_format == 2 else consolidate_v3)(source)
    return source


@pytest.mark.parametrize("consolidated", [False, True])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_nan_and_infinity_become_text(source, target, zarr_format, consolidated):
    """Regression: Icechunk refused the documents, of groups too. One warning a node names the attributes."""
    store(source, zarr_format, ODD, consolidated)
    result = ingest(str(source), str(target))
    for path in ("", "a"):
        found = result.document(path)["attributes"]
        assert {name: found[name] for name in ODD} == AS_TEXT
    named = "esa_path, valid_max, valid_min, deep"
    about = [text for text in result.report.warnings if "NaN" in text]
    assert about == [
        f"group /: NaN and Infinity are held as text in {named}",
        "group inner: NaN and Infinity are held as text in x",
        f"array a: NaN and Infinity are held as text in {named}",
    ]
    assert list(refreeze.plan(source).warnings) == about
    assert list(refreeze.ingest(source, target, dry_run=True).warnings) == about
    expected = xr.open_zarr(source, consolidated=consolidated, chunks=None)
    np.testing.assert_array_equal(result.dataset()["a"].values, expected["a"].values)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_parser_writes_text_too(source, zarr_format):
    """VirtualiZarr's way into Icechunk has the same documents."""
    import virtualizarr
    from obspec_utils.registry import ObjectStoreRegistry
    from obstore.store import LocalStore

    store(source, zarr_format, ODD)
    registry = ObjectStoreRegistry({"file://": LocalStore()})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        opened = virtualizarr.open_virtual_dataset(
            source.as_uri(), registry=registry, parser=refreeze.ZarrParser()
        )
    assert {name: opened.attrs[name] for name in AS_TEXT} == AS_TEXT
    assert opened["a"].attrs["esa_path"] == "NaN"
    assert any("array a: NaN and Infinity" in str(warning.message) for warning in caught)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_append_finds_nan_equal_to_nan(source, target, zarr_format):
    """The document of the target has text where the source has NaN: that is no difference."""
    store(source, zarr_format, ODD)
    refreeze.ingest(source, target)
    array = array_v2 if zarr_format == 2 else array_v3
    grown = np.arange(6, dtype="<f4")
    array(source / "a", grown, (2,), attributes=ODD)
    array(source / "plain", grown, (2,))
    report = refreeze.ingest(source, target, mode="append", append_dim="x")
    assert report.added == 2
    assert not any("differs" in text for text in report.warnings)
    assert refreeze.ingest(source, target, mode="append", append_dim="x").commits == 0


# What xarray masks in version 2: the array's fill value, else `_FillValue`, and `missing_value`.
MASKS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "a list of one": (FLOATS, None, {"_FillValue": [-9999.0]}),
    "a list of two": (FLOATS, None, {"_FillValue": [-9999.0, 3.0]}),
    "a list beside missing_value": (FLOATS, None, {"_FillValue": [4, 3], "missing_value": -9999}),
    "an empty list": (FLOATS, None, {"_FillValue": []}),
    "null": (FLOATS, None, {"_FillValue": None}),
    "NaN": (FLOATS, None, {"_FillValue": NAN}),
    "infinity": (np.array([1, INF, 3, 4], "<f4"), None, {"_FillValue": INF}),
    "missing NaN": (FLOATS, None, {"missing_value": NAN}),
    "missing NaN and more": (FLOATS, None, {"missing_value": [NAN, -9999.0]}),
    "missing infinity": (np.array([1, INF, 3, 4], "<f8"), None, {"missing_value": INF}),
    "NaN on integers": (np.arange(4, dtype="<i2"), None, {"_FillValue": NAN}),
    "missing NaN on integers": (np.arange(4, dtype="<i2"), None, {"missing_value": NAN}),
    "a list on integers": (np.arange(4, dtype="<i2"), None, {"_FillValue": [2]}),
    "out of range": (np.arange(4, dtype="u1"), None, {"_FillValue": -1}),
    "far out of range": (np.arange(4, dtype="<i2"), None, {"_FillValue": 1e20}),
    "no integer": (np.arange(4, dtype="<i2"), None, {"_FillValue": 0.5}),
    "text on floats": (FLOATS, None, {"_FillValue": "-9999"}),
    "the array's own": (FLOATS, 3.0, {"_FillValue": -9999.0}),
    "the array's own NaN": (FLOATS, "NaN", {"_FillValue": NAN}),
    "on booleans": (np.array([True, False, True, True]), None, {"_FillValue": [False]}),
}


@pytest.mark.filterwarnings("ignore::xarray.SerializationWarning")
@pytest.mark.parametrize("name", MASKS)
def test_masks_of_version_2(source, target, name):
    """Values that xarray masks in the source, and no others, are masked in the result."""
    data, fill_value, attributes = MASKS[name]
    group_v2(source)
    array_v2(source / "a", data, (2,), attributes=attributes, fill_value=fill_value)
    same_values(source, target)


@pytest.mark.parametrize("kind", ["<f4", "<i4", "<c8"])
def test_masks_of_version_3(source, target, kind):
    """A NaN in `_FillValue` is written as xarray reads it, or left out where no value equals it."""
    fill_value = [0.0, 0.0] if kind == "<c8" else 0
    group_v3(source)
    array_v3(
        source / "a",
        np.arange(4).astype(kind),
        (2,),
        attributes={"_FillValue": NAN, "missing_value": NAN},
        fill_value=fill_value,
    )
    result = ingest(str(source), str(target))
    found = result.document("a")["attributes"]
    assert "missing_value" not in found
    assert ("_FillValue" in found) == (kind != "<i4")
    np.testing.assert_array_equal(result.dataset()["a"].values, np.arange(4))
    assert any("missing_value left out" in text for text in result.report.warnings)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("named", "attributes"),
    [
        ("scale_factor", {"scale_factor": NAN}),
        ("add_offset", {"add_offset": -INF}),
        ("missing_value", {"missing_value": [INF, -INF]}),
    ],
)
def test_what_changes_numbers_is_refused(source, target, zarr_format, named, attributes):
    """As text xarray would fail at it, or mask other values: the array is named before there is a repository."""
    store(source, zarr_format, attributes)
    with pytest.raises(UnsupportedArrayError, match=rf"array a .*{named}") as raised:
        refreeze.ingest(source, target)
    assert raised.value.hint == "leave it out with --skip a"
    assert not target.exists()
    refreeze.ingest(source, target, skip_variables=["a"])


FILLS = {"u1": -1, "|u1": 300, "<i2": 1e20, "<i4": "NaN", "<f4": "text", "<u8": 2**64, "|b1": []}


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", FILLS)
def test_fill_values_that_are_none(source, target, zarr_format, dtype):
    """Regression: `internal error: OverflowError`. Arrays that zarr-python cannot read are named, and can be left out."""
    data = np.zeros(4, dtype)
    store(source, zarr_format, {}, data=data, fill_value=FILLS[dtype])
    with pytest.raises(UnsupportedArrayError, match="array a ") as raised:
        refreeze.ingest(source, target)
    assert "--skip a" in raised.value.hint
    assert not target.exists()
    report = refreeze.ingest(source, target, skip_variables=["a"])
    assert [array.path for array in report.arrays] == ["/plain"]


REFUSED = {
    "a lone surrogate": '{"title": "\\ud800"}',
    "deep nesting": f'{{"title": {"[" * 200}1{"]" * 200}}}',
}


@pytest.mark.parametrize("where", ["group", "array"])
@pytest.mark.parametrize("name", REFUSED)
def test_documents_that_readers_of_icechunk_refuse(source, target, name, where):
    """The node and the member are named before there is a repository."""
    group_v2(source)
    array_v2(source / "a", FLOATS, (2,))
    array_v2(source / "b", FLOATS, (2,))
    write(source / ("inner" if where == "group" else "a") / ".zattrs", REFUSED[name])
    if where == "group":
        write(source / "inner/.zgroup", {"zarr_format": 2})
    node = "group inner" if where == "group" else "array a"
    with pytest.raises(UnsupportedArrayError, match=f"{node} .*attribute title"):
        refreeze.ingest(source, target)
    assert not target.exists()
    refreeze.ingest(source, target, arrays=["b"])


def test_numbers_of_any_size_are_kept(source, target):
    """Integers that no machine word holds, and text beyond the first plane."""
    attributes = {"big": 10**40, "text": "\U0001f600", "small": -(2**63)}
    store(source, 3, attributes)
    assert ingest(str(source), str(target)).document("a")["attributes"] == attributes


def test_the_text_is_what_version_3_says(source, target):
    """A document with such text is read by any JSON parser."""
    store(source, 2, ODD)
    result = ingest(str(source), str(target))
    assert json.loads(json.dumps(result.document("a"), allow_nan=False))
