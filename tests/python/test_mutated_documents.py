"""Metadata documents with changes anywhere: ingested, or a typed error; never an internal error, a panic or a hang."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import refreeze
from hand_written import array_v2, array_v3, consolidate_v2, consolidate_v3, group_v2, group_v3
from refreeze.exceptions import RefreezeError

DATA = np.arange(12, dtype="<i4").reshape(3, 4)
DOCUMENTS = {
    2: ["air/.zarray", "air/.zattrs", ".zgroup", ".zattrs", ".zmetadata", "x/.zarray", "x/.zattrs"],
    3: ["air/zarr.json", "zarr.json", "x/zarr.json"],
}
LIKELY: Any = st.sampled_from(
    [
        *[None, True, False, 0, 1, -1, 2, 255, 300, 2**31, 2**63, 2**64, 2**70, 10**400],
        *[1.0, 0.5, 1e20, float("nan"), float("inf"), -float("inf")],
        *[
            "",
            "/",
            ".",
            "NaN",
            "Infinity",
            "0x7fc00000",
            "\ud800",
            "\0",
            "<f8",
            "|O",
            "|S3",
            "<M8[ns]",
        ],
        *[
            "int8",
            "float64",
            "string",
            "bytes",
            "zstd",
            "blosc",
            "gzip",
            "default",
            "v2",
            "regular",
        ],
        *[[], {}, [0], [1], ["x"], [[1]], {"id": "zlib"}, [{"id": "delta", "dtype": "<i4"}]],
        *[[{"id": "vlen-utf8"}], {"id": "pickle"}, {"name": "bytes"}, [{"name": "vlen-utf8"}]],
    ]
)
ANY: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
MEMBERS = st.sampled_from(
    [
        *["fill_value", "dtype", "data_type", "filters", "compressor", "codecs", "order", "shape"],
        *["chunks", "attributes", "_FillValue", "missing_value", "scale_factor", "coordinates"],
        *["_ARRAY_DIMENSIONS", "dimension_names", "_NCZARR_ARRAY", "storage_transformers"],
        *["consolidated_metadata", "dimension_separator", "must_understand", "configuration"],
    ]
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of everything in a document."""
    yield path
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, one in inner:
        yield from places(one, (*path, key))


def changed(document: Any, path: tuple[Any, ...], name: str | None, value: Any) -> Any:
    """Return a document in which a place has another value, or one member more."""
    if path:
        copy = dict(document) if isinstance(document, dict) else list(document)
        copy[path[0]] = changed(copy[path[0]], path[1:], name, value)
        return copy
    if name is not None and isinstance(document, dict):
        return document | {name: value}
    return value


def store(folder: Path, zarr_format: int, *, consolidated: bool) -> Path:
    """Write a store with an array that is referenced and one that is copied."""
    group, array = (group_v2, array_v2) if zarr_format == 2 else (group_v3, array_v3)
    group(folder, {"title": "a"})
    array(folder / "air", DATA, (2, 2), attributes={"units": "K", "_FillValue": None})
    array(folder / "x", DATA[0], (2,), attributes={"units": "days since 2000-01-01"})
    if consolidated:
        (consolidate_v2 if zarr_format == 2 else consolidate_v3)(folder)
    return folder


@st.composite
def changes(draw: st.DrawFn) -> tuple[int, bool, str, list[tuple[int, str | None, Any]]]:
    """Draw which document is changed, and where; places are numbers, taken modulo their count."""
    zarr_format = draw(st.sampled_from([2, 3]))
    document = draw(st.sampled_from(DOCUMENTS[zarr_format]))
    consolidated = document == ".zmetadata" or draw(st.booleans())
    one = st.tuples(st.integers(0, 1000), st.none() | MEMBERS, LIKELY | ANY)
    return zarr_format, consolidated, document, draw(st.lists(one, min_size=1, max_size=2))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(changes())
@example((2, False, "air/.zarray", [(0, "dtype", "|O"), (0, "filters", [{"id": "vlen-utf8"}])]))
@example((2, False, "air/.zarray", [(0, "fill_value", -1), (0, "dtype", "|u1")]))
@example((3, False, "air/zarr.json", [(0, "shape", [2**63, 4])]))
@example((3, False, "air/zarr.json", [(0, "shape", [2**40, 4])]))
@example((3, False, "x/zarr.json", [(0, "shape", [2**63])]))
@example((2, False, "x/.zarray", [(0, "chunks", [2**62])]))
@example((2, False, "x/.zarray", [(0, "compressor", {"id": "blosc"})]))
@example((2, False, "x/.zattrs", [(0, "_ARRAY_DIMENSIONS", "x")]))
def test_any_change_of_a_document(change):
    """Whatever is changed, an ingest succeeds or raises one of refreeze's errors, with a message of one line."""
    zarr_format, consolidated, name, drawn = change
    with tempfile.TemporaryDirectory() as folder:
        source = store(Path(folder) / "source.zarr", zarr_format, consolidated=consolidated)
        document = json.loads((source / name).read_text())
        for place, member, value in drawn:
            found = list(places(document))
            document = changed(document, found[place % len(found)], member, value)
        (source / name).write_text(json.dumps(document))
        for act in (refreeze.plan, refreeze.ingest):
            message = ""
            try:
                act(source, Path(folder) / "target")
            except RefreezeError as error:
                message = error.message
            assert "internal" not in message
            assert "\n" not in message
