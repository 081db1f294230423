"""Converts plain version 2 documents of arrays to version 3 without zarr-python.

Plain is what zarr-python 2, xarray and netCDF-C write with common data types, compressors and filters.
For such a document the result is the same, byte for byte, as through zarr-python and `conversion`; of
every other nothing is said here, and zarr-python is asked.

Source: the Zarr version 2 specification, "Metadata".
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from refreeze.metadata.attributes import of_version_2_array
from refreeze.metadata.documents import document_bytes
from refreeze.metadata.layout import ARRAY_DIMENSIONS, given_names
from refreeze.metadata.plain_reader import (
    BLOSC_COMPRESSORS,
    FLOATS,
    KEYS,
    LARGEST_BLOSC_LEVEL,
    LARGEST_GZIP_LEVEL,
    LARGEST_ZSTD_LEVEL,
    SIZES,
    NotPlainError,
    are_lengths,
    is_integer,
    kind_of,
    named,
    plain_fill_value,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from refreeze.metadata.attributes import Attributes
    from refreeze.metadata.layout import Layout

__all__ = ["plain_version_2_document"]

_LETTERS = {"bool": "b", "int": "i", "uint": "u", "float": "f"}
_NAMES = {
    f"{order}{_LETTERS[name.rstrip('0123456789')]}{size}": (name, order)
    for name, size in SIZES.items()
    for order in (("|",) if size == 1 else ("<", ">"))
}
"""Name in version 3 and byte order, by how version 2 writes a data type."""
_ENDIAN = {"<": "little", ">": "big"}
_FIELDS = {
    "zarr_format",
    "shape",
    "chunks",
    "dtype",
    "compressor",
    "fill_value",
    "order",
    "filters",
    "attributes",
}
_AUTOSHUFFLE = -1
_SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")
_LARGEST_ACCELERATION = 65_537


def plain_version_2_document(
    document: Mapping[str, Any], layout: Layout
) -> tuple[bytes, Attributes] | None:
    """Return the document under which Icechunk holds an array, or None if it is not plain.

    Parameters
    ----------
    document
        ``.zarray`` with ``attributes`` beside.
    layout
        What was found in it.

    Raises
    ------
    UnsupportedArrayError
        An attribute cannot be held.
    """
    try:
        return _interpreted(document, layout)
    except NotPlainError:
        return None


def _interpreted(document: Mapping[str, Any], layout: Layout) -> tuple[bytes, Attributes]:
    known = document.keys() - {"dimension_separator"}
    written: Any = document.get("dtype")
    stored: Any = document.get("attributes")
    names = layout.dimension_names
    if (
        known != _FIELDS
        or not is_integer(document["zarr_format"], 2, 2)
        or not isinstance(written, str)
        or written not in _NAMES
        or document["order"] not in ("C", "F")
        or not are_lengths(document["shape"], 0)
        or not are_lengths(document["chunks"], 1)
        or not isinstance(stored, dict)
        # Names that are none are refused elsewhere.
        or (names is None and given_names(document) is not None)
    ):
        raise NotPlainError
    data_type, order = _NAMES[written]
    fill_value = _fill_value(document["fill_value"], data_type)
    kind = kind_of(data_type)
    shown = {
        name: value
        for name, value in stored.items()
        if name != ARRAY_DIMENSIONS and not name.lower().startswith("_nc")
    }
    attributes = of_version_2_array(
        shown, None if fill_value is None else _number(fill_value), kind
    )
    held: dict[str, Any] = {
        "shape": document["shape"],
        "data_type": data_type,
        "chunk_grid": named("regular", chunk_shape=document["chunks"]),
        "chunk_key_encoding": KEYS,
        "fill_value": _DEFAULTS[kind] if fill_value is None else fill_value,
        "codecs": _codecs(document, written, SIZES[data_type], order),
        "attributes": attributes.values,
    }
    if names is not None:
        held["dimension_names"] = list(names)
    held |= {"zarr_format": 3, "node_type": "array", "storage_transformers": []}
    return document_bytes(held), attributes


_DEFAULTS = {"b": False, "i": 0, "u": 0, "f": 0.0}
"""What zarr reads for missing chunks of arrays without a fill value."""


def _fill_value(value: Any, data_type: str) -> Any:
    """Return a fill value in the form of version 3; None if the array has none."""
    if value is None:
        return None
    if data_type in FLOATS and isinstance(value, float):
        # Many are decimals that were meant for a shorter float.
        try:
            code = FLOATS[data_type]
            value = struct.unpack(code, struct.pack(code, value))[0]
        except OverflowError:
            raise NotPlainError from None
    return plain_fill_value(value, data_type)


def _number(value: Any) -> Any:
    """Return a fill value as a number: NaN and the infinities are text in documents."""
    return float(value) if isinstance(value, str) else value


def _codecs(document: Mapping[str, Any], written: str, size: int, order: str) -> list[Any]:
    """Return the codecs of version 3, in the order in which they encode."""
    codecs: list[Any] = []
    if document["order"] == "F":
        turned = list(range(len(document["shape"]) - 1, -1, -1))
        codecs.append(named("transpose", order=turned))
    arrays, tail = _filters(document, written, size)
    to_bytes = {"name": "bytes"} if size == 1 else named("bytes", endian=_ENDIAN[order])
    compressor = document["compressor"]
    return [
        *codecs,
        *arrays,
        to_bytes,
        *tail,
        *([] if compressor is None else [_compressor(compressor, size)]),
    ]


def _filters(document: Mapping[str, Any], written: str, size: int) -> tuple[list[Any], list[Any]]:
    """Return what filters become: codecs of arrays, and of bytes."""
    filters = document["filters"]
    if filters is None or filters == []:
        return [], []
    if not isinstance(filters, list) or document["order"] != "C":
        raise NotPlainError
    arrays: list[Any] = []
    tail: list[Any] = []
    for one in filters:
        if tail:
            raise NotPlainError
        match one:
            case {"id": "shuffle", "elementsize": elementsize, **rest} if not rest:
                if not is_integer(elementsize, size, size):
                    raise NotPlainError
                tail.append(named("numcodecs.shuffle", elementsize=size))
            case {"id": "delta", "dtype": str(given), **rest} if not rest.keys() - {"astype"}:
                if written[1] not in "iu" or written[0] == ">" or given != written:
                    raise NotPlainError
                if rest.get("astype", given) != given:
                    raise NotPlainError
                arrays.append(named("numcodecs.delta", dtype=given, astype=given))
            case _:
                raise NotPlainError
    return arrays, tail


def _compressor(compressor: Any, size: int) -> Any:
    if not isinstance(compressor, dict) or not isinstance(compressor.get("id"), str):
        raise NotPlainError
    settings = {name: value for name, value in compressor.items() if name != "id"}
    if compressor["id"] == "blosc":
        return _blosc(settings, size)
    if compressor["id"] not in _LEVELS:
        raise NotPlainError
    name, field, low, high = _LEVELS[compressor["id"]]
    checksum = {"checksum": settings.pop("checksum", False)} if name == "zstd" else {}
    if (
        settings.keys() != {field}
        or not is_integer(settings[field], low, high)
        or not all(type(value) is bool for value in checksum.values())
    ):
        raise NotPlainError
    return named(name, **settings, **checksum)


_LEVELS = {
    "zstd": ("zstd", "level", 0, LARGEST_ZSTD_LEVEL),
    "gzip": ("gzip", "level", 0, LARGEST_GZIP_LEVEL),
    "zlib": ("numcodecs.zlib", "level", 0, LARGEST_GZIP_LEVEL),
    "bz2": ("numcodecs.bz2", "level", 1, LARGEST_GZIP_LEVEL),
    "lz4": ("numcodecs.lz4", "acceleration", 1, _LARGEST_ACCELERATION),
}
"""Compressors with one setting: their name in version 3, that of the setting, and its bounds."""


def _blosc(settings: dict[str, Any], size: int) -> Any:
    settings.setdefault("blocksize", 0)
    shuffle: Any = settings.get("shuffle")
    if (
        settings.keys() != {"cname", "clevel", "shuffle", "blocksize"}
        or settings["cname"] not in BLOSC_COMPRESSORS
        or not is_integer(settings["clevel"], 0, LARGEST_BLOSC_LEVEL)
        or not is_integer(shuffle, _AUTOSHUFFLE, len(_SHUFFLES) - 1)
        or not is_integer(settings["blocksize"], 0, 2**31 - 1)
    ):
        raise NotPlainError
    # Version 3 has no automatic shuffle.
    automatic = "bitshuffle" if size == 1 else "shuffle"
    return named(
        "blosc",
        typesize=size,
        cname=settings["cname"],
        clevel=settings["clevel"],
        shuffle=automatic if shuffle == _AUTOSHUFFLE else _SHUFFLES[shuffle],
        blocksize=settings["blocksize"],
    )
