"""Writes pieces of a variable into a stored array, two at a time, and reads each back.

While one piece is encoded the other is decoded, and whoever has the values reads the next ones.
What is to be written where is the caller's business.
"""

from __future__ import annotations

from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, ThreadPoolExecutor, wait
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

_LANES = 2


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
    """Carries pieces of one variable; used in a ``with`` block, which ends when all have arrived."""

    def __init__(self, transfer: Transfer, copy: Copy) -> None:
        self._transfer = transfer
        self._copy = copy
        self._pool = ThreadPoolExecutor(_LANES, "refreeze-write")
        self._made = 0
        self._free: list[_Lane] = []
        self._busy: dict[Future[None], _Lane] = {}

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
            self._pool.shutdown(cancel_futures=True)

    def put(
        self,
        piece: tuple[slice, ...],
        stored: np.ndarray[Any, Any],
        wanted: np.ndarray[Any, Any],
    ) -> None:
        """Take a piece of whole chunks as soon as a lane is free.

        Parameters
        ----------
        stored, wanted
            Its values as they are stored, and as they should be read.

        Raises
        ------
        IncompleteError
            Values of this piece or of one before did not arrive.
        """
        if self._made == _LANES and not self._free:
            self._collect(FIRST_COMPLETED)
        if not self._free:
            store = KeepingStore(self._transfer.store)
            self._free.append(_Lane(store, stored_array(store, self._transfer.array.path)))
            self._made += 1
        lane, load = self._free.pop(), _Piece(piece, stored, wanted)
        self._busy[self._pool.submit(_carried, lane, self._transfer, self._copy, load)] = lane

    def drain(self) -> None:
        """Wait until all pieces have arrived."""
        if self._busy:
            self._collect(ALL_COMPLETED)

    def _collect(self, when: str) -> None:
        for future in wait(self._busy, return_when=when).done:
            self._free.append(self._busy.pop(future))
            future.result()


def _carried(lane: _Lane, transfer: Transfer, copy: Copy, piece: _Piece) -> None:
    """Write a piece, read it back if that is asked for, and write it again if values are missing."""
    try:
        lost = np.zeros(0, bool)
        for _ in range(copy.attempts):
            lane.array[piece.place] = piece.stored
            if copy.check is not None and transfer.name not in copy.check:
                return
            lost = _lost(np.asarray(lane.array[piece.place]), piece, transfer)
            if lane.store.arrived() and not lost.any():
                return
    finally:
        lane.store.forget()
    first = tuple(int(each) for each in np.argwhere(lost)[0]) if lost.any() else (0,) * lost.ndim
    at = tuple(part.start + k for part, k in zip(piece.place, first, strict=True))
    count = int(lost.sum()) if lost.any() else lost.size
    raise IncompleteError(
        f"{count} values of {transfer.name} are there in {transfer.where} and missing in what would "
        f"be committed, the first is {piece.wanted[first]!r} at element {at}, after {copy.attempts} "
        f"attempt{'s' if copy.attempts > 1 else ''}",
        "nothing was committed; a value that equals _FillValue cannot be stored, otherwise "
        "retries_on_missing (--retries-on-missing) tries again",
    )


def _lost(held: np.ndarray[Any, Any], piece: _Piece, transfer: Transfer) -> np.ndarray[Any, Any]:
    """Tell which values are missing that should not be."""
    missing = np.isnan(held) if held.dtype.kind == "f" else np.zeros(held.shape, bool)
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
