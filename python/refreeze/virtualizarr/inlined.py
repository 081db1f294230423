"""Slices of one-dimensional coordinates as chunks of their own, which references cannot express.

A coordinate is often one chunk for the whole axis. A region of the axis is then part of a chunk: it
is read, cut, and encoded again with the array's own codecs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from refreeze.metadata.chunk_codec import encoded_chunks

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

__all__ = ["MOST_CHUNKS", "chunk_length", "encoded", "inlined_document"]

MOST_CHUNKS = 1_000
"""Of a whole coordinate; beyond that a region's slice becomes one chunk."""


def chunk_length(step: int, whole: int, length: int) -> int:
    """Return the elements of a chunk of a coordinate that is carried inline.

    Regions that are appended one after another must agree on it, while none of them knows the
    others. All of them are multiples of ``step``, so that is the length, unless the chunks would
    be many: xarray loads dimension coordinates and writes them itself, and a chunk for every
    element would be slow to read.

    Parameters
    ----------
    step
        Elements by which all regions are aligned.
    whole
        Elements of the whole dimension.
    length
        Elements of the region.
    """
    return step if -(-whole // step) <= MOST_CHUNKS else length


def inlined_document(document: Mapping[str, Any], chunk: int) -> dict[str, Any]:
    """Return a coordinate's metadata document with other chunks; a sharded one is no longer."""
    codecs = document["codecs"]
    while len(codecs) == 1 and codecs[0]["name"] == "sharding_indexed":
        codecs = codecs[0]["configuration"]["codecs"]
    grid = {"name": "regular", "configuration": {"chunk_shape": [chunk]}}
    return {**document, "chunk_grid": grid, "codecs": codecs}


def encoded(document: Mapping[str, Any], values: np.ndarray[Any, Any]) -> dict[int, bytes]:
    """Encode a one-dimensional array's chunks; those that hold only the fill value are left out.

    Parameters
    ----------
    document
        Version 3 metadata of the array.
    values
        All its elements, as stored: not decoded.
    """
    chunks = encoded_chunks(json.dumps(document).encode(), values)
    return {index: chunk for (index,), chunk in chunks.items()}
