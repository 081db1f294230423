"""Interprets plain version 3 documents of arrays without zarr-python, whose import takes longer.

Plain is what zarr-python itself writes with common data types and codecs. For such a document the
result is the same, byte for byte, as through zarr-python; of every other (other codecs, damage)
nothing is said here, and zarr-python is asked. Those of version 2 are `plain_reader_version_2`'s.

Source: the Zarr version 3 specification, "Array metadata".
"""

from __future__ import annotations

import math
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from refreeze.metadata.attributes import of_array
from refreeze.metadata.documents import document_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from refreeze.metadata.attributes import Attributes

__all__ = [
    "BLOSC_COMPRESSORS",
    "FLOATS",
    "KEYS",
    "LARGEST_BLOSC_LEVEL",
    "LARGEST_GZIP_LEVEL",
    "LARGEST_ZSTD_LEVEL",
    "SIZES",
    "NotPlainError",
    "are_lengths",
    "is_integer",
    "kind_of",
    "named",
    "plain_document",
    "plain_fill_value",
]

INTEGERS = {f"{sign}int{bits}": (sign, bits) for sign in ("", "u") for bits in (8, 16, 32, 64)}
FLOATS = {"float16": "<e", "float32": "<f", "float64": "<d"}
SIZES = {
    "bool": 1,
    **{name: bits // 8 for name, (_, bits) in INTEGERS.items()},
    **{name: struct.calcsize(code) for name, code in FLOATS.items()},
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
KEYS = {"name": "default", "configuration": {"separator": "/"}}
_CRC32C = {"name": "crc32c"}
LARGEST_ZSTD_LEVEL, LARGEST_GZIP_LEVEL, LARGEST_BLOSC_LEVEL = 22, 9, 9
BLOSC_COMPRESSORS = ("lz4", "lz4hc", "blosclz", "zlib", "zstd")


class NotPlainError(Exception):
    """Something that zarr-python shall judge."""


def plain_document(document: Mapping[str, Any]) -> tuple[bytes, Attributes] | None:
    """Return the document under which Icechunk holds an array, or None if it is not plain.

    Raises
    ------
    UnsupportedArrayError
        An attribute cannot be held.
    """
    try:
        return _interpreted(document)
    except NotPlainError:
        return None


def _interpreted(document: Mapping[str, Any]) -> tuple[bytes, Attributes]:
    """Check every field of an array's document; what is not known is not plain."""
    document = {"attributes": {}, "storage_transformers": [], **document}
    given = {name: document[name] for name in _ARRAY_FIELDS if name in document}
    shape: Any = given.get("shape")
    names: Any = given.get("dimension_names")
    data_type = given.get("data_type")
    size = SIZES.get(data_type) if isinstance(data_type, str) else None
    if (
        document.keys() - {"dimension_names"} != _REQUIRED
        or not is_integer(given["zarr_format"], 3, 3)
        or given["storage_transformers"] != []
        or not isinstance(given["attributes"], dict)
        or size is None
        or not are_lengths(shape, 0)
    ):
        raise NotPlainError
    given["fill_value"] = plain_fill_value(given["fill_value"], str(data_type))
    if "dimension_names" in given and not (
        isinstance(names, list)
        and len(names) == len(shape)
        and all(name is None or isinstance(name, str) for name in names)
    ):
        raise NotPlainError
    match given["chunk_grid"]:
        case {"name": "regular", "configuration": {"chunk_shape": list(chunk_shape)}} if (
            given["chunk_grid"] == named("regular", chunk_shape=chunk_shape)
            and len(chunk_shape) == len(shape)
            and are_lengths(chunk_shape, 1)
        ):
            pass
        case _:
            raise NotPlainError
    match given["chunk_key_encoding"]:
        case {"name": "default" | "v2" as key_encoding, "configuration": {"separator": separator}}:
            if given["chunk_key_encoding"] != named(key_encoding, separator=separator) or (
                separator not in ("/", ".")
            ):
                raise NotPlainError
        case _:
            raise NotPlainError
    codecs = given["codecs"]
    given["codecs"] = _shards(codecs, size, chunk_shape) or _codecs(codecs, size)
    attributes = of_array(given["attributes"], kind_of(str(data_type)))
    held = {"chunk_key_encoding": KEYS, "attributes": attributes.values}
    return document_bytes(given | held), attributes


def kind_of(data_type: str) -> str:
    """Return numpy's letter for the kind of a data type."""
    if data_type in FLOATS:
        return "f"
    return "b" if data_type == "bool" else "u" if data_type.startswith("u") else "i"


def _codecs(codecs: Any, size: int) -> list[Any]:
    """Return codecs to bytes, and compressors behind them, as zarr-python writes them."""
    if not isinstance(codecs, list) or not codecs:
        raise NotPlainError
    to_bytes, *compressors = codecs
    single = {"name": "bytes"}
    if to_bytes != named("bytes", endian="little") and not (size == 1 and to_bytes == single):
        raise NotPlainError
    if not all(_is_compressor(codec) for codec in compressors):
        raise NotPlainError
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
        or not are_lengths(inner, 1)
        or len(inner) != len(chunk_shape)
        or any(outer % each for outer, each in zip(chunk_shape, inner, strict=True))
        or shards["index_codecs"] != [named("bytes", endian="little"), _CRC32C]
        or shards["index_location"] not in ("start", "end")
    ):
        raise NotPlainError
    plain = shards | {"codecs": _codecs(shards["codecs"], size)}
    return [{"name": "sharding_indexed", "configuration": plain}]


def _is_compressor(codec: Any) -> bool:
    match codec:
        case {"name": "zstd", "configuration": {"level": level, "checksum": bool(checksum)}}:
            plain = is_integer(level, 0, LARGEST_ZSTD_LEVEL)
            return plain and bool(codec == named("zstd", level=level, checksum=checksum))
        case {"name": "gzip", "configuration": {"level": level}}:
            return is_integer(level, 0, LARGEST_GZIP_LEVEL) and bool(
                codec == named("gzip", level=level)
            )
        case {"name": "blosc", "configuration": dict(blosc)}:
            return (
                codec.keys() == {"name", "configuration"}
                and blosc.keys() == {"typesize", "cname", "clevel", "shuffle", "blocksize"}
                and is_integer(blosc["typesize"], 1, 255)
                and blosc["cname"] in BLOSC_COMPRESSORS
                and is_integer(blosc["clevel"], 0, LARGEST_BLOSC_LEVEL)
                and blosc["shuffle"] in ("noshuffle", "shuffle", "bitshuffle")
                and is_integer(blosc["blocksize"], 0, 0)
            )
    return bool(codec == _CRC32C)


def plain_fill_value(value: Any, data_type: str) -> Any:
    """Return a fill value as zarr-python writes it."""
    if data_type == "bool" and isinstance(value, bool):
        return value
    if data_type in INTEGERS:
        sign, bits = INTEGERS[data_type]
        low, high = (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        if is_integer(value, low, high):
            return value
    if data_type in FLOATS:
        if value in ("NaN", "Infinity", "-Infinity"):
            return value
        if isinstance(value, float) or is_integer(value, -(2**53), 2**53):
            code, number = FLOATS[data_type], float(value)
            # Others are rounded by zarr-python; and of infinities there is the text above.
            with suppress(OverflowError):
                stored = struct.unpack(code, struct.pack(code, number))[0]
                if math.isfinite(number) and stored == number:
                    return number
    raise NotPlainError


def are_lengths(lengths: Any, least: int) -> bool:
    """Whether it is a list of lengths, none below the least."""
    return isinstance(lengths, list) and all(is_integer(each, least, 2**63 - 1) for each in lengths)


def is_integer(value: Any, low: int, high: int) -> bool:
    """Whether it is an integer within bounds, which both count."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def named(name: str, **configuration: Any) -> dict[str, Any]:
    """Return a part of a document that has a name and a configuration."""
    return {"name": name, "configuration": configuration}
