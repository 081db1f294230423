"""A grid of chunks in row-major order: cut into boxes that are listed one after another.

Pure arithmetic. Each box is one contiguous piece of the order, so that what is found in it becomes
whole record files in turn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

__all__ = ["Box", "boxes"]


@dataclass(frozen=True)
class Box:
    """A box of a chunk grid that is contiguous in row-major order."""

    start: int
    """Row-major index of its first chunk."""
    ranges: tuple[tuple[int, int], ...]
    """Start and stop along each dimension, in chunks."""

    @property
    def chunks(self) -> int:
        """Chunks that it has room for."""
        return math.prod(stop - start for start, stop in self.ranges)


def boxes(grid: Sequence[int], most: int) -> Iterator[Box]:
    """Cut a grid into boxes of at most ``most`` chunks, in order."""
    if not math.prod(grid):
        return
    axis = 0
    while axis < len(grid) and math.prod(grid[axis + 1 :]) > most:
        axis += 1
    if axis == len(grid):
        yield Box(0, ())
        return
    inner = math.prod(grid[axis + 1 :])
    step = _round(max(most // inner, 1))
    at = 0
    for outer in product(*(range(extent) for extent in grid[:axis])):
        for first in range(0, grid[axis], step):
            stop = min(first + step, grid[axis])
            ranges = [(n, n + 1) for n in outer] + [(first, stop)]
            ranges += [(0, extent) for extent in grid[axis + 1 :]]
            yield Box(at, tuple(ranges))
            at += (stop - first) * inner


def _round(step: int) -> int:
    """Round down to a power of ten times 1, 2 or 5: such ranges are few runs of keys in byte order."""
    power: int = 10 ** (len(str(step)) - 1)
    return max(power * factor for factor in (1, 2, 5) if power * factor <= step)
