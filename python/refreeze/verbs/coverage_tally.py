"""Counts of the chunks that an array has, and what is missing, in memory that no chunk adds to.

Kept are one number for each position along each dimension, and a picture of two of them. Where the
chunks come from is decided elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Run", "Tally", "edges"]

MOST_BINS = (800, 400)
"""Bins of a picture along its x and y axis: each is a pixel or more of what is drawn."""


@dataclass(frozen=True)
class Run:
    """Positions of chunks along one dimension, which lack some or have some."""

    axis: int
    start: int
    stop: int
    chunks: int
    """How many of these positions are missing and in no other run, or written."""


def edges(extent: int, bins: int) -> np.ndarray[Any, Any]:
    """Return where bins of positions begin, and the end of the last one."""
    return np.array([-(-index * extent // bins) for index in range(bins + 1)], dtype=np.int64)


class Tally:
    """The chunks of one array.

    Parameters
    ----------
    grid
        Chunks along each dimension.
    axes
        The dimensions of the picture, x first; none for a scalar, one for a single dimension.
    """

    def __init__(self, grid: Sequence[int], axes: Sequence[int]) -> None:
        self.grid = tuple(grid)
        self.axes = tuple(axes)
        self.possible = math.prod(self.grid)
        self.present = self.virtual = self.bytes = 0
        self.smallest: int | None = None
        self.largest: int | None = None
        self.first: int | None = None
        """Microseconds since 1970 of the oldest chunk whose time is known."""
        self.last: int | None = None
        self.magnitudes = np.zeros(65, dtype=np.int64)
        """Chunks by the bits that their size takes."""
        self.counts = [np.zeros(extent, dtype=np.uint32) for extent in self.grid]
        shape = [
            max(min(self.grid[axis], most), 1)
            for axis, most in zip(self.axes, MOST_BINS, strict=False)
        ]
        self.shape = tuple(shape + [1] * (2 - len(shape)))
        """Bins along x and y."""
        self.map_present = np.zeros(self.shape, dtype=np.int64)
        self.map_bytes = np.zeros(self.shape, dtype=np.float64)
        self.map_seconds = np.zeros(self.shape, dtype=np.float64)
        self.map_timed = np.zeros(self.shape, dtype=np.int64)

    def add(
        self,
        coords: Sequence[np.ndarray[Any, Any]],
        sizes: np.ndarray[Any, Any],
        times: np.ndarray[Any, Any],
        *,
        virtual: int,
    ) -> None:
        """Add chunks.

        Parameters
        ----------
        coords
            Coordinates in the grid, an array for each dimension.
        sizes
            Bytes.
        times
            Microseconds since 1970; those below zero are unknown.
        virtual
            How many are references.
        """
        if not len(sizes):
            return
        self.present += len(sizes)
        self.virtual += virtual
        self.bytes += int(sizes.sum())
        smallest, largest = int(sizes.min()), int(sizes.max())
        self.smallest = smallest if self.smallest is None else min(self.smallest, smallest)
        self.largest = largest if self.largest is None else max(self.largest, largest)
        bits = np.frexp(sizes.astype(np.float64))[1]
        self.magnitudes += np.bincount(bits, minlength=65)[:65]
        known = times[times >= 0]
        if len(known):
            first, last = int(known.min()), int(known.max())
            self.first = first if self.first is None else min(self.first, first)
            self.last = last if self.last is None else max(self.last, last)
        for axis, positions in enumerate(coords):
            at, found = np.unique(positions, return_counts=True)
            self.counts[axis][at] += found.astype(np.uint32)
        self._add_to_map(coords, sizes, times)

    def _add_to_map(
        self,
        coords: Sequence[np.ndarray[Any, Any]],
        sizes: np.ndarray[Any, Any],
        times: np.ndarray[Any, Any],
    ) -> None:
        flat = np.zeros(len(sizes), dtype=np.int64)
        for axis, bins in zip(self.axes, self.shape, strict=False):
            flat = flat * bins + coords[axis].astype(np.int64) * bins // self.grid[axis]
        if len(self.axes) == 1:
            flat = flat * self.shape[1]
        known = times >= 0
        cells = math.prod(self.shape)
        for kept, weights, chosen in (
            (self.map_present, None, slice(None)),
            (self.map_bytes, sizes, slice(None)),
            (self.map_timed, None, known),
            (self.map_seconds, times / 1e6, known),
        ):
            taken = None if weights is None else weights[chosen]
            found = np.bincount(flat[chosen], weights=taken, minlength=cells)
            np.add(kept, found.reshape(self.shape), out=kept, casting="unsafe")

    def map_possible(self) -> np.ndarray[Any, Any]:
        """Return how many chunks each bin of the picture has room for."""
        sizes = [
            np.diff(edges(self.grid[axis], bins))
            for axis, bins in zip(self.axes, self.shape, strict=False)
        ]
        others = math.prod(n for axis, n in enumerate(self.grid) if axis not in self.axes)
        while len(sizes) < len(self.shape):
            sizes.append(np.ones(1, dtype=np.int64))
        return np.multiply.outer(sizes[0], sizes[1]).astype(np.float64) * others

    def missing(self) -> list[Run]:
        """Return what is missing as runs of positions, each missing chunk in one of them.

        First the positions along each dimension that have no chunk at all. What is missing besides
        is told along the dimension in which it takes the smallest part.
        """
        if self.present == self.possible or not self.grid:
            return []
        runs = []
        # Chunks of one position among those that earlier dimensions leave.
        left = [int(np.count_nonzero(counts)) for counts in self.counts]
        for axis, counts in enumerate(self.counts):
            slab = math.prod(left[:axis]) * math.prod(self.grid[axis + 1 :])
            if slab:
                empty = counts == 0
                runs += [
                    Run(axis, start, stop, (stop - start) * slab) for start, stop in _runs(empty)
                ]
        if self.present and self.present < math.prod(left):
            runs += self._partial(left)
        return runs

    def written(self) -> list[Run]:
        """Return what is there as runs of positions along every dimension by itself."""
        return [
            Run(axis, start, stop, int(counts[start:stop].sum(dtype=np.int64)))
            for axis, counts in enumerate(self.counts)
            for start, stop in _runs(counts > 0)
        ]

    def _partial(self, left: list[int]) -> list[Run]:
        best: tuple[float, int] | None = None
        for axis, counts in enumerate(self.counts):
            slab = math.prod(n for other, n in enumerate(left) if other != axis)
            affected = np.count_nonzero((counts > 0) & (counts < slab)) / max(left[axis], 1)
            if affected and (best is None or affected < best[0]):
                best = (affected, axis)
        if best is None:
            return []
        axis = best[1]
        counts = self.counts[axis].astype(np.int64)
        slab = math.prod(n for other, n in enumerate(left) if other != axis)
        lacking = np.where(counts > 0, slab - counts, 0)
        return [
            Run(axis, start, stop, int(lacking[start:stop].sum()))
            for start, stop in _runs(lacking > 0)
        ]


def _runs(flags: np.ndarray[Any, Any]) -> Iterator[tuple[int, int]]:
    """Yield where a flag is set, half-open."""
    padded = np.concatenate(([False], flags, [False]))
    changes = np.flatnonzero(padded[1:] != padded[:-1])
    for start, stop in zip(changes[::2], changes[1::2], strict=True):
        yield int(start), int(stop)
