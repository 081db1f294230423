"""Numbers packed into integers, by the CF conventions' ``scale_factor`` and ``add_offset``. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from refreeze.exceptions import MismatchError

__all__ = ["ACTIONS", "BITS", "manual_ranges", "packed_encoding", "within_range"]

BITS = (8, 16, 32)
ACTIONS = ("error", "clip", "nan")
_LIMITS = ("valid_min", "valid_max")


def manual_ranges(given: Any) -> dict[str, tuple[float, float]]:
    """Read ``{"v": {"min": 250, "max": 330}}``, as JSON or as a mapping.

    Raises
    ------
    ValueError
        It is not that, or a range is empty.
    """
    if given is None:
        return {}
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except json.JSONDecodeError as error:
            raise ValueError(f"packing_manual_ranges is not JSON: {error}") from None
    if not isinstance(given, Mapping):
        raise ValueError(_RANGES)  # noqa: TRY004 malformed text is a ValueError too
    ranges = {}
    for name, limits in given.items():
        if not isinstance(limits, Mapping) or set(limits) != {"min", "max"}:
            raise ValueError(_RANGES)
        ranges[str(name)] = _checked(limits["min"], limits["max"], str(name))
    return ranges


_RANGES = 'packing_manual_ranges is {"NAME": {"min": NUMBER, "max": NUMBER}, ...}'


def _checked(least: Any, most: Any, name: str) -> tuple[float, float]:
    try:
        low, high = float(least), float(most)
    except (TypeError, ValueError):
        raise ValueError(
            f"the range of {name} is not one of numbers: {least!r} to {most!r}"
        ) from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"the range of {name} is empty: {least!r} to {most!r}")
    return low, high


def packed_encoding(
    name: str,
    attributes: Mapping[str, Any],
    encoding: Mapping[str, Any],
    ranges: Mapping[str, tuple[float, float]],
    bits: int,
) -> dict[str, Any]:
    """Return the encoding of a packed array; the integer's minimum stands for what is missing.

    Raises
    ------
    MismatchError
        Nothing says which values the array may hold.
    """
    if name in ranges:
        low, high = ranges[name]
    else:
        low, high = _valid(name, attributes, encoding)
    scale = (high - low) / (2**bits - 2)
    return {
        "dtype": np.dtype(f"i{bits // 8}"),
        "scale_factor": scale,
        "add_offset": low + (high - low) / 2,
        "_FillValue": int(np.iinfo(f"i{bits // 8}").min),
    }


def _valid(
    name: str, attributes: Mapping[str, Any], encoding: Mapping[str, Any]
) -> tuple[float, float]:
    limits: Any = [attributes.get(limit) for limit in _LIMITS]
    if limits == [None, None] and "valid_range" in attributes:
        limits = list(np.ravel(attributes["valid_range"]))
    if len(limits) != len(_LIMITS) or any(limit is None for limit in limits):
        raise MismatchError(
            f"{name} cannot be packed: nothing says which values it may hold",
            f'give packing_manual_ranges \'{{"{name}": {{"min": ..., "max": ...}}}}\', or the '
            "variable valid_min and valid_max",
        )
    if "scale_factor" in encoding or "add_offset" in encoding:
        # The conventions give limits of packed data as they are packed.
        scale, offset = encoding.get("scale_factor", 1.0), encoding.get("add_offset", 0.0)
        limits = sorted(float(limit) * float(scale) + float(offset) for limit in limits)
    try:
        return _checked(limits[0], limits[1], name)
    except ValueError as error:
        raise MismatchError(str(error), "give packing_manual_ranges") from None


def within_range(
    values: np.ndarray[Any, Any], encoding: Mapping[str, Any], action: str, name: str
) -> np.ndarray[Any, Any]:
    """Return values that the packing can hold, by an action for those that it cannot.

    Raises
    ------
    MismatchError
        Some are out of range, and the action is ``error``.
    """
    kind = np.dtype(encoding["dtype"])
    scale = float(encoding.get("scale_factor", 1.0))
    offset = float(encoding.get("add_offset", 0.0))
    limits = np.iinfo(kind)
    lowest, highest = int(limits.min), int(limits.max)
    for mark in (encoding.get("_FillValue"), encoding.get("missing_value")):
        # A code that stands for what is missing is not to be had for values.
        if mark is not None and int(mark) == lowest:
            lowest += 1
        elif mark is not None and int(mark) == highest:
            highest -= 1
    ends = sorted((lowest * scale + offset, highest * scale + offset))
    wide = values.astype(np.float64, copy=False)
    # Half a step beyond rounds to the last code.
    slack = abs(scale) / 2 * (1 - 1e-9)
    outside = (wide < ends[0] - slack) | (wide > ends[1] + slack)
    if not outside.any():
        return wide
    if action == "clip":
        return np.asarray(np.clip(wide, ends[0], ends[1]))
    if action == "nan":
        return np.where(outside, np.nan, wide)
    first = tuple(int(each) for each in np.argwhere(outside)[0])
    raise MismatchError(
        f"{int(outside.sum())} values of {name} are out of the packed range {ends[0]:g} to "
        f"{ends[1]:g}, the first is {wide[first]:g}",
        "make the template with a wider range, or pass packing_range_exceeded_action clip or nan",
    )
