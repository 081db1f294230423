"""Version 3 codecs that read the chunks of a version 2 array, or a refusal that names the codec.

zarr-python's own migration (`zarr.metadata.migrate_v3`) is the beginning; filters that give bytes,
byte orders that filters change, levels that only matter to writers, and compressors of arrays are
added here. What is not plainly the same is proven with a few numbers.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import UnsupportedArrayError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from zarr.core.metadata import ArrayV2Metadata, ArrayV3Metadata

__all__ = ["prove", "version_3_codecs"]

_BLOSC_AUTOSHUFFLE, _BLOSC_SHUFFLE, _BLOSC_BITSHUFFLE = -1, 1, 2
_GZIP_LEVELS, _USUAL_GZIP_LEVEL = range(10), 6
_BLOSC_LEVELS, _USUAL_BLOSC_LEVEL = range(10), 5
_LARGEST_ZSTD_LEVEL = 22
_TRIED = 5_000
"""Numbers that are tried at most."""


def version_3_codecs(metadata: ArrayV2Metadata) -> list[Any]:
    """Return version 3 codecs for an array of version 2.

    Its filters and then its compressor are applied one after another: those from array to array
    come first in version 3 too, then one to bytes, then those from bytes to bytes.

    Raises
    ------
    UnsupportedArrayError
        A codec has no counterpart in version 3, or stands where it cannot.
    """
    from zarr.abc.codec import ArrayArrayCodec, ArrayBytesCodec
    from zarr.codecs import BytesCodec, TransposeCodec

    before: list[Any] = []
    serializer: Any = None
    after: list[Any] = []
    stages = [*(metadata.filters or ()), *([metadata.compressor] if metadata.compressor else [])]
    for stage in stages:
        codec = _counterpart(stage, metadata)
        gives_bytes = serializer is not None or bool(after)
        if isinstance(codec, ArrayArrayCodec | ArrayBytesCodec) and gives_bytes:
            raise UnsupportedArrayError(
                f"the codec {stage.codec_id} takes an array, but stands behind one that gives bytes"
            )
        if isinstance(codec, ArrayArrayCodec):
            before.append(codec)
        elif isinstance(codec, ArrayBytesCodec):
            serializer = codec
        else:
            after.append(codec)
    serializer = serializer or BytesCodec(endian=_stored_endian(metadata, before))
    turned = tuple(range(len(metadata.shape) - 1, -1, -1))
    return [
        *([TransposeCodec(order=turned)] if metadata.order == "F" else []),
        *before,
        serializer,
        *after,
    ]


def _counterpart(codec: Any, metadata: ArrayV2Metadata) -> Any:
    """Return the version 3 codec that decodes the same; levels are those that it may name."""
    from zarr.codecs import BloscCodec, GzipCodec, VLenBytesCodec, VLenUTF8Codec, ZstdCodec
    from zarr.codecs.blosc import BloscShuffle
    from zarr.metadata.migrate_v3 import _find_numcodecs_zarr3

    match codec.codec_id:
        case "vlen-utf8":
            return VLenUTF8Codec()
        case "vlen-bytes":
            return VLenBytesCodec()
        case "gzip":
            return GzipCodec(level=_level(codec.level, _GZIP_LEVELS, _USUAL_GZIP_LEVEL))
        case "zstd":
            return ZstdCodec(level=min(codec.level, _LARGEST_ZSTD_LEVEL), checksum=codec.checksum)
        case "blosc":
            size = metadata.dtype.to_native_dtype().itemsize
            return BloscCodec(
                typesize=size,
                cname=codec.cname,
                clevel=_level(codec.clevel, _BLOSC_LEVELS, _USUAL_BLOSC_LEVEL),
                shuffle=BloscShuffle.from_int(_explicit_shuffle(codec.shuffle, size)),
                blocksize=max(codec.blocksize, 0),
            )
    try:
        return _find_numcodecs_zarr3(codec)
    except ValueError:
        raise UnsupportedArrayError(f"version 3 has no codec for {codec.codec_id}") from None


def _level(level: Any, legal: range, usual: int) -> int:
    """Return a level that version 3 may name; readers do not look at it."""
    return level if level in legal else usual


def _explicit_shuffle(shuffle: int, size: int) -> int:
    """Spell Blosc's automatic shuffle out: version 3 has no such."""
    if shuffle != _BLOSC_AUTOSHUFFLE:
        return shuffle
    return _BLOSC_BITSHUFFLE if size == 1 else _BLOSC_SHUFFLE


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


def prove(v2: ArrayV2Metadata, v3: ArrayV3Metadata) -> None:
    """Encode a few numbers as version 2 does, and see that version 3 decodes the same.

    Codecs are many, and their meaning differs between the versions in places: a wrong number must
    not pass. A compressor from bytes to bytes alone is the same in both.

    Raises
    ------
    UnsupportedArrayError
        They do not decode to the same, or cannot be tried.
    """
    from zarr.abc.codec import BytesBytesCodec

    plain = v2.compressor is None or isinstance(v3.codecs[-1], BytesBytesCodec)
    if v2.filters is None and plain:
        return
    stages = [*(v2.filters or ()), *([v2.compressor] if v2.compressor else [])]
    names = ", ".join(stage.codec_id for stage in stages)
    shape = _few(v2.chunks)
    if 0 in shape:
        # Nothing is stored.
        return
    from zarr.core.metadata.v3 import RegularChunkGridMetadata

    small = dataclasses.replace(
        v2, shape=shape, chunks=shape, dimension_separator=".", attributes={}
    )
    grid = RegularChunkGridMetadata(chunk_shape=shape)
    counterpart = dataclasses.replace(
        v3, shape=shape, chunk_grid=grid, attributes={}, dimension_names=None
    )
    documents = json.dumps(small.to_dict()), json.dumps(counterpart.to_dict())
    if not _decode_the_same(*documents):
        raise UnsupportedArrayError(f"the codecs {names} mean something else in version 3")


def _few(chunks: Iterable[int]) -> tuple[int, ...]:
    """Return the shape of a chunk to try: a few along each dimension, and not many in all."""
    shape, room = [], _TRIED
    for chunk in chunks:
        shape.append(min(chunk, 5, room))
        room = max(room // max(shape[-1], 1), 1)
    return tuple(shape)


@functools.lru_cache(maxsize=256)
def _decode_the_same(version_2: str, version_3: str) -> bool:
    """Try two documents of one small array; many arrays of a store share their codecs."""
    import numpy as np
    import zarr
    from zarr.core.buffer import default_buffer_prototype
    from zarr.storage import MemoryStore

    buffer = default_buffer_prototype().buffer
    keys = {"name": "v2", "configuration": {"separator": "."}}
    plain = json.dumps(json.loads(version_3) | {"chunk_key_encoding": keys})
    store: dict[str, Any] = {".zarray": buffer.from_bytes(version_2.encode())}
    # A number that happens to be the fill value is stored all the same.
    config: Any = {"write_empty_chunks": True}
    written = zarr.open_array(MemoryStore(store), mode="r+", zarr_format=2, config=config)
    kind = written.dtype.kind
    numbers = np.arange(1, 1 + int(np.prod(written.shape))).reshape(written.shape)
    if kind == "b":
        # Not all of them true.
        numbers = numbers % 3
    # Objects are bytes of variable length: text has a type of its own, "T".
    written[...] = (
        numbers.astype("S").astype(object)
        if kind == "O"
        else numbers.astype(str if kind == "T" else written.dtype)
    )
    store["zarr.json"] = buffer.from_bytes(plain.encode())
    expected = np.asarray(written[...])
    decoded = np.asarray(zarr.open_array(MemoryStore(store), mode="r", zarr_format=3)[...])
    return bool(np.array_equal(decoded, expected))
