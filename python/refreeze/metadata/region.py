"""Regions as users write them: a mapping from dimension names to slices of elements.

What a region means for an array (alignment, bounds) is decided by the core; only the types, which
the core would not get to see, are checked here.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import RegionError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Region", "SliceBounds", "bounds_of", "parse_region"]

Region = Mapping[str, slice]
"""Slices by dimension name, in elements, as in xarray's ``region=``."""

SliceBounds = tuple[int | None, int | None, int | None]
"""Start, stop and step."""

_OPTION = re.compile(r"(?P<dim>.+)=(?P<start>(-?[0-9]{1,30})?):(?P<stop>(-?[0-9]{1,30})?)")
_FARTHEST = 2**63 - 1


def bounds_of(region: Region | None) -> dict[str, SliceBounds]:
    """Take a region apart, for the core.

    Raises
    ------
    TypeError
        The region is not a mapping of names to slices of whole numbers.
    RegionError
        The region names no dimension.
    """
    if region is None:
        return {}
    if not isinstance(region, Mapping):
        raise TypeError(
            "a region maps dimension names to slices, such as {'time': slice(0, 240)}, "
            f"not {type(region).__name__}"
        )
    if not region:
        raise RegionError("the region names no dimension", "leave it out to take everything")
    bounds = {}
    for dimension, part in region.items():
        if not isinstance(dimension, str):
            raise TypeError(f"a dimension name is a string, not {dimension!r}")
        if not isinstance(part, slice):
            raise TypeError(f"the region's part along {dimension} is a slice, not {part!r}")
        bounds[dimension] = (
            _whole(dimension, "start", part.start),
            _whole(dimension, "stop", part.stop),
            _whole(dimension, "step", part.step),
        )
    return bounds


def _whole(dimension: str, which: str, bound: Any) -> int | None:
    if bound is None:
        return None
    try:
        whole = operator.index(bound)
    except TypeError:
        raise TypeError(
            f"the region's {which} along {dimension} is a whole number of elements, not {bound!r}"
        ) from None
    # No array is longer than this: a slice means the same, and the core has 64 bits.
    return max(-_FARTHEST, min(whole, _FARTHEST))


def parse_region(options: Iterable[str]) -> dict[str, slice] | None:
    """Read ``DIM=START:STOP`` options of the command line; None when there are none.

    Raises
    ------
    ValueError
        An option is not of that form, or a dimension is named twice.
    """
    region: dict[str, slice] = {}
    for option in options:
        match = _OPTION.fullmatch(option)
        if match is None:
            raise ValueError(f"--region {option}: expected DIM=START:STOP, such as time=0:240")
        dimension = match["dim"]
        if dimension in region:
            raise ValueError(f"--region names {dimension} twice")
        start, stop = (
            None if text == "" else int(text) for text in (match["start"], match["stop"])
        )
        region[dimension] = slice(start, stop)
    return region or None
