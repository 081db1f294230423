"""What the elements along a dimension are called: the values of its coordinate, as text or numbers.

Pure. Values come as they are stored; which array is a dimension's coordinate is decided elsewhere.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Labels"]

_UNITS = {
    "d": "D",
    "day": "D",
    "h": "h",
    "hr": "h",
    "hour": "h",
    "min": "m",
    "minute": "m",
    "s": "s",
    "sec": "s",
    "second": "s",
    "millisecond": "ms",
    "microsecond": "us",
    "nanosecond": "ns",
}
_PER_UNIT = {"D": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000}
_PER_UNIT |= {"ms": 1_000, "us": 1}
_USUAL_CALENDARS = {"standard", "gregorian", "proleptic_gregorian"}
_SINCE = re.compile(
    r"\s*(?P<unit>[a-zA-Z]+)\s+since\s+(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})"
    r"(?:[T ]+(?P<hour>\d{1,2}):(?P<minute>\d{1,2})(?::(?P<second>\d{1,2})(?:\.0*)?)?)?"
    r"\s*(?:Z|UTC|\+?00:?00)?\s*"
)


class Labels:
    """The labels along a dimension.

    Parameters
    ----------
    values
        Of the coordinate, as stored.
    attributes
        Of the coordinate: ``units`` and ``calendar`` make times of numbers.
    """

    def __init__(self, values: Any, attributes: Mapping[str, Any]) -> None:
        self._values = _decoded(np.asarray(values), attributes)
        if self._values.dtype.kind == "M":
            self._values = _coarsest(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: int) -> str | float | int | None:
        """Return a label: times as ISO 8601 text, no finer than they need; numbers as they are."""
        value = self._values[index]
        if isinstance(value, np.datetime64):
            return None if np.isnat(value) else str(value)
        if isinstance(value, bytes):
            return value.decode(errors="replace").rstrip("\0")
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, float):
            return value if np.isfinite(value) else None
        if isinstance(value, int | str) or value is None:
            return value
        return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _decoded(values: np.ndarray[Any, Any], attributes: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    units = attributes.get("units")
    if values.dtype.kind not in "iuf":
        return values
    if isinstance(units, str) and " since " in units:
        return _times(values, units, str(attributes.get("calendar") or "standard").lower())
    factors = [attributes.get(name) for name in ("scale_factor", "add_offset")]
    scale, offset = (factor if isinstance(factor, int | float) else None for factor in factors)
    if scale is None and offset is None:
        return values
    return values.astype(np.float64) * (1 if scale is None else scale) + (offset or 0)


def _times(values: np.ndarray[Any, Any], units: str, calendar: str) -> np.ndarray[Any, Any]:
    match = _SINCE.fullmatch(units)
    if match and calendar in _USUAL_CALENDARS:
        unit = match["unit"].lower()
        unit = _UNITS.get(unit) or _UNITS.get(unit.removesuffix("s"), "")
        if unit in _PER_UNIT:
            return _usual_times(values, match, unit)
    try:
        from xarray.coding.times import decode_cf_datetime

        return np.asarray(decode_cf_datetime(values, units, calendar))
    except Exception:  # noqa: BLE001 without xarray or cftime, or units that it does not know either
        return values


def _usual_times(
    values: np.ndarray[Any, Any], match: re.Match[str], unit: str
) -> np.ndarray[Any, Any]:
    parts = [
        f"{int(match[name] or 0):02d}" for name in ("month", "day", "hour", "minute", "second")
    ]
    month, day, hour, minute, second = parts
    try:
        origin = np.datetime64(f"{match['year']}-{month}-{day}T{hour}:{minute}:{second}", "us")
    except ValueError:
        return values
    bound = (2**62) // _PER_UNIT[unit]
    finite = np.isfinite(values) & (np.abs(values.astype(np.float64)) < bound)
    known = np.where(finite, values, 0)
    if values.dtype.kind == "f":
        since = np.round(known * float(_PER_UNIT[unit])).astype(np.int64)
    else:
        since = known.astype(np.int64) * _PER_UNIT[unit]
    times = origin + since.astype("timedelta64[us]")
    return np.where(finite, times, np.datetime64("NaT", "us"))


def _coarsest(times: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return times in the coarsest unit that holds all of them."""
    for unit in ("D", "h", "m", "s", "ms", "us"):
        rounded = times.astype(f"datetime64[{unit}]")
        if np.array_equal(rounded.astype(times.dtype), times, equal_nan=True):
            return rounded
    return times
