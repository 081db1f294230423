"""Copies a variable of a file into its place in a stored array, block by block.

Blocks end on the stored array's chunks, so that no chunk is written twice; what is read back is
compared with what the file has. Where the place is has been decided before.
"""

from __future__ import annotations

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from refreeze.exceptions import IncompleteError, MismatchError
from refreeze.metadata.time_units import in_units_of
from refreeze.writer.packing import within_range
from refreeze.writer.region_checks import encoded, is_packed, marks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    import xarray as xr
    import zarr

    from refreeze.writer.keeping import KeepingStore
    from refreeze.writer.region_places import Place

__all__ = ["Copy", "Transfer", "copy_blocks", "copy_variable", "same_everywhere"]

_PIECE_BYTES = 8 << 20
"""What is written and read back at a time: several pieces of a file that is read at once."""


@dataclass(frozen=True)
class Copy:
    """How values are copied."""

    cast: bool
    action: str
    """For values out of a packed range: ``error``, ``clip`` or ``nan``."""
    attempts: int
    """How often a block is written whose values do not arrive."""
    check: frozenset[str] | None
    """Variables that are read back; None for all."""
    block_bytes: int


@dataclass(frozen=True)
class Transfer:
    """One variable on its way from a file into a stored array."""

    name: str
    own: xr.Variable
    """The file's, lazy and decoded."""
    there: xr.Variable
    """The template's: its encoding says how values are stored."""
    array: zarr.Array[Any]
    store: KeepingStore
    """Through which the array is written."""
    place: Place
    where: str
    """Names the file in errors."""
    times: Mapping[str, Any] | None = None
    """Units and calendar of the file's numbers, if they are times."""
    times_there: Mapping[str, Any] | None = None


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
    return copy_blocks(
        transfer, _blocks(whole, unit, transfer.own.dtype.itemsize, copy.block_bytes), copy
    )


def copy_blocks(transfer: Transfer, blocks: Iterable[tuple[slice, ...]], copy: Copy) -> int:
    """Copy what belongs into blocks of the stored array; see `copy_variable`."""
    unit, itemsize = transfer.array.shards or transfer.array.chunks, transfer.own.dtype.itemsize
    size = 0
    # What has been written is read back while the next piece is encoded.
    with ThreadPoolExecutor(1, "refreeze-check") as checker:
        waiting: list[Future[None]] = []
        for block in blocks:
            values = _values(transfer, block)
            size += int(values.nbytes)
            wanted, stored = _prepared(transfer, values, copy)
            for piece in _blocks(block, unit, itemsize, min(copy.block_bytes, _PIECE_BYTES)):
                inner = tuple(
                    slice(p.start - b.start, p.stop - b.start)
                    for p, b in zip(piece, block, strict=True)
                )
                check = _written(transfer, piece, stored[inner], wanted[inner], copy)
                if check is None:
                    continue
                while waiting:
                    waiting.pop().result()
                waiting.append(checker.submit(check))
        while waiting:
            waiting.pop().result()
    return size


def _written(
    transfer: Transfer,
    piece: tuple[slice, ...],
    stored: np.ndarray[Any, Any],
    wanted: np.ndarray[Any, Any],
    copy: Copy,
) -> Callable[[], None] | None:
    """Write a piece of whole chunks, and return what checks it; None if nobody asked for that."""
    name, array, store = transfer.name, transfer.array, transfer.store
    before = set(store.kept)
    array[piece] = stored
    keys = [key for key in list(store.kept) if key not in before]
    if copy.check is not None and name not in copy.check:
        store.forget(keys)
        return None

    def check() -> None:
        lost = np.zeros(0, bool)
        for attempt in range(copy.attempts):
            if attempt:
                array[piece] = stored
            lost = _lost(np.asarray(array[piece]), stored, wanted, transfer)
            arrived = store.arrived(keys)
            if arrived and not lost.any():
                store.forget(keys)
                return
        first = (
            tuple(int(each) for each in np.argwhere(lost)[0]) if lost.any() else (0,) * lost.ndim
        )
        at = tuple(part.start + k for part, k in zip(piece, first, strict=True))
        count = int(lost.sum()) if lost.any() else lost.size
        raise IncompleteError(
            f"{count} values of {name} are there in {transfer.where} and missing in what would be "
            f"committed, the first is {wanted[first]!r} at element {at}, after {copy.attempts} "
            f"attempt{'s' if copy.attempts > 1 else ''}",
            "nothing was committed; a value that equals _FillValue cannot be stored, otherwise "
            "retries_on_missing (--retries-on-missing) tries again",
        )

    return check


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
    elif there.dtype.kind == "f" and values.dtype.kind in "iuf":
        with np.errstate(over="ignore"):
            changed = values.astype(there.dtype, copy=False)
        if values.dtype.kind == "f" and (np.isinf(changed) & ~np.isinf(values)).any():
            raise MismatchError(f"{name} in {where} has values that {there.dtype} cannot hold")
        values = changed
    return values, encoded(name, values, there, where, cast=copy.cast)


def _lost(
    held: np.ndarray[Any, Any],
    stored: np.ndarray[Any, Any],
    wanted: np.ndarray[Any, Any],
    transfer: Transfer,
) -> np.ndarray[Any, Any]:
    """Tell which values are missing that should not be."""
    missing = np.isnan(held) if held.dtype.kind == "f" else np.zeros(held.shape, bool)
    for mark in marks_of(transfer.there):
        if mark == mark:  # noqa: PLR0124 NaN is looked at above
            missing |= held == mark
    # What was never written reads as the fill value, whether that is a mark or not.
    fill = transfer.array.fill_value
    if held.dtype.kind in "iufb" and fill == fill:  # noqa: PLR0124 as above
        missing |= (held == fill) & (held != stored)
    if not missing.any():
        return missing
    return missing & ~np.isnan(wanted) if wanted.dtype.kind == "f" else missing


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
