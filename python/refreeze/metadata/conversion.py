"""Metadata documents for Icechunk: version 3, with Icechunk's chunk keys.

zarr-python does the conversion of version 2; what it leaves out and xarray relies on is added
here: a fill value where version 2 had none, dimension names, and the mask.
"""

from __future__ import annotations

import base64
import dataclasses
import struct
import sys
import warnings
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import UnsupportedArrayError

if TYPE_CHECKING:
    import numpy as np
    from zarr.core.metadata import ArrayV2Metadata, ArrayV3Metadata

__all__ = [
    "array_document",
    "chunk_keys",
    "dimension_names",
    "loses_mask",
    "stored_chunk_shape",
]

_DIMENSIONS = "_ARRAY_DIMENSIONS"
_BLOSC_AUTOSHUFFLE, _BLOSC_SHUFFLE, _BLOSC_BITSHUFFLE = -1, 1, 2


def array_document(metadata: ArrayV2Metadata | ArrayV3Metadata) -> bytes:
    """Return the version 3 document under which Icechunk holds an array.

    Raises
    ------
    UnsupportedArrayError
        The array has storage transformers.
    TypeError, ValueError
        zarr cannot express the array in version 3.
    """
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.chunk_key_encodings import DefaultChunkKeyEncoding
    from zarr.core.metadata import ArrayV2Metadata

    with warnings.catch_warnings():
        # zarr warns of data types that the version 3 specification does not list; the source
        # has them already.
        warnings.simplefilter("ignore")
        v3 = _v3_from_v2(metadata) if isinstance(metadata, ArrayV2Metadata) else metadata
        if v3.storage_transformers:
            raise UnsupportedArrayError("the array has storage transformers")
        keyed = dataclasses.replace(v3, chunk_key_encoding=DefaultChunkKeyEncoding(separator="/"))
        return keyed.to_buffer_dict(default_buffer_prototype())["zarr.json"].to_bytes()


def chunk_keys(metadata: ArrayV2Metadata | ArrayV3Metadata) -> tuple[str, str]:
    """Return the name and the separator of the encoding of an array's chunk keys.

    Raises
    ------
    UnsupportedArrayError
        The encoding is neither ``default`` nor ``v2``.
    """
    from zarr.core.metadata import ArrayV2Metadata

    if isinstance(metadata, ArrayV2Metadata):
        return "v2", metadata.dimension_separator
    encoding = metadata.chunk_key_encoding
    name = getattr(encoding, "name", type(encoding).__name__)
    if name not in {"default", "v2"}:
        raise UnsupportedArrayError(f"unknown chunk key encoding {name} (known: default, v2)")
    return name, encoding.separator  # type: ignore[attr-defined]  # both known ones have it


def stored_chunk_shape(metadata: ArrayV2Metadata | ArrayV3Metadata) -> tuple[int, ...]:
    """Return the elements of one stored object along each dimension: the shard, if sharded.

    Raises
    ------
    UnsupportedArrayError
        The chunk grid is not regular.
    """
    from zarr.core.metadata import ArrayV2Metadata

    if isinstance(metadata, ArrayV2Metadata):
        shape: Any = metadata.chunks
    else:
        grid: Any = metadata.chunk_grid
        shape = getattr(grid, "chunk_shape", None)
        if shape is None or "Rectilinear" in type(grid).__name__:
            raise UnsupportedArrayError(
                f"a {type(grid).__name__} cannot be referenced; only regular chunk grids can"
            )
    # Version 2 stores of empty arrays may have chunks of length zero.
    return tuple(
        chunk or int(length == 0) for chunk, length in zip(shape, metadata.shape, strict=True)
    )


def dimension_names(metadata: ArrayV2Metadata | ArrayV3Metadata) -> tuple[str | None, ...] | None:
    """Return an array's dimension names, from wherever its version keeps them."""
    from zarr.core.metadata import ArrayV2Metadata

    if isinstance(metadata, ArrayV2Metadata):
        names: Any = metadata.attributes.get(_DIMENSIONS)
    else:
        names = metadata.dimension_names
    return None if names is None else tuple(names)


def loses_mask(metadata: ArrayV2Metadata | ArrayV3Metadata) -> bool:
    """Whether xarray masks values of this array that it cannot mask in the result.

    Text has no form of ``_FillValue`` that xarray reads in version 3.
    """
    from zarr.core.metadata import ArrayV2Metadata

    if not isinstance(metadata, ArrayV2Metadata):
        return False
    value: Any = metadata.fill_value
    if value is None:
        value = metadata.attributes.get("_FillValue")
    kind = metadata.dtype.to_native_dtype().kind
    # Of text of variable length xarray does not mask the empty one.
    return value is not None and (kind in "SU" or (kind in "OT" and value != ""))


def _v3_from_v2(metadata: ArrayV2Metadata) -> ArrayV3Metadata:
    from zarr.core.chunk_key_encodings import DefaultChunkKeyEncoding
    from zarr.core.metadata import ArrayV3Metadata
    from zarr.core.metadata.v3 import RegularChunkGridMetadata

    # xarray hides what begins like this in version 2: netCDF-C's notes about its own layout.
    attributes = {
        name: value
        for name, value in metadata.attributes.items()
        if not name.lower().startswith("_nc")
    }
    names = dimension_names(metadata)
    attributes.pop(_DIMENSIONS, None)
    fill_value = metadata.fill_value
    # To xarray, a version 2 array's fill value is its `_FillValue`; in version 3 that attribute
    # has to be there, in the form that xarray writes.
    masked = attributes.pop("_FillValue", None) if fill_value is None else fill_value
    if masked is not None:
        encoded = _encoded_fill_value(masked, metadata.dtype.to_native_dtype())
        if encoded is None:
            attributes.pop("_FillValue", None)
        else:
            attributes["_FillValue"] = encoded
    if fill_value is None:
        # Version 3 needs one. What zarr reads for missing chunks without one is the default.
        default: Any = metadata.dtype.default_scalar()
        fill_value = default
    converted = ArrayV3Metadata(
        shape=metadata.shape,
        data_type=metadata.dtype,
        chunk_grid=RegularChunkGridMetadata(chunk_shape=stored_chunk_shape(metadata)),
        chunk_key_encoding=DefaultChunkKeyEncoding(separator="/"),
        fill_value=fill_value,
        codecs=_codecs(metadata),
        attributes=attributes,
        dimension_names=names,
        storage_transformers=None,
    )
    if metadata.filters is not None:
        _prove(metadata, converted)
    return converted


def _codecs(metadata: ArrayV2Metadata) -> list[Any]:
    """Return version 3 codecs that read the chunks of a version 2 array.

    As `zarr.metadata.migrate_v3` does it, and what that does wrong or not at all: filters that
    change the byte order, text of variable length, and Blosc's automatic shuffle.
    """
    from zarr.codecs import BytesCodec, TransposeCodec, VLenBytesCodec, VLenUTF8Codec
    from zarr.metadata.migrate_v3 import _convert_compressor, _convert_filters

    codecs: list[Any] = []
    if metadata.order == "F":
        codecs.append(TransposeCodec(order=tuple(range(len(metadata.shape) - 1, -1, -1))))
    filters = list(metadata.filters or ())
    serializer: Any = None
    if filters and filters[-1].codec_id in {"vlen-utf8", "vlen-bytes"}:
        text = filters.pop().codec_id == "vlen-utf8"
        serializer = VLenUTF8Codec() if text else VLenBytesCodec()
    converted = _convert_filters(tuple(filters))
    codecs += converted
    codecs.append(serializer or BytesCodec(endian=_stored_endian(metadata, converted)))
    if metadata.compressor is not None:
        codecs.append(_convert_compressor(_explicit_shuffle(metadata), metadata.dtype))
    return codecs


def _stored_endian(metadata: ArrayV2Metadata, filters: list[Any]) -> Any:
    """Return the byte order of what the last filter gives, which need not be the array's."""
    from zarr.core.array_spec import ArrayConfig, ArraySpec
    from zarr.core.buffer import default_buffer_prototype

    spec = ArraySpec(
        shape=metadata.chunks,
        dtype=metadata.dtype,
        fill_value=metadata.dtype.default_scalar(),
        config=ArrayConfig.from_dict({}),
        prototype=default_buffer_prototype(),
    )
    for codec in filters:
        spec = codec.resolve_metadata(spec)
    orders = _byte_orders(spec.dtype.to_native_dtype())
    if len(orders) > 1:
        raise UnsupportedArrayError("the data type has fields of both byte orders")
    return next(iter(orders), None)


def _byte_orders(dtype: np.dtype[Any]) -> set[str]:
    """Return the byte orders in a data type; empty when all of it is single bytes."""
    if dtype.names is not None:
        return {order for name in dtype.names for order in _byte_orders(dtype[name])}
    named = {"<": "little", ">": "big", "=": sys.byteorder}
    return {named[dtype.base.byteorder]} if dtype.base.byteorder in named else set()


def _explicit_shuffle(metadata: ArrayV2Metadata) -> Any:
    """Return the compressor with Blosc's automatic shuffle spelled out: version 3 has no such."""
    compressor: Any = metadata.compressor
    if compressor.codec_id != "blosc" or compressor.shuffle != _BLOSC_AUTOSHUFFLE:
        return compressor
    single_bytes = metadata.dtype.to_native_dtype().itemsize == 1
    explicit = {"shuffle": _BLOSC_BITSHUFFLE if single_bytes else _BLOSC_SHUFFLE}
    settings = {name: value for name, value in compressor.get_config().items() if name != "id"}
    return type(compressor)(**(settings | explicit))


def _prove(v2: ArrayV2Metadata, v3: ArrayV3Metadata) -> None:
    """Encode a few numbers as version 2 does, and see that version 3 decodes the same.

    Filters are many, and their meaning differs between the versions in places: a wrong number
    must not pass.
    """
    import numpy as np
    import zarr
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.chunk_key_encodings import V2ChunkKeyEncoding
    from zarr.core.metadata.v3 import RegularChunkGridMetadata
    from zarr.storage import MemoryStore

    shape = tuple(min(chunk, 5) for chunk in stored_chunk_shape(v2))
    grid = RegularChunkGridMetadata(chunk_shape=shape)
    keys = V2ChunkKeyEncoding(separator=".")
    prototype = default_buffer_prototype()
    store: dict[str, Any] = dataclasses.replace(
        v2, shape=shape, chunks=shape, dimension_separator="."
    ).to_buffer_dict(prototype)
    written = zarr.open_array(MemoryStore(store), mode="r+", zarr_format=2)
    numbers = np.arange(1, 1 + int(np.prod(shape))).reshape(shape)
    kind = written.dtype.kind
    # Objects are bytes of variable length: text has a type of its own, "T".
    written[...] = (
        numbers.astype("S").astype(object)
        if kind == "O"
        else numbers.astype(str if kind == "T" else written.dtype)
    )
    store |= dataclasses.replace(
        v3, shape=shape, chunk_grid=grid, chunk_key_encoding=keys
    ).to_buffer_dict(prototype)
    expected = np.asarray(written[...])
    decoded = np.asarray(zarr.open_array(MemoryStore(store), mode="r", zarr_format=3)[...])
    if not np.array_equal(decoded, expected):
        names = ", ".join(codec.codec_id for codec in v2.filters or ())
        raise UnsupportedArrayError(f"the filters {names} mean something else in version 3")


def _encoded_fill_value(value: Any, dtype: np.dtype[Any]) -> Any:
    """Return ``_FillValue`` as xarray writes it into version 3 attributes.

    Floats become base64 of their little-endian double, complex numbers a pair of those. None for
    types whose attribute xarray cannot read back (text, times).
    """

    def double(number: Any) -> str:
        return base64.standard_b64encode(struct.pack("<d", float(number))).decode()

    match dtype.kind:
        case "f":
            return double(value)
        case "c":
            number = complex(value)
            return [double(number.real), double(number.imag)]
        case "b":
            return bool(value)
        case "i" | "u":
            return int(value)
        case _:
            return None
