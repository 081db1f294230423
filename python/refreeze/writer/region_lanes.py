"""Writes pieces of a variable into a stored array and checks them, while the next block is read.

One thread is enough: zarr encodes and decodes in its own. What is to be written where is the
caller's business.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from refreeze.exceptions import IncompleteError
from refreeze.writer.checked_array import CheckedArray, stored_array
from refreeze.writer.region_checks import marks_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Future
    from types import TracebackType

    import xarray as xr
    import zarr

    from refreeze.writer.region_places import Place

__all__ = ["Copy", "Lane", "Transfer"]


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
class _Piece:
    """Whole chunks, or what of them belongs into the array."""

    place: tuple[slice, ...]
    stored: np.ndarray[Any, Any]
    """Values as they are stored."""
    wanted: np.ndarray[Any, Any]
    """Values as they should be read."""


class Lane:
    """Carries pieces of one variable; used in a ``with`` block, which ends when all have arrived."""

    def __init__(self, transfer: Transfer, copy: Copy) -> None:
        self._transfer = transfer
        self._attempts = copy.attempts
        path = transfer.array.path
        self._plain: zarr.Array[Any] | None = None
        if copy.check is None or transfer.name in copy.check:
            self._checked = CheckedArray(transfer.store, path)
        else:
            self._plain = stored_array(transfer.store, path)
        self._writer = ThreadPoolExecutor(1, "refreeze-write")
        self._waiting: list[Future[None]] = []

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
            self._writer.shutdown(cancel_futures=True)

    def put(
        self,
        place: tuple[slice, ...],
        stored: np.ndarray[Any, Any],
        wanted: np.ndarray[Any, Any],
    ) -> None:
        """Hand over a piece of whole chunks, which is held until it has arrived.

        Parameters
        ----------
        stored, wanted
            Its values as they are stored, and as they should be read.
        """
        self._waiting.append(self._writer.submit(self._write, _Piece(place, stored, wanted)))

    def drain(self) -> None:
        """Wait until all pieces have arrived.

        Raises
        ------
        IncompleteError
            Values of one did not.
        """
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.result()

    def _write(self, piece: _Piece) -> None:
        if self._plain is not None:
            self._plain[piece.place] = piece.stored
            return
        for _ in range(self._attempts):
            lost = _Lost(piece, self._transfer)
            for missing in self._checked.write(piece.place, piece.stored, lost.look):
                lost.add(missing, np.ones_like(piece.stored[missing], bool))
            if not lost.count:
                return
        at = tuple(part.start + k for part, k in zip(piece.place, lost.first, strict=True))
        raise IncompleteError(
            f"{lost.count} values of {self._transfer.name} are there in {self._transfer.where} and "
            f"missing in what would be committed, the first is {piece.wanted[lost.first]!r} at "
            f"element {at}, after {self._attempts} attempt{'s' if self._attempts > 1 else ''}",
            "nothing was committed; a value that equals _FillValue cannot be stored, otherwise "
            "retries_on_missing (--retries-on-missing) tries again",
        )


@dataclass
class _Lost:
    """Which values of a piece are missing that should not be."""

    piece: _Piece
    transfer: Transfer
    parts: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    """Of chunks: how many, and the first."""

    @property
    def count(self) -> int:
        return sum(count for count, _ in self.parts)

    @property
    def first(self) -> tuple[int, ...]:
        return min(first for _, first in self.parts)

    def add(self, inside: tuple[slice, ...], lost: np.ndarray[Any, Any]) -> None:
        """Add those of a part of the piece."""
        if lost.any():
            within = np.argwhere(lost)[0]
            first = tuple(part.start + int(k) for part, k in zip(inside, within, strict=True))
            self.parts.append((int(lost.sum()), first))

    def look(self, held: np.ndarray[Any, Any], inside: tuple[slice, ...]) -> None:
        """Look at what a chunk holds of the piece."""
        # The least of numbers with a NaN among them is NaN: one pass, and nothing to be held.
        is_there = held.dtype.kind != "f" or not held.size or not np.isnan(held.min())
        missing = np.zeros(held.shape, bool) if is_there else np.isnan(held)
        for mark in marks_of(self.transfer.there):
            if mark == mark:  # noqa: PLR0124 NaN is looked at above
                missing |= held == mark
        # What was never written reads as the fill value, whether that is a mark or not.
        fill = self.transfer.array.fill_value
        if held.dtype.kind in "iufb" and fill == fill:  # noqa: PLR0124 as above
            missing |= (held == fill) & (held != self.piece.stored[inside])
        wanted = self.piece.wanted[inside]
        if wanted.dtype.kind == "f" and missing.any():
            missing &= ~np.isnan(wanted)
        self.add(inside, missing)
