"""Whether a file's variables go into a template's: names, dimensions, units, calendars, types. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from refreeze.exceptions import MismatchError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["check_variable", "encoded", "is_packed", "marks_of", "times_of"]


_MIDNIGHT = re.compile(r"[ T]0?0:00(:00(\.0*)?)?\s*$")
"""Of a date, which says nothing."""


def is_packed(there: Any) -> bool:
    """Whether a stored variable holds integers that stand for other numbers."""
    encoding = there.encoding
    kind = np.dtype(encoding.get("dtype", there.dtype)).kind
    return kind in "iu" and ("scale_factor" in encoding or "add_offset" in encoding)


def times_of(name: str, data: xr.Dataset) -> dict[str, Any] | None:
    """Return ``units`` and ``calendar`` of a variable of times; None for other variables.

    Bounds have those of the coordinate whose bounds they are.
    """
    attributes: Any = data[name].attrs
    if "units" not in attributes:
        of = [each for each in data.coords.values() if each.attrs.get("bounds") == name]
        if not of:
            return None
        attributes = {**of[0].attrs, **of[0].encoding}
    units = attributes.get("units")
    if not isinstance(units, str) or " since " not in units:
        return None
    calendar = str(attributes.get("calendar") or "standard").lower()
    return {
        "units": _MIDNIGHT.sub("", units),
        "calendar": "standard" if calendar == "gregorian" else calendar,
    }


def check_variable(
    name: str, data: xr.Dataset, template: xr.Dataset, where: str, *, cast: bool
) -> None:
    """Refuse a variable that does not go into the template's variable of its name.

    Raises
    ------
    MismatchError
        Says what differs.
    """
    own, there = data[name], template[name]
    if set(own.dims) != set(there.dims):
        raise MismatchError(
            f"{name} in {where} has dimensions ({', '.join(map(str, own.dims))}), in the template "
            f"({', '.join(map(str, there.dims))})"
        )
    times = times_of(name, data), times_of(name, template)
    if (times[0] is None) != (times[1] is None):
        one, other = ("times" if each else "no times" for each in times)
        raise MismatchError(
            f"{name} in {where} holds {one}, in the template {other}",
            "times and numbers are not converted into each other",
        )
    units = own.attrs.get("units"), there.attrs.get("units")
    if times[0] is None and None not in units and units[0] != units[1]:
        raise MismatchError(
            f"{name} in {where} is in {units[0]!r}, in the template in {units[1]!r}",
            "convert the values, or correct the attribute",
        )
    if own.dtype == there.dtype or np.can_cast(own.dtype, there.dtype, "safe"):
        return
    numbers = own.dtype.kind in "iuf" and there.dtype.kind in "iuf"
    if numbers and (cast or is_packed(there)):
        return
    raise MismatchError(
        f"{name} in {where} is {own.dtype}, in the template {there.dtype}",
        "cast (--cast) allows the conversion" if numbers else None,
    )


def marks_of(there: Any) -> list[Any]:
    """Return the stored values that stand for what is missing."""
    known = (there.encoding.get("_FillValue"), there.encoding.get("missing_value"))
    marks: list[Any] = [mark for each in known if each is not None for mark in np.ravel(each)]
    return marks


def encoded(name: str, values: np.ndarray[Any, Any], there: Any, where: str, *, cast: bool) -> Any:
    """Return values as they are stored in the template's variable.

    Raises
    ------
    MismatchError
        The stored type cannot hold them exactly; for a packed variable the range has been looked
        at before.
    """
    stored = np.dtype(there.encoding.get("dtype", there.dtype))
    keep = ("dtype", "scale_factor", "add_offset", "_FillValue")
    encoding = {key: there.encoding[key] for key in keep if key in there.encoding}
    if "missing_value" in there.encoding and "_FillValue" not in encoding:
        encoding["_FillValue"] = np.ravel(there.encoding["missing_value"])[0]
    if values.dtype.kind == "f" and stored.kind in "iu" and not is_packed(there):
        _check_whole(name, values, stored, encoding, where, cast=cast)
    elif values.dtype.kind in "iu" and stored.kind in "iu" and values.dtype != stored:
        limits = np.iinfo(stored)
        if values.size and (values.min() < limits.min or values.max() > limits.max):
            raise MismatchError(f"{name} in {where} has values that {stored} cannot hold")
    mark = encoding.get("_FillValue")
    if stored == values.dtype and stored.kind == "f" and mark != mark:  # noqa: PLR0124 NaN
        return values
    variable = xr.Variable(there.dims, values, encoding=encoding)
    result = xr.conventions.encode_cf_variable(variable, name=name)
    return np.asarray(result.values).astype(stored, copy=False)


def _check_whole(
    name: str,
    values: np.ndarray[Any, Any],
    stored: np.dtype[Any],
    encoding: Mapping[str, Any],
    where: str,
    *,
    cast: bool,
) -> None:
    there = ~np.isnan(values)
    if not there.all() and "_FillValue" not in encoding:
        raise MismatchError(
            f"{name} in {where} has missing values, and the template's {stored} has no _FillValue"
        )
    kept, limits = values[there], np.iinfo(stored)
    if kept.size and (kept.min() < limits.min or kept.max() > limits.max):
        raise MismatchError(f"{name} in {where} has values that {stored} cannot hold")
    if not cast and (kept != np.rint(kept)).any():
        raise MismatchError(
            f"{name} in {where} has fractions, the template holds {stored}",
            "cast (--cast) rounds them",
        )
