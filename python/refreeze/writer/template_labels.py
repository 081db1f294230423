"""The labels of a template: a range of time, and grids of other dimensions.

Pure. What the range is asked as stands here; how labels are stored is the template's business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import xarray as xr

from refreeze.exceptions import MismatchError

__all__ = ["grid_labels", "grids_by_name", "time_labels"]

_DATE = re.compile(r"(?P<year>\d{4})(?:-(?P<month>\d{2})(?:-(?P<day>\d{2}))?)?")
_LETTERS = {"H": "h", "T": "min", "S": "s", "M": "ME", "Q": "QE", "Y": "YE", "A": "YE"}
_OLD = re.compile(rf"(?P<count>\d*)(?P<letter>[{''.join(_LETTERS)}])")
_LAST_INSTANT = "T23:59:59.999999"
_DAY_US = 86_400_000_000


def time_labels(
    stored: xr.DataArray, start: Any, end: Any, freq: str | None, *, calendar: str
) -> Any:
    """Return labels from a start to an end, both included; a date alone is the whole of it.

    Parameters
    ----------
    stored
        The template's own labels: ends that are not given, the step if none is given, and the time
        of day at which steps begin where ``start`` is a date alone.
    freq
        As pandas has it: ``1h``, ``6h``, ``D``, ``MS``.

    Raises
    ------
    ValueError
        A text is no time, or the step no frequency.
    MismatchError
        The step is not given and does not follow from the template, or there is nothing between.
    """
    index = stored.to_index() if stored.size else None
    freq = _inferred(stored) if freq is None else _of_today(freq)
    usual = index is None or stored.dtype.kind == "M"
    first = _shown(start) if start is not None else _own(index, 0)
    last = _shown(end) if end is not None else _own(index, -1)
    inclusive: Any = "both"
    if match := _DATE.fullmatch(last):
        year, month = int(match["year"]), match["month"]
        if match["day"]:
            last += _LAST_INSTANT
        else:
            inclusive = "left"
            last = _next(year, None if month is None else int(month))
    alone = _DATE.fullmatch(first)
    if alone:
        first = f"{alone['year']}-{alone['month'] or '01'}-{alone['day'] or '01'}"
        if index is not None and usual and len(index):
            first = _in_phase(first, index[0], freq)
    try:
        options: dict[str, Any] = {} if usual else {"use_cftime": True}
        labels = xr.date_range(
            first, last, freq=freq, inclusive=inclusive, calendar=calendar, **options
        )
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"no times from {start or first} to {end or last} by {freq!r}: {error}"
        ) from None
    if not len(labels):
        raise MismatchError(
            f"there is no time from {start or first} to {end or last} by {freq}",
            "check global_start and global_end",
        )
    return labels


def _of_today(freq: str) -> str:
    """Return a frequency in the letters that pandas has now: ``1H`` was ``1h`` for long."""
    match = _OLD.fullmatch(freq.strip())
    return f"{match['count']}{_LETTERS[match['letter']]}" if match else freq.strip()


def _shown(moment: Any) -> str:
    """Return a time as ISO 8601 text."""
    if isinstance(moment, str):
        text = moment.strip().replace(" ", "T")
        return text.removesuffix("Z")
    if isinstance(moment, np.datetime64):
        return str(moment)
    if hasattr(moment, "isoformat"):
        # A date of Python has no time: it is the whole day.
        return str(moment.isoformat())
    raise TypeError(f"{moment!r} is no time")


def _own(index: Any, place: int) -> str:
    if index is None or not len(index):
        raise MismatchError(
            "the template has no times of its own", "give global_start and global_end"
        )
    text = str(index[place].isoformat())
    return text if "T" in text else f"{text}T00:00:00"


def _next(year: int, month: int | None) -> str:
    """Return when the year or month is over."""
    if month is None or month == 12:  # noqa: PLR2004 December
        return f"{year + 1:04d}-01-01T00:00:00"
    return f"{year:04d}-{month + 1:02d}-01T00:00:00"


def _inferred(stored: xr.DataArray) -> str:
    if stored.size >= 3:  # noqa: PLR2004 xarray needs three
        try:
            infer: Any = xr.infer_freq
            if found := infer(stored):
                return str(found)
        except ValueError:
            pass
    elif stored.size == 2:  # noqa: PLR2004 one step
        one, two = stored.values
        step = two - one
        micro = (
            int(step / np.timedelta64(1, "us"))
            if isinstance(step, np.timedelta64)
            else round(step.total_seconds() * 1e6)
        )
        for unit, length in (("D", _DAY_US), ("h", 3_600_000_000), ("min", 60_000_000)):
            if micro > 0 and micro % length == 0:
                return f"{micro // length}{unit}"
        if micro > 0 and micro % 1_000_000 == 0:
            return f"{micro // 1_000_000}s"
    raise MismatchError(
        f"the step between times does not follow from the {stored.size} of the template",
        "give freq (--freq), such as 1h or D",
    )


def _in_phase(day: str, label: Any, freq: str) -> str:
    """Return the first moment of a day at which a step begins that the template's labels are on."""
    import pandas as pd

    try:
        step = int(pd.Timedelta(pd.tseries.frequencies.to_offset(freq)).value)
    except (ValueError, TypeError, AttributeError):
        return day  # months and years begin at their own places
    if step <= 0:
        return day
    begin = pd.Timestamp(day)
    ahead = (pd.Timestamp(label).as_unit("ns").value - begin.as_unit("ns").value) % step
    # A step of days is counted from the day that was asked for; only the time of day is kept.
    ahead %= _DAY_US * 1000
    return str((begin + pd.Timedelta(ahead, "ns")).isoformat())


def grids_by_name(given: Any) -> dict[str, Any]:
    """Read ``NAME=START:STOP:STEP`` (one or several), or a mapping of names to that, slices or labels.

    Raises
    ------
    ValueError
        A text is not of that form.
    """
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return {str(name): value for name, value in given.items()}
    texts = [given] if isinstance(given, str) else list(given)
    grids = {}
    for text in texts:
        name, separator, grid = str(text).partition("=")
        if not separator or not name.strip():
            raise ValueError(f"expected NAME=START:STOP:STEP, not {text!r}")
        grids[name.strip()] = grid.strip()
    return grids


def grid_labels(name: str, grid: Any, stored: xr.DataArray | None) -> np.ndarray[Any, Any]:
    """Return the labels of ``START:STOP:STEP``; the stop is one if it lies on the grid.

    Raises
    ------
    ValueError
        The grid is malformed or empty.
    MismatchError
        No step is given and the template shows none.
    """
    if not isinstance(grid, str | slice):
        return _listed(name, grid)
    parts = _parts(name, grid)
    try:
        start, stop = (Decimal(str(part)) for part in parts[:2])
        step = None if parts[2] in (None, "") else Decimal(str(parts[2]))
    except InvalidOperation:
        raise ValueError(f"{name}: expected START:STOP:STEP in numbers, not {grid!r}") from None
    if step is None:
        step = _step_of(name, stored)
    if not all(part.is_finite() for part in (start, stop, step)) or step == 0:
        raise ValueError(f"{name}: a step of {step} leads nowhere")
    count = int((stop - start) / step) + 1 if (stop - start) / step >= 0 else 0
    if count < 1:
        raise ValueError(f"{name}: there is nothing from {start} to {stop} by {step}")
    exact = [start + k * step for k in range(count)]
    whole = all(part == part.to_integral_value() for part in (start, step))
    if stored is not None and stored.dtype.kind in "iuf":
        kind = stored.dtype
        if kind.kind in "iu" and not whole:
            kind = np.dtype("f8")
    else:
        kind = np.dtype("i8" if whole else "f8")
    # Decimals give the float that is nearest to each label, as a file has it.
    return np.array([float(each) for each in exact]).astype(kind)


def _listed(name: str, grid: Any) -> np.ndarray[Any, Any]:
    if not isinstance(grid, Sequence | np.ndarray):
        raise TypeError(f"{name}: expected START:STOP:STEP, not {type(grid).__name__}")
    labels = np.asarray(grid)
    if labels.ndim != 1 or not labels.size:
        raise ValueError(f"{name}: labels are a list that is not empty")
    return labels


def _parts(name: str, grid: str | slice) -> list[Any]:
    """Return start, stop and step; a step that is not given is None."""
    if isinstance(grid, slice):
        return [grid.start, grid.stop, grid.step]
    parts: list[Any] = grid.split(":")
    if len(parts) not in (2, 3):
        raise ValueError(f"{name}: expected START:STOP:STEP, not {grid!r}")
    return [*parts, None][:3]


def _step_of(name: str, stored: xr.DataArray | None) -> Decimal:
    if stored is not None and stored.size > 1 and stored.dtype.kind in "iuf":
        step = (float(stored[-1]) - float(stored[0])) / (stored.size - 1)
        if np.allclose(np.diff(np.asarray(stored, dtype="f8")), step, rtol=1e-4):
            return Decimal(str(float(np.float32(step))) if stored.dtype == "f4" else repr(step))
    raise MismatchError(
        f"the step along {name} does not follow from the template", f"give {name}=START:STOP:STEP"
    )
