"""Whether a file's variables go into a template's: names, dimensions, units, calendars, types. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from refreeze.exceptions import MismatchError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["check_variable", "encoded", "is_packed", "marks_of"]

_TIMES = "mM"


def is_packed(there: Any) -> bool:
    """Whether a stored variable holds integers that stand for other numbers."""
    encoding = there.encoding
    kind = np.dtype(encoding.get("dtype", there.dtype)).kind
    return kind in "iu" and ("scale_factor" in encoding or "add_offset" in encoding)


def check_variable(name: str, own: Any, there: Any, where: str, *, cast: bool) -> None:
    """Refuse a variable that does not go into the template's variable of its name.

    Raises
    ------
    MismatchError
        Says what differs.
    """
    if set(own.dims) != set(there.dims):
        raise MismatchError(
            f"{name} in {where} has dimensions ({', '.join(map(str, own.dims))}), in the template "
            f"({', '.join(map(str, there.dims))})"
        )
    if (own.dtype.kind in _TIMES) != (there.dtype.kind in _TIMES):
        raise MismatchError(
            f"{name} in {where} is {own.dtype}, in the template {there.dtype}",
            "times and numbers are not converted into each other",
        )
    if own.dtype.kind in _TIMES:
        if own.dtype.kind != there.dtype.kind:
            raise MismatchError(f"{name} in {where} is {own.dtype}, in the template {there.dtype}")
        return
    units = own.attrs.get("units"), there.attrs.get("units")
    if None not in units and units[0] != units[1]:
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
    dtype = np.dtype(there.encoding.get("dtype", there.dtype))
    if there.dtype.kind in _TIMES and not marks and dtype.kind == "i":
        marks.append(np.iinfo(np.int64).min)
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
    variable = xr.Variable(there.dims, values)
    keep = ("dtype", "units", "calendar", "scale_factor", "add_offset", "_FillValue")
    encoding = {key: there.encoding[key] for key in keep if key in there.encoding}
    if "missing_value" in there.encoding and "_FillValue" not in encoding:
        encoding["_FillValue"] = np.ravel(there.encoding["missing_value"])[0]
    if there.dtype.kind in _TIMES:
        return _encoded_times(name, variable, encoding, where)
    if values.dtype.kind == "f" and stored.kind in "iu" and not is_packed(there):
        _check_whole(name, values, stored, encoding, where, cast=cast)
    elif values.dtype.kind in "iu" and stored.kind in "iu" and values.dtype != stored:
        limits = np.iinfo(stored)
        if values.size and (values.min() < limits.min or values.max() > limits.max):
            raise MismatchError(f"{name} in {where} has values that {stored} cannot hold")
    variable.encoding = encoding
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


def _encoded_times(
    name: str, variable: xr.Variable, encoding: dict[str, Any], where: str
) -> np.ndarray[Any, Any]:
    import warnings

    variable.encoding = encoding
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = xr.conventions.encode_cf_variable(variable, name=name)
            back = xr.conventions.decode_cf_variable(name, result)
        same = result.attrs.get("units") == encoding.get("units") and np.array_equal(
            back.values, variable.values, equal_nan=True
        )
    except (ValueError, OverflowError, TypeError):
        same = False
    if not same:
        raise MismatchError(
            f"the times of {name} in {where} cannot be stored exactly as {encoding.get('units')!r}",
            "make the template with finer units",
        )
    return np.asarray(result.values)
