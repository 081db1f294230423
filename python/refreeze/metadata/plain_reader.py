"""Reads the metadata of plain version 3 stores without zarr-python, whose import takes longer.

Plain is what zarr-python itself writes with common data types and codecs. For such documents the
result is the same, byte for byte, as through zarr-python; of everything else (version 2, other
codecs, damage, strangers among the nodes) nothing is said here, and zarr-python is asked.

Sources: the Zarr version 3 specification, "Array metadata" and "Group metadata"; consolidated
metadata as zarr-python writes it.
"""

from __future__ import annotations

import json
import math
import struct
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from refreeze.metadata.hierarchy import (
    DOCUMENTS,
    ArrayNode,
    Described,
    GroupNode,
    Hierarchy,
    document_bytes,
)
from refreeze.runtime.interruption import Job, in_parallel

if TYPE_CHECKING:
    from collections.abc import Callable

    from refreeze.stores.resolve import Source

__all__ = ["read_plain", "read_plain_array"]

_INTEGERS = {f"{sign}int{bits}": (sign, bits) for sign in ("", "u") for bits in (8, 16, 32, 64)}
_FLOATS = {"float16": "<e", "float32": "<f", "float64": "<d"}
_SIZES = {
    "bool": 1,
    **{name: bits // 8 for name, (_, bits) in _INTEGERS.items()},
    **{name: struct.calcsize(code) for name, code in _FLOATS.items()},
}
_ARRAY_FIELDS = (
    "shape",
    "data_type",
    "chunk_grid",
    "chunk_key_encoding",
    "fill_value",
    "codecs",
    "attributes",
    "dimension_names",
    "zarr_format",
    "node_type",
    "storage_transformers",
)
"""In the order in which zarr-python writes them."""
_REQUIRED = set(_ARRAY_FIELDS) - {"dimension_names"}
_GROUP_FIELDS = {"attributes", "zarr_format", "node_type", "consolidated_metadata"}
_NOTHING = (None, {"kind": "inline", "must_understand": False, "metadata": {}})
"""The consolidated metadata of a group within consolidated metadata."""
_READERS = 16
_KEYS = {"name": "default", "configuration": {"separator": "/"}}
_CRC32C = {"name": "crc32c"}
_LARGEST_ZSTD_LEVEL, _LARGEST_GZIP_LEVEL, _LARGEST_BLOSC_LEVEL = 22, 9, 9


class _NotPlainError(Exception):
    """Something that zarr-python shall judge."""


def read_plain(source: Source, group: str) -> Hierarchy | None:
    """Read a source's nodes, or None if not all of it is plain.

    Parameters
    ----------
    group
        Path of the group (or array) below the source that is taken as the root.

    Raises
    ------
    OSError, obstore.exceptions.BaseError
        The store refuses or fails.
    """
    return _asked(source, partial(_hierarchy, source.store, _join(source.path, group)))


def read_plain_array(source: Source) -> Described | None:
    """Read one array, or None if it is not plain."""

    def array() -> Described:
        document = _document(source.store, source.path)
        if document.get("node_type") != "array":
            raise _NotPlainError
        return _described(document)

    return _asked(source, array)


def _asked[T](source: Source, reading: Callable[[], T]) -> T | None:
    from obstore.exceptions import BaseError
    from obstore.store import LocalStore, MemoryStore, S3Store

    if not isinstance(source.store, LocalStore | MemoryStore | S3Store):
        return None
    try:
        return reading()
    except (_NotPlainError, FileNotFoundError, ValueError):
        # A ValueError is of a path that obstore does not take as it is.
        return None
    except (OSError, BaseError):
        # A folder is asked with other calls by zarr-python, which then says what is wrong.
        if isinstance(source.store, LocalStore):
            return None
        raise


def _hierarchy(store: Any, path: str) -> Hierarchy:
    root = _document(store, path)
    node = _node(root)
    if isinstance(node, ArrayNode):
        return Hierarchy(node)
    consolidated = root.get("consolidated_metadata")
    nodes: dict[str, GroupNode | ArrayNode] = {}
    if consolidated is not None:
        for below, document in _consolidated(consolidated).items():
            nodes[below] = _node(document)
        for below in nodes:
            parent = below.rpartition("/")[0]
            if parent and not isinstance(nodes.get(parent), GroupNode):
                raise _NotPlainError
        return Hierarchy(node, nodes)
    groups = [""]
    while groups:
        listed = _all(partial(_children, store, path), groups)
        children = [child for found in listed for child in found]
        documents = _all(lambda below: _document(store, _join(path, below)), children)
        groups = []
        for below, document in zip(children, documents, strict=True):
            nodes[below] = _node(document)
            if isinstance(nodes[below], GroupNode):
                if document.get("consolidated_metadata") is not None:
                    raise _NotPlainError
                groups.append(below)
    return Hierarchy(node, nodes)


def _all[T](function: Callable[[str], T], paths: list[str]) -> list[T]:
    """Call a function for every path, some at a time; a signal does not wait for them."""
    jobs = [Job(lambda _, path=path: function(path), 1) for path in paths]  # type: ignore[misc]
    return in_parallel(jobs, _READERS)


def _children(store: Any, root: str, group: str) -> list[str]:
    """List the paths, below the root, of a group's members."""
    import obstore

    prefix = _join(root, group)
    listed = obstore.list_with_delimiter(store, f"{prefix}/" if prefix else None)
    if any(entry["path"].rpartition("/")[2] not in DOCUMENTS for entry in listed["objects"]):
        raise _NotPlainError
    names = [path.rpartition("/")[2] for path in listed["common_prefixes"]]
    if not all(map(_is_name, names)):
        raise _NotPlainError
    return [_join(group, name) for name in names]


def _document(store: Any, path: str) -> dict[str, Any]:
    import obstore

    stored = obstore.get(store, f"{path}/zarr.json" if path else "zarr.json").bytes()
    try:
        document = json.loads(bytes(stored))
    except (ValueError, RecursionError):
        raise _NotPlainError from None
    if not isinstance(document, dict):
        raise _NotPlainError
    return document


def _consolidated(consolidated: Any) -> dict[str, Any]:
    match consolidated:
        case {"kind": "inline", "must_understand": False, "metadata": dict(documents), **rest}:
            if rest or not all(isinstance(one, dict) for one in documents.values()):
                raise _NotPlainError
            if not all(_is_name(name) for path in documents for name in path.split("/")):
                raise _NotPlainError
            if any(one.get("consolidated_metadata") not in _NOTHING for one in documents.values()):
                raise _NotPlainError
            return documents
    raise _NotPlainError


def _node(document: dict[str, Any]) -> GroupNode | ArrayNode:
    if document.get("node_type") == "array":
        described = _described(document)
        return ArrayNode(lambda: described)
    attributes = document.get("attributes", {})
    if (
        document.get("node_type") != "group"
        or not _is_integer(document.get("zarr_format"), 3, 3)
        or not isinstance(attributes, dict)
        or not document.keys() <= _GROUP_FIELDS
    ):
        raise _NotPlainError
    return GroupNode(attributes)


def _described(document: dict[str, Any]) -> Described:
    """Check every field of an array's document; what is not known is not plain."""
    document = {"attributes": {}, "storage_transformers": []} | document
    given = {name: document[name] for name in _ARRAY_FIELDS if name in document}
    shape: Any = given.get("shape")
    names: Any = given.get("dimension_names")
    data_type = given.get("data_type")
    size = _SIZES.get(data_type) if isinstance(data_type, str) else None
    if (
        document.keys() - {"dimension_names"} != _REQUIRED
        or not _is_integer(given["zarr_format"], 3, 3)
        or given["storage_transformers"] != []
        or not isinstance(given["attributes"], dict)
        or size is None
        or not _are_lengths(shape, 0)
    ):
        raise _NotPlainError
    given["fill_value"] = _fill_value(given["fill_value"], str(data_type))
    if "dimension_names" in given and not (
        isinstance(names, list)
        and len(names) == len(shape)
        and all(name is None or isinstance(name, str) for name in names)
    ):
        raise _NotPlainError
    match given["chunk_grid"]:
        case {"name": "regular", "configuration": {"chunk_shape": list(chunk_shape)}} if (
            given["chunk_grid"] == _named("regular", chunk_shape=chunk_shape)
            and len(chunk_shape) == len(shape)
            and _are_lengths(chunk_shape, 1)
        ):
            pass
        case _:
            raise _NotPlainError
    match given["chunk_key_encoding"]:
        case {"name": "default" | "v2" as key_encoding, "configuration": {"separator": separator}}:
            if given["chunk_key_encoding"] != _named(key_encoding, separator=separator) or (
                separator not in ("/", ".")
            ):
                raise _NotPlainError
        case _:
            raise _NotPlainError
    codecs = given["codecs"]
    given["codecs"] = _shards(codecs, size, chunk_shape) or _codecs(codecs, size)
    return Described(
        document=document_bytes(given | {"chunk_key_encoding": _KEYS}),
        shape=tuple(shape),
        chunk_shape=tuple(chunk_shape),
        key_encoding=key_encoding,
        separator=separator,
        dimension_names=None if names is None else tuple(names),
    )


def _codecs(codecs: Any, size: int) -> list[Any]:
    """Return codecs to bytes, and compressors behind them, as zarr-python writes them."""
    if not isinstance(codecs, list) or not codecs:
        raise _NotPlainError
    to_bytes, *compressors = codecs
    single = {"name": "bytes"}
    if to_bytes != _named("bytes", endian="little") and not (size == 1 and to_bytes == single):
        raise _NotPlainError
    if not all(_is_compressor(codec) for codec in compressors):
        raise _NotPlainError
    # A single byte has no order.
    return [single if size == 1 else to_bytes, *compressors]


def _shards(codecs: Any, size: int, chunk_shape: list[int]) -> list[Any] | None:
    """Return the one codec that makes shards of plain chunks; None if it is another."""
    match codecs:
        case [{"name": "sharding_indexed", "configuration": dict(shards), **rest}] if not rest:
            inner: Any = shards.get("chunk_shape")
        case _:
            return None
    if (
        shards.keys() != {"chunk_shape", "codecs", "index_codecs", "index_location"}
        or not _are_lengths(inner, 1)
        or len(inner) != len(chunk_shape)
        or any(outer % each for outer, each in zip(chunk_shape, inner, strict=True))
        or shards["index_codecs"] != [_named("bytes", endian="little"), _CRC32C]
        or shards["index_location"] not in ("start", "end")
    ):
        raise _NotPlainError
    plain = shards | {"codecs": _codecs(shards["codecs"], size)}
    return [{"name": "sharding_indexed", "configuration": plain}]


def _is_compressor(codec: Any) -> bool:
    match codec:
        case {"name": "zstd", "configuration": {"level": level, "checksum": bool(checksum)}}:
            plain = _is_integer(level, 0, _LARGEST_ZSTD_LEVEL)
            return plain and bool(codec == _named("zstd", level=level, checksum=checksum))
        case {"name": "gzip", "configuration": {"level": level}}:
            return _is_integer(level, 0, _LARGEST_GZIP_LEVEL) and bool(
                codec == _named("gzip", level=level)
            )
        case {"name": "blosc", "configuration": dict(blosc)}:
            return (
                codec.keys() == {"name", "configuration"}
                and blosc.keys() == {"typesize", "cname", "clevel", "shuffle", "blocksize"}
                and _is_integer(blosc["typesize"], 1, 255)
                and blosc["cname"] in ("lz4", "lz4hc", "blosclz", "zlib", "zstd")
                and _is_integer(blosc["clevel"], 0, _LARGEST_BLOSC_LEVEL)
                and blosc["shuffle"] in ("noshuffle", "shuffle", "bitshuffle")
                and _is_integer(blosc["blocksize"], 0, 0)
            )
    return bool(codec == _CRC32C)


def _fill_value(value: Any, data_type: str) -> Any:
    """Return a fill value as zarr-python writes it."""
    if data_type == "bool" and isinstance(value, bool):
        return value
    if data_type in _INTEGERS:
        sign, bits = _INTEGERS[data_type]
        low, high = (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        if _is_integer(value, low, high):
            return value
    if data_type in _FLOATS:
        if value in ("NaN", "Infinity", "-Infinity"):
            return value
        if isinstance(value, float) or _is_integer(value, -(2**53), 2**53):
            code, number = _FLOATS[data_type], float(value)
            # Others are rounded by zarr-python; and of infinities there is the text above.
            with suppress(OverflowError):
                stored = struct.unpack(code, struct.pack(code, number))[0]
                if math.isfinite(number) and stored == number:
                    return number
    raise _NotPlainError


def _are_lengths(lengths: Any, least: int) -> bool:
    return isinstance(lengths, list) and all(
        _is_integer(each, least, 2**63 - 1) for each in lengths
    )


def _is_integer(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_name(name: str) -> bool:
    return name not in ("", ".", "..") and "\\" not in name


def _named(name: str, **configuration: Any) -> dict[str, Any]:
    return {"name": name, "configuration": configuration}


def _join(*parts: str) -> str:
    return "/".join(part for part in (part.strip("/") for part in parts) if part)
