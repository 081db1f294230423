"""Values of an array to the bytes of its native chunks and back, with the array's own codecs.

Which chunks are wanted, and where their values come from, is decided elsewhere.
"""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import zarr

__all__ = ["decoded_values", "encoded_chunks", "with_shape"]


def with_shape(document: bytes, shape: tuple[int, ...]) -> bytes:
    """Return an array's metadata document with another shape."""
    return json.dumps(json.loads(document) | {"shape": list(shape)}).encode()


def encoded_chunks(document: bytes, values: np.ndarray[Any, Any]) -> dict[tuple[int, ...], bytes]:
    """Encode all chunks (shards) of an array; those that hold only the fill value are left out.

    Parameters
    ----------
    document
        Version 3 metadata of the array, with Icechunk's chunk keys.
    values
        All its elements, as stored: not decoded.
    """
    store: dict[str, Any] = {}
    _opened(document, store)[...] = values
    return {_coordinates(key): buffer.to_bytes() for key, buffer in store.items()}


def decoded_values(document: bytes, chunks: Mapping[tuple[int, ...], bytes]) -> Any:
    """Decode an array's chunks; missing ones are the fill value."""
    from zarr.core.buffer import default_buffer_prototype

    buffer = default_buffer_prototype().buffer
    store = {
        "/".join(["c", *map(str, coordinates)]): buffer.from_bytes(chunk)
        for coordinates, chunk in chunks.items()
    }
    import numpy as np

    return np.asarray(_opened(document, store)[...])


def _opened(document: bytes, store: dict[str, Any]) -> zarr.Array[Any]:
    import zarr
    from zarr.core.metadata import ArrayV3Metadata
    from zarr.storage import MemoryStore, StorePath

    keys = {"name": "default", "configuration": {"separator": "/"}}
    with warnings.catch_warnings():
        # zarr warns of data types that the specification does not list; the source has them.
        warnings.simplefilter("ignore")
        metadata = ArrayV3Metadata.from_dict(json.loads(document) | {"chunk_key_encoding": keys})
        return zarr.Array.from_dict(StorePath(MemoryStore(store)), metadata.to_dict())


def _coordinates(key: str) -> tuple[int, ...]:
    """Take a chunk key apart: ``c/0/1``, or ``c`` of a scalar."""
    return tuple(map(int, key.split("/")[1:]))
