"""How long chunks are: what is asked for, what files have, and what fits a use of the array. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["ACCESS_PATTERNS", "chunk_shape", "lengths_by_name"]

ACCESS_PATTERNS = ("temporal", "spatial", "balanced")


def lengths_by_name(given: Any, what: str) -> dict[str, int]:
    """Read ``time:100,lat:50``, or a mapping of the same meaning; -1 stands for all.

    Raises
    ------
    ValueError
        A length is not a positive whole number.
    """
    if given is None:
        return {}
    if isinstance(given, str):
        parts = [part for part in given.split(",") if part.strip()]
        pairs: list[tuple[Any, Any]] = []
        for part in parts:
            name, separator, length = part.replace("=", ":").rpartition(":")
            if not separator or not name.strip():
                raise ValueError(f"{what} is NAME:LENGTH,NAME:LENGTH, not {given!r}")
            pairs.append((name.strip(), length))
    elif isinstance(given, Mapping):
        pairs = list(given.items())
    else:
        raise TypeError(f"{what} is a mapping or a text, not {type(given).__name__}")
    lengths = {}
    for name, length in pairs:
        try:
            number = int(length)
        except (TypeError, ValueError):
            number = 0
        if (number < 1 and number != -1) or isinstance(length, bool | float):
            raise ValueError(f"{what}: {name}:{length} is no length; it is a whole number above 0")
        lengths[str(name)] = number
    return lengths


def chunk_shape(
    dims: Sequence[str],
    shape: Sequence[int],
    itemsize: int,
    *,
    asked: Mapping[str, int],
    of_file: Sequence[int] | None,
    lengths_of_file: Mapping[str, int],
    time_dim: str,
    pattern: str | None,
    target_bytes: int,
) -> tuple[int, ...]:
    """Return the chunk shape of an array.

    Parameters
    ----------
    dims, shape
        Of the whole array, not of one file.
    asked
        Lengths that are fixed; -1 for the whole dimension.
    of_file
        Chunk shape of the file that the template is made from.
    lengths_of_file
        By dimension. Where nothing else is known one file fills chunks of its own.
    pattern
        ``temporal``, ``spatial``, ``balanced``: computed from the whole shape; None: not at all.
    target_bytes
        What a chunk may have, uncompressed.
    """
    sizes = [max(1, size) for size in shape]
    fixed = {
        axis: sizes[axis] if asked[name] == -1 else asked[name]
        for axis, name in enumerate(dims)
        if name in asked
    }
    if pattern is None and fixed:
        # Who names some dimensions wants the others whole.
        return tuple(fixed.get(axis, size) for axis, size in enumerate(sizes))
    if pattern is None and of_file is not None:
        return tuple(max(1, length) for length in of_file)
    budget = max(1, target_bytes // max(1, itemsize * math.prod(fixed.values())))
    free = [axis for axis in range(len(sizes)) if axis not in fixed]
    lengths = {axis: sizes[axis] for axis in free}
    time = [axis for axis in free if dims[axis] == time_dim]
    space = [axis for axis in free if dims[axis] != time_dim]
    if pattern is None:
        for axis in free:
            lengths[axis] = min(sizes[axis], lengths_of_file.get(dims[axis], sizes[axis]))
        order = [time, space]
    elif pattern == "temporal":
        order = [space, time]
    elif pattern == "spatial":
        order = [time, space]
    else:
        order = [free]
    for axes in order:
        _shrink(lengths, axes, budget)
    return tuple(fixed.get(axis, lengths.get(axis, 1)) for axis in range(len(sizes)))


def _shrink(lengths: dict[int, int], axes: Sequence[int], budget: int) -> None:
    """Shorten some axes, all by one factor, until the chunk is within the budget."""
    remaining = list(axes)
    while remaining and (excess := math.prod(lengths.values()) / budget) > 1:
        factor = excess ** (1 / len(remaining))
        # An axis that would become shorter than one element gives what it has.
        short = [axis for axis in remaining if lengths[axis] <= factor]
        for axis in short or remaining:
            lengths[axis] = 1 if short else max(1, int(lengths[axis] / factor))
        remaining = [axis for axis in remaining if axis not in short] if short else []
