"""Documents interpreted without zarr-python are what zarr-python would have given."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import LocalStore, MemoryStore
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)
from zarr.storage import ObjectStore

import refreeze.metadata.interpretation
from refreeze.exceptions import RefreezeError
from refreeze.metadata.plain_reader import plain_document
from refreeze.metadata.selection import Selection, SourceMetadata, read_metadata
from refreeze.stores.resolve import Source

TYPES = ["bool", *(f"{u}int{bits}" for u in ("", "u") for bits in (8, 16, 32, 64))]
TYPES += ["float16", "float32", "float64"]
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
NAMES = st.sampled_from(["air", "time", "lat", "é", "a b"])


def source_of(store: Any, path: str = "store.zarr") -> Source:
    """Name the source at a path of a store."""
    return Source(f"memory://{path}", store, path)


def through_zarr(source: Source, selection: Selection | None = None) -> SourceMetadata:
    """Read metadata as it is read of arrays that are not plain."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refreeze.metadata.interpretation, "_plainly", lambda *_: None)
        return read_metadata(source, selection or Selection())


def documents(store: Any) -> dict[str, Any]:
    """Return the documents of arrays in a store in memory, by their keys."""
    keys = [entry["path"] for page in obstore.list(store) for entry in page]
    found = {key: json.loads(bytes(obstore.get(store, key).bytes())) for key in keys}
    return {
        key: document
        for key, document in found.items()
        if isinstance(document, dict) and document.get("node_type") == "array"
    }


@st.composite
def compressors(draw: st.DrawFn, size: int) -> Any:
    """Draw what may follow the bytes."""
    codec = st.one_of(
        st.builds(ZstdCodec, level=st.integers(0, 22), checksum=st.booleans()),
        st.builds(GzipCodec, level=st.integers(0, 9)),
        st.builds(
            BloscCodec,
            typesize=st.just(size),
            cname=st.sampled_from(["lz4", "lz4hc", "blosclz", "zlib", "zstd"]),
            clevel=st.integers(0, 9),
            shuffle=st.sampled_from(["noshuffle", "shuffle", "bitshuffle"]),
        ),
        st.just(Crc32cCodec()),
    )
    return draw(st.lists(codec, max_size=2))


@st.composite
def plain_arrays(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the arguments of `create_array` for a plain array."""
    dtype = np.dtype(draw(st.sampled_from(TYPES)))
    ndim = draw(st.integers(0, 3))
    lengths = st.lists(st.integers(1, 9), min_size=ndim, max_size=ndim).map(tuple)
    chunks = draw(lengths)
    found: dict[str, Any] = {
        "shape": draw(st.lists(st.integers(0, 30), min_size=ndim, max_size=ndim).map(tuple)),
        "dtype": dtype,
        "chunks": chunks,
        "compressors": draw(compressors(dtype.itemsize)) or None,
        "attributes": draw(st.dictionaries(st.text(max_size=5), JSON, max_size=3)),
        "chunk_key_encoding": {
            "name": draw(st.sampled_from(["default", "v2"])),
            "separator": draw(st.sampled_from(["/", "."])),
        },
    }
    if draw(st.booleans()):
        bits = draw(st.binary(min_size=dtype.itemsize, max_size=dtype.itemsize))
        value = np.bool_(bits[0] % 2) if dtype.kind == "b" else np.frombuffer(bits, dtype)[0]
        # Of values that are no numbers only the usual one is written by its name.
        found["fill_value"] = dtype.type("nan") if value != value else value  # noqa: PLR0124
    if draw(st.booleans()):
        names = st.lists(st.none() | NAMES, min_size=ndim, max_size=ndim)
        found["dimension_names"] = draw(names)
    if ndim and draw(st.booleans()):
        found["shards"] = tuple(n * m for n, m in zip(chunks, draw(lengths), strict=True))
    return found


@st.composite
def plain_stores(draw: st.DrawFn) -> Any:
    """Draw a store in memory of groups in groups, consolidated or not."""
    store = MemoryStore()
    root = zarr.open_group(ObjectStore(store), path="store.zarr", mode="w", zarr_format=3)
    root.attrs.update(draw(st.dictionaries(st.text(max_size=5), JSON, max_size=2)))
    groups = [root]
    for _ in range(draw(st.integers(0, 5))):
        parent, name = draw(st.sampled_from(groups)), draw(NAMES)
        if name in parent:
            continue
        if draw(st.booleans()):
            parent.create_array(name, **draw(plain_arrays()))
        else:
            groups.append(parent.create_group(name))
    if draw(st.booleans()):
        zarr.consolidate_metadata(ObjectStore(store), path="store.zarr")
    return store


@given(plain_stores())
def test_plain_arrays_are_read_as_zarr_reads_them(store):
    """All of what zarr-python writes with common types and codecs, byte for byte."""
    source = source_of(store)
    found = documents(store)
    assert all(plain_document(document) is not None for document in found.values())
    expected = through_zarr(source)
    assert read_metadata(source, Selection()) == expected
    assert len(expected.arrays) == len(found)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of everything in a document."""
    yield path
    items: dict[Any, Any] = dict(enumerate(value)) if isinstance(value, list) else {}
    for key, inner in (value if isinstance(value, dict) else items).items():
        yield from places(inner, (*path, key))


def changed(document: Any, path: tuple[Any, ...], change: str, value: Any) -> Any:
    """Return a document with a change at a place."""
    if not path:
        return value if change == "replace" else document
    copy = dict(document) if isinstance(document, dict) else list(document)
    key, *rest = path
    if rest:
        copy[key] = changed(copy[key], tuple(rest), change, value)
    elif change == "remove":
        del copy[key]
    elif change == "replace":
        copy[key] = value
    elif isinstance(copy, dict):
        copy[str(value)] = value
    else:
        copy.insert(key, value)
    return copy


LIKELY: Any = st.sampled_from([None, True, 0, 1, -1, 1.0, 0.1, 2**70, "", "/", "zstd", [], {}, [0]])


@given(plain_arrays(), st.data())
def test_changed_documents_are_plain_only_if_zarr_agrees(arguments, data):
    """One change anywhere: what is then still taken for plain, zarr-python reads the same."""
    store = MemoryStore()
    root = zarr.open_group(ObjectStore(store), path="store.zarr", mode="w", zarr_format=3)
    root.create_array("air", **arguments)
    path = data.draw(st.sampled_from(["store.zarr/zarr.json", "store.zarr/air/zarr.json"]))
    document = json.loads(bytes(obstore.get(store, path).bytes()))
    where = data.draw(st.sampled_from(list(places(document))))
    change = data.draw(st.sampled_from(["replace", "remove", "add"]))
    document = changed(document, where, change, data.draw(LIKELY | JSON))
    obstore.put(store, path, json.dumps(document).encode())
    source = source_of(store)
    if all(plain_document(document) is not None for document in documents(store).values()):
        try:
            expected = through_zarr(source)
        except RefreezeError as error:
            # Of a group, or of attributes: the same is said either way.
            with pytest.raises(type(error), match=re.escape(error.message)):
                read_metadata(source, Selection())
            return
        found = read_metadata(source, Selection())
        assert found.groups == expected.groups
        for ours, theirs in zip(found.arrays, expected.arrays, strict=True):
            assert ours == theirs or json.loads(ours.document) == json.loads(theirs.document)


OTHER: dict[str, dict[str, Any]] = {
    "turned": {"filters": [TransposeCodec(order=(1, 0))]},
    "big-endian": {"serializer": BytesCodec(endian="big")},
    "shards in shards": {
        "serializer": ShardingCodec(
            chunk_shape=(4, 4), codecs=[ShardingCodec(chunk_shape=(2, 2), codecs=[BytesCodec()])]
        )
    },
}


@pytest.mark.parametrize("name", OTHER)
def test_other_codecs_are_for_zarr(name):
    """Only what is known well is read without it."""
    store = MemoryStore()
    group = zarr.open_group(ObjectStore(store), path="store.zarr", mode="w", zarr_format=3)
    group.create_array("a", shape=(8, 8), chunks=(4, 4), dtype="f4", **OTHER[name])
    (document,) = documents(store).values()
    assert plain_document(document) is None
    assert len(read_metadata(source_of(store), Selection()).arrays) == 1


@pytest.mark.parametrize("name", ["é", "a~b", "x[1]", "a%20b", "a#b", "a?b", "a*b", "a:b", "a|b"])
def test_odd_names(tmp_path, name):
    """Of groups, on local disk, where libraries differ in what they encode."""
    group = zarr.open_group(tmp_path / "store.zarr", mode="w", zarr_format=3).create_group(name)
    group.create_group("inner").create_array("air", shape=(4,), chunks=(2,), dtype="f4")
    for path in ("", name):
        source = source_of(LocalStore(tmp_path))
        found = read_metadata(source, Selection(group=path))
        assert found == through_zarr(source, Selection(group=path))
        assert [array.path for array in found.arrays] == [
            f"/{name if not path else ''}/inner/air".replace("//", "/")
        ]


def test_a_plain_store_is_ingested_without_slow_imports(tmp_path):
    """They take longer than all else in a small ingest: zarr above all, then Python's own clients."""
    source: Path = tmp_path / "source.zarr"
    group = zarr.open_group(source, mode="w", zarr_format=3)
    array = group.create_array(
        "air", shape=(4, 2), chunks=(2, 2), dtype="f4", dimension_names=["time", "x"]
    )
    array[:] = 1.5
    time = group.create_array("time", shape=4, chunks=4, dtype="i4", dimension_names=["time"])
    time[:] = range(1, 5)
    program = """
import sys, refreeze
report = refreeze.ingest(sys.argv[1], sys.argv[2])
slow = {"numpy", "zarr", "multiprocessing", "http.client", "urllib.request", "ssl", "csv", "gzip"}
print(report.references_written, report.published, *sorted(slow & sys.modules.keys()))
"""
    command = [sys.executable, "-c", program, str(source), str(tmp_path / "target")]
    # What measures coverage imports some of them itself.
    environment = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert found.stdout.split() == ["2", "True"]
