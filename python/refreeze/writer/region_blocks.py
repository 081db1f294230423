"""Copies a variable of a file into its place in a stored array, block by block.

Blocks end on the stored array's chunks, so that no chunk is written twice; what is stored is
compared with what the file has (`region_lanes`). Where the place is has been decided before.
"""

from __future__ import annotations

import itertools
import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from refreeze.exceptions import MismatchError
from refreeze.metadata.time_units import in_units_of
from refreeze.writer.packing import within_range
from refreeze.writer.region_checks import encoded, is_packed
from refreeze.writer.region_lanes import Copy, Lane, Transfer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["copy_blocks", "copy_variable", "same_everywhere"]

_SMALL_BLOCK_BYTES = 32 << 20
"""What is read at a time, while the last such block is written."""
_SHARE_OF_A_PIECE, _SHARE_OF_A_SMALL_BLOCK, _SHARE_OF_A_LARGE_BLOCK = 8, 6, 3
"""Of the memory: two small blocks are held or one large (reading may take that once more), and a piece
as it is, encoded and decoded.
"""


def copy_variable(transfer: Transfer, copy: Copy) -> int:
    """Copy a whole variable, and return the bytes that were read.

    Raises
    ------
    IncompleteError
        Values that are in the file are missing in what was stored.
    MismatchError
        The stored type cannot hold a value.
    """
    unit = transfer.array.shards or transfer.array.chunks
    whole = tuple(transfer.place.region[str(dim)] for dim in transfer.there.dims)
    most = min(copy.memory // _SHARE_OF_A_SMALL_BLOCK, _SMALL_BLOCK_BYTES)
    blocks = list(_blocks(whole, unit, _width(transfer), most))
    once = not _cuts_chunks_of_the_file(transfer, blocks)
    if not once:
        # Its chunks would be read and decompressed again for every block that has a part of them.
        most = copy.memory // _SHARE_OF_A_LARGE_BLOCK
        blocks = list(_blocks(whole, unit, _width(transfer), most))
    return copy_blocks(transfer, blocks, copy, ahead=once)


def copy_blocks(
    transfer: Transfer, blocks: Iterable[tuple[slice, ...]], copy: Copy, *, ahead: bool = False
) -> int:
    """Copy what belongs into blocks of the stored array; see `copy_variable`.

    Parameters
    ----------
    ahead
        Whether the next block may be read while the last one is being written.
    """
    unit, width = transfer.array.shards or transfer.array.chunks, _width(transfer)
    most = copy.memory // _SHARE_OF_A_PIECE
    # zarr has so many chunks in the works at a time, however many it is given.
    if math.prod(unit) * width * zarr.config.get("async.concurrency") <= most:
        most = sys.maxsize
    size = 0
    with Lane(transfer, copy) as lane:
        for block in blocks:
            if not ahead:
                lane.drain()
            values = _values(transfer, block)
            size += int(values.nbytes)
            wanted, stored = _prepared(transfer, values, copy)
            del values
            lane.drain()
            for piece in _blocks(block, unit, width, most):
                inner = tuple(
                    slice(p.start - b.start, p.stop - b.start)
                    for p, b in zip(piece, block, strict=True)
                )
                lane.put(piece, stored[inner], wanted[inner])
            del wanted, stored
    return size


def _width(transfer: Transfer) -> int:
    """Return the bytes that an element takes on its way; converting needs double precision."""
    own, there = transfer.own, transfer.there
    stored = [np.dtype(each.encoding.get("dtype", each.dtype)) for each in (own, there)]
    as_it_is = stored[0] == stored[1] == own.dtype
    size = int(own.dtype.itemsize)
    return size if as_it_is else max(16, 2 * size)


def _cuts_chunks_of_the_file(transfer: Transfer, blocks: Sequence[tuple[slice, ...]]) -> bool:
    """Whether a chunk of the file, or of dask, is in more than one block."""
    own, there, place = transfer.own, transfer.there, transfer.place
    known = own.chunks or own.encoding.get("chunksizes") or own.encoding.get("chunks")
    if len(blocks) == 1 or not known or len(known) != own.ndim:
        return False
    chunks = dict(zip(map(str, own.dims), known, strict=True))
    for axis, dim in enumerate(map(str, there.dims)):
        part, lengths = place.region[dim], chunks[dim]
        for edge in {block[axis].start for block in blocks} - {part.start}:
            at = part.stop - edge if dim in place.flipped else edge - part.start
            if at not in np.cumsum(lengths) if isinstance(lengths, tuple) else at % lengths:
                return True
    return False


def same_everywhere(transfer: Transfer, copy: Copy) -> bool:
    """Whether a variable that all files have in full is stored already, with the same values.

    Raises
    ------
    MismatchError
        It is stored with other values.
    """
    name, array = transfer.name, transfer.array
    if array.nchunks_initialized == 0:
        return False
    whole = tuple(slice(0, size) for size in array.shape)
    _, stored = _prepared(transfer, _values(transfer, whole), copy)
    held = np.asarray(array[...])
    equal = held == stored
    if held.dtype.kind == "f":
        equal = equal | (np.isnan(held) & np.isnan(stored))
    if not np.all(equal):
        raise MismatchError(
            f"{name}, which does not depend on where the file belongs, has other values in "
            f"{transfer.where} "
            "than in the target",
            f"leave it out: drop_variables {name} (--drop-variables {name})",
        )
    return True


def _values(transfer: Transfer, block: Sequence[slice]) -> np.ndarray[Any, Any]:
    """Read what belongs into a block, in the order of the stored array."""
    own, there, place = transfer.own, transfer.there, transfer.place
    wanted = dict(zip(map(str, there.dims), block, strict=True))
    parts, turned = [], []
    for axis, each in enumerate(own.dims):
        dim = str(each)
        start = place.region[dim].start
        first, last = wanted[dim].start - start, wanted[dim].stop - start
        if dim in place.flipped:
            first, last = own.shape[axis] - last, own.shape[axis] - first
            turned.append(axis)
        parts.append(slice(first, last))
    values = np.asarray(own[tuple(parts)].values)
    if turned:
        values = np.flip(values, tuple(turned))
    return values.transpose([own.dims.index(dim) for dim in there.dims])


def _prepared(
    transfer: Transfer, values: np.ndarray[Any, Any], copy: Copy
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return values as they should be read, and as they are stored."""
    name, there, where = transfer.name, transfer.there, transfer.where
    if transfer.times is not None and transfer.times_there is not None:
        values = in_units_of(
            values, transfer.times, transfer.times_there, where=f"{name} in {where}"
        )
    if is_packed(there):
        values = within_range(values, there.encoding, copy.action, f"{name} in {where}")
    elif there.dtype.kind == "f" and values.dtype.kind in "iuf" and values.dtype != there.dtype:
        with np.errstate(over="ignore"):
            changed = values.astype(there.dtype)
        if values.dtype.kind == "f" and (np.isinf(changed) & ~np.isinf(values)).any():
            raise MismatchError(f"{name} in {where} has values that {there.dtype} cannot hold")
        values = changed
    return values, encoded(name, values, there, where, cast=copy.cast)


def _blocks(
    bounds: Sequence[slice], unit: Sequence[int], itemsize: int, most: int
) -> Iterator[tuple[slice, ...]]:
    """Cut a region into blocks of whole chunks, each of at most so many bytes if chunks are."""
    counts = [1] * len(bounds)
    for axis in reversed(range(len(bounds))):
        start, stop = bounds[axis].start, bounds[axis].stop
        chunk = itemsize * math.prod(c * u for c, u in zip(counts, unit, strict=True))
        across = -(-stop // unit[axis]) - start // unit[axis]
        counts[axis] = max(1, min(across, most // max(1, chunk)))
        if counts[axis] < across:
            break
    edges = []
    for part, chunk, count in zip(bounds, unit, counts, strict=True):
        start, stop, step = part.start, part.stop, chunk * count
        inner = range((start // step + 1) * step, stop, step)
        edges.append([slice(a, b) for a, b in itertools.pairwise([start, *inner, stop])])
    yield from itertools.product(*edges)
