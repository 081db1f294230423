"""Version 2 documents converted without zarr-python are what zarr-python and our conversion would have given."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import obstore
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import MemoryStore
from zarr.storage import ObjectStore

from refreeze.exceptions import RefreezeError
from refreeze.metadata.layout import layout_of
from refreeze.metadata.plain_reader_version_2 import plain_version_2_document
from refreeze.metadata.selection import Selection, read_metadata
from test_plain import JSON, LIKELY, NAMES, TYPES, changed, places, source_of, through_zarr

ROOT = "store.zarr"
COMPRESSORS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.builds(numcodecs.Zstd, level=st.integers(0, 22), checksum=st.booleans()),
    st.builds(numcodecs.GZip, level=st.integers(0, 9)),
    st.builds(numcodecs.Zlib, level=st.integers(0, 9)),
    st.builds(numcodecs.BZ2, level=st.integers(1, 9)),
    st.builds(numcodecs.LZ4, acceleration=st.integers(1, 9)),
    st.builds(
        numcodecs.Blosc,
        cname=st.sampled_from(["lz4", "lz4hc", "blosclz", "zlib", "zstd"]),
        clevel=st.integers(0, 9),
        shuffle=st.integers(-1, 2),
        blocksize=st.sampled_from([0, 64]),
    ),
)


@st.composite
def plain_arrays(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the arguments of `create_array` for a plain array of version 2."""
    order = draw(st.sampled_from(["<", ">"]))
    dtype = np.dtype(draw(st.sampled_from(TYPES))).newbyteorder(order)
    ndim = draw(st.integers(0, 3))
    filters: list[Any] = []
    memory_order = draw(st.sampled_from(["C", "C", "F"]))
    if memory_order == "C":
        if dtype.kind in "iu" and order == "<" and draw(st.booleans()):
            filters.append(numcodecs.Delta(dtype=dtype.str))
        if draw(st.booleans()):
            filters.append(numcodecs.Shuffle(elementsize=dtype.itemsize))
    attributes = draw(st.dictionaries(st.text(max_size=5), JSON, max_size=3))
    if draw(st.booleans()):
        names = st.lists(NAMES, min_size=ndim, max_size=ndim)
        attributes["_ARRAY_DIMENSIONS"] = draw(names)
    if draw(st.booleans()):
        attributes["_FillValue"] = draw(st.sampled_from([0, 1, -1, 0.5, float("nan"), [3]]))
    fill_value: Any = None
    if draw(st.booleans()):
        bits = draw(st.binary(min_size=dtype.itemsize, max_size=dtype.itemsize))
        value = np.bool_(bits[0] % 2) if dtype.kind == "b" else np.frombuffer(bits, dtype)[0]
        fill_value = dtype.type("nan") if value != value else value  # noqa: PLR0124 NaN
    return {
        "shape": draw(st.lists(st.integers(0, 30), min_size=ndim, max_size=ndim).map(tuple)),
        "chunks": draw(st.lists(st.integers(1, 9), min_size=ndim, max_size=ndim).map(tuple)),
        "dtype": dtype,
        "compressors": draw(COMPRESSORS),
        "filters": filters or None,
        "order": memory_order,
        "fill_value": fill_value,
        "attributes": attributes,
        "chunk_key_encoding": {
            "name": "v2",
            "separator": draw(st.sampled_from(["/", "."])),
        },
    }


def documents(store: Any) -> list[dict[str, Any]]:
    """Return the arrays' own documents in a store, attributes beside, as they are interpreted."""
    keys = {entry["path"] for page in obstore.list(store) for entry in page}

    def read(key: str) -> Any:
        return json.loads(bytes(obstore.get(store, key).bytes())) if key in keys else {}

    found = []
    for key in sorted(key for key in keys if key.endswith("/.zarray")):
        document = read(key)
        if isinstance(document, dict):
            found.append(document | {"attributes": read(key.replace(".zarray", ".zattrs"))})
    return found


def is_plain(document: dict[str, Any]) -> bool:
    """Whether a document is converted without zarr-python; what is refused, is not."""
    try:
        return plain_version_2_document(document, layout_of(document)) is not None
    except RefreezeError:
        return False


@st.composite
def plain_stores(draw: st.DrawFn) -> Any:
    """Draw a store in memory of groups in groups, consolidated or not."""
    store = MemoryStore()
    root = zarr.open_group(ObjectStore(store), path=ROOT, mode="w", zarr_format=2)
    root.attrs.update(draw(st.dictionaries(st.text(max_size=5), JSON, max_size=2)))
    groups = [root]
    for _ in range(draw(st.integers(1, 4))):
        parent, name = draw(st.sampled_from(groups)), draw(NAMES)
        if name in parent:
            continue
        if draw(st.integers(0, 3)):
            parent.create_array(name, **draw(plain_arrays()))
        else:
            groups.append(parent.create_group(name))
    if draw(st.booleans()):
        zarr.consolidate_metadata(ObjectStore(store), path=ROOT)
    return store


@given(plain_stores())
def test_plain_arrays_are_read_as_zarr_reads_them(store):
    """All of what is common in version 2, byte for byte; what is refused, is refused alike."""
    source = source_of(store)
    try:
        expected = through_zarr(source)
    except RefreezeError as error:
        with pytest.raises(type(error), match=re.escape(error.message)):
            read_metadata(source, Selection())
        return
    assert all(map(is_plain, documents(store)))
    assert read_metadata(source, Selection()) == expected


@given(plain_arrays(), st.data())
def test_changed_documents_are_plain_only_if_zarr_agrees(arguments, data):
    """One change anywhere: what is then still taken for plain, zarr-python reads the same."""
    store = MemoryStore()
    root = zarr.open_group(ObjectStore(store), path=ROOT, mode="w", zarr_format=2)
    root.create_array("air", **arguments)
    path = data.draw(st.sampled_from([f"{ROOT}/air/.zarray", f"{ROOT}/air/.zattrs"]))
    document = json.loads(bytes(obstore.get(store, path).bytes()))
    where = data.draw(st.sampled_from(list(places(document))))
    change = data.draw(st.sampled_from(["replace", "remove", "add"]))
    document = changed(document, where, change, data.draw(LIKELY | JSON))
    obstore.put(store, path, json.dumps(document).encode())
    source = source_of(store)
    try:
        (whole,) = documents(store)
        if not is_plain(whole):
            return
    except (RefreezeError, ValueError, TypeError):
        return
    try:
        expected = through_zarr(source)
    except RefreezeError as error:
        with pytest.raises(type(error), match=re.escape(error.message)):
            read_metadata(source, Selection())
        return
    assert read_metadata(source, Selection()) == expected


OTHER: dict[str, dict[str, Any]] = {
    "text": {"dtype": "<U3"},
    "dates": {"dtype": "<M8[s]"},
    "a filter that packs": {
        "dtype": "f4",
        "filters": [numcodecs.FixedScaleOffset(0, 10, dtype="f4", astype="i2")],
    },
    "a shuffle of other sizes": {"dtype": "f4", "filters": [numcodecs.Shuffle(elementsize=2)]},
}


@pytest.mark.parametrize("name", OTHER)
def test_other_types_and_codecs_are_for_zarr(name):
    """Only what is known well is read without it."""
    store = MemoryStore()
    group = zarr.open_group(ObjectStore(store), path=ROOT, mode="w", zarr_format=2)
    group.create_array("a", shape=(8,), chunks=(4,), **OTHER[name])
    assert not is_plain(documents(store)[0])
    assert len(read_metadata(source_of(store), Selection()).arrays) == 1


@pytest.mark.parametrize("consolidated", [False, True])
def test_a_plain_store_is_ingested_without_zarr(tmp_path, consolidated):
    """Its import takes longer than all else in a small ingest."""
    source: Path = tmp_path / "source.zarr"
    group = zarr.open_group(source, mode="w", zarr_format=2)
    array = group.create_array(
        "air", shape=(4, 2), chunks=(2, 2), dtype="f4", filters=[numcodecs.Shuffle(4)]
    )
    array.attrs["_ARRAY_DIMENSIONS"] = ["time", "x"]
    array[:] = 1.5
    time = group.create_array("time", shape=4, chunks=4, dtype="i4")
    time.attrs["_ARRAY_DIMENSIONS"] = ["time"]
    time[:] = range(1, 5)
    if consolidated:
        zarr.consolidate_metadata(str(source))
    program = """
import sys, refreeze
report = refreeze.ingest(sys.argv[1], sys.argv[2])
print(report.references_written, report.published, *sorted({"numpy", "zarr"} & sys.modules.keys()))
"""
    command = [sys.executable, "-c", program, str(source), str(tmp_path / "target")]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["2", "True"]
