"""A listing of one array as the three dense arrays that VirtualiZarr keeps of it: paths, offsets, lengths.

numpy does all of it: no Python object is made for a chunk. What is held grows with the region's
grid alone.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import UnsupportedArrayError

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Sequence

    import numpy as np

__all__ = ["ReferenceArrays", "paths_of", "references"]


@dataclass(frozen=True)
class ReferenceArrays:
    """References to the chunks of a box of a grid; each array has the box's shape."""

    paths: np.ndarray[Any, Any]
    """Locations (variable-length strings); empty where there is no chunk."""
    offsets: np.ndarray[Any, np.dtype[np.uint64]]
    """Bytes; all zero, since a chunk is an object of its own."""
    lengths: np.ndarray[Any, np.dtype[np.uint64]]
    """Bytes; zero where there is no chunk."""


def references(
    batches: Iterable[Any],
    box: Sequence[tuple[int, int]],
    *,
    array: str,
    prefix: str,
    separator: str,
    stop: threading.Event,
) -> ReferenceArrays | None:
    """Collect the chunks of a listing.

    Parameters
    ----------
    batches
        Record batches with a column ``chunk_0``, ``chunk_1``, … a dimension, and ``size``.
    box
        Chunk coordinates in the array's grid along each dimension, half-open.
    array
        Path of the array, for errors.
    prefix
        What every chunk's location begins with, up to its first coordinate. Of an array without
        dimensions, the whole of it.
    separator
        Between two coordinates.
    stop
        Ends the work early; there is no result then.

    Raises
    ------
    UnsupportedArrayError
        A chunk's object is empty.
    """
    import numpy as np

    shape = tuple(end - start for start, end in box)
    lengths = np.zeros(math.prod(shape), np.uint64)
    for batch in batches:
        if stop.is_set():
            return None
        sizes = batch.column("size").to_numpy()
        index = np.zeros(len(sizes), np.int64)
        for axis, ((start, _), extent) in enumerate(zip(box, shape, strict=True)):
            index *= extent
            index += batch.column(f"chunk_{axis}").to_numpy()
            index -= start
        if not sizes.all():
            place = np.unravel_index(index[np.argmin(sizes)], shape)
            coords = [str(start + int(at)) for (start, _), at in zip(box, place, strict=True)]
            raise UnsupportedArrayError(
                f"chunk {prefix}{separator.join(coords)} of array {array} is an empty object",
                "delete it (a missing chunk reads as the fill value) or write it again",
            )
        lengths[index] = sizes
    lengths = lengths.reshape(shape)
    paths = paths_of(lengths > 0, box, prefix, separator)
    return ReferenceArrays(paths, np.zeros(shape, np.uint64), lengths)


def paths_of(
    present: np.ndarray[Any, np.dtype[np.bool_]],
    box: Sequence[tuple[int, int]],
    prefix: str,
    separator: str,
) -> np.ndarray[Any, Any]:
    """Return the locations of a box's chunks, empty where ``present`` is false.

    The grid is a product, so its keys are: all beginnings times all ends. Only the last step has as
    many strings as there are chunks.
    """
    import numpy as np

    text = np.dtypes.StringDType()
    if not box:
        return np.array(prefix if present else "", text)
    # Where the two factors are about equal, they are small.
    cut = min(
        range(len(box)),
        key=lambda axis: math.prod(present.shape[:axis]) + math.prod(present.shape[axis:]),
    )
    numbers: list[Any] = [np.arange(start, end).astype(text) for start, end in box]
    for axis in range(len(box) - 1):
        numbers[axis] = np.add(numbers[axis], separator)
    heads = _product([np.array([prefix], text), *numbers[:cut]])
    tails = _product(numbers[cut:])
    paths = np.zeros((len(heads), len(tails)), text)
    np.add(heads[:, None], tails, out=paths, where=present.reshape(paths.shape))
    return paths.reshape(present.shape)


def _product(parts: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Return every concatenation of one string of each part, in row-major order."""
    import numpy as np

    return functools.reduce(lambda firsts, nexts: np.add.outer(firsts, nexts).ravel(), parts)
