"""Writes pieces of a variable into a stored array, and reads each back while the next one is written.

More threads were slower: zarr encodes and decodes in its own, and all of them wait for the
interpreter. What is to be written where is the caller's business.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import zarr

from refreeze.exceptions import IncompleteError
from refreeze.writer.keeping import KeepingStore
from refreeze.writer.region_checks import marks_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Future
    from types import TracebackType

    import xarray as xr

    from refreeze.writer.region_places import Place

__all__ = ["Copy", "Lanes", "Transfer", "stored_array"]


@dataclass(frozen=True)
class Copy:
    """How values are copied."""

    cast: bool
    action: str
    """For values out of a packed range: ``error``, ``clip`` or ``nan``."""
    attempts: int
    """How often a piece is written whose values do not arrive."""
    check: frozenset[str] | None
    """Variables that are read back; None for all."""
    memory: int
    """In bytes, for all that is held at a time."""


@dataclass(frozen=True)
class Transfer:
    """One variable on its way from a file into a stored array."""

    name: str
    own: xr.Variable
    """The file's, lazy and decoded."""
    there: xr.Variable
    """The template's: its encoding says how values are stored."""
    store: Any
    """The session's, or a fork's."""
    array: zarr.Array[Any]
    place: Place
    where: str
    """Names the file in errors."""
    times: Mapping[str, Any] | None = None
    """Units and calendar of the file's numbers, if they are times."""
    times_there: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class _Lane:
    """A way into the array that keeps what goes along it."""

    store: KeepingStore
    array: zarr.Array[Any]


@dataclass(frozen=True)
class _Piece:
    """Whole chunks, or what of them belongs into the array."""

    place: tuple[slice, ...]
    stored: np.ndarray[Any, Any]
    """Values as they are stored."""
    wanted: np.ndarray[Any, Any]
    """Values as they should be read."""


def stored_array(store: Any, path: str) -> zarr.Array[Any]:
    """Open an array; its chunks exist as soon as they are written, whatever they hold."""
    return zarr.open_array(store, path=path, mode="r+", config={"write_empty_chunks": True})


class Lanes:
    """Carries pieces of one variable; used in a ``with`` block, which ends when all have arrived.

    There are two: a piece is written along one while that of the other is read back.
    """

    def __init__(self, transfer: Transfer, copy: Copy) -> None:
        self._transfer = transfer
        self._copy = copy
        self._checked = copy.check is None or transfer.name in copy.check
        self._checker = ThreadPoolExecutor(1, "refreeze-check")
        self._lanes = itertools.cycle([_lane(transfer), _lane(transfer)])
        self._waiting: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.drain()
        finally:
            self._checker.shutdown()

    def put(
        self,
        place: tuple[slice, ...],
        stored: np.ndarray[Any, Any],
        wanted: np.ndarray[Any, Any],
    ) -> None:
        """Write a piece of whole chunks.

        Parameters
        ----------
        stored, wanted
            Its values as they are stored, and as they should be read.

        Raises
        ------
        IncompleteError
            Values of a piece before did not arrive.
        """
        lane, piece = next(self._lanes), _Piece(place, stored, wanted)
        lane.array[place] = stored
        if not self._checked:
            lane.store.forget()
            return
        self.drain()
        self._waiting = self._checker.submit(
            _check, lane, self._transfer, piece, self._copy.attempts
        )

    def drain(self) -> None:
        """Wait until all pieces have arrived."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.result()


def _lane(transfer: Transfer) -> _Lane:
    store = KeepingStore(transfer.store)
    return _Lane(store, stored_array(store, transfer.array.path))


def _check(lane: _Lane, transfer: Transfer, piece: _Piece, attempts: int) -> None:
    """Read a piece back, and write it again if values are missing."""
    lost = np.zeros(0, bool)
    for attempt in range(attempts):
        if attempt:
            lane.array[piece.place] = piece.stored
        lost = _lost(np.asarray(lane.array[piece.place]), piece, transfer)
        if lane.store.arrived() and not lost.any():
            lane.store.forget()
            return
    first = tuple(int(each) for each in np.argwhere(lost)[0]) if lost.any() else (0,) * lost.ndim
    at = tuple(part.start + k for part, k in zip(piece.place, first, strict=True))
    count = int(lost.sum()) if lost.any() else lost.size
    raise IncompleteError(
        f"{count} values of {transfer.name} are there in {transfer.where} and missing in what would "
        f"be committed, the first is {piece.wanted[first]!r} at element {at}, after {attempts} "
        f"attempt{'s' if attempts > 1 else ''}",
        "nothing was committed; a value that equals _FillValue cannot be stored, otherwise "
        "retries_on_missing (--retries-on-missing) tries again",
    )


def _lost(held: np.ndarray[Any, Any], piece: _Piece, transfer: Transfer) -> np.ndarray[Any, Any]:
    """Tell which values are missing that should not be."""
    # The least of numbers with a NaN among them is NaN: one pass, and nothing to be held.
    is_there = held.dtype.kind != "f" or not held.size or not np.isnan(held.min())
    missing = np.zeros(held.shape, bool) if is_there else np.isnan(held)
    for mark in marks_of(transfer.there):
        if mark == mark:  # noqa: PLR0124 NaN is looked at above
            missing |= held == mark
    # What was never written reads as the fill value, whether that is a mark or not.
    fill = transfer.array.fill_value
    if held.dtype.kind in "iufb" and fill == fill:  # noqa: PLR0124 as above
        missing |= (held == fill) & (held != piece.stored)
    if not missing.any():
        return missing
    return missing & ~np.isnan(piece.wanted) if piece.wanted.dtype.kind == "f" else missing
