"""Stored numbers of one coordinate in the units of another, exactly or not at all.

Every year of an archive may count its days from its own beginning. What the numbers mean is
xarray's business (its CF coding of times); that nothing is lost on the way is checked here.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import MismatchError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TIME_ATTRIBUTES", "in_units_of"]

TIME_ATTRIBUTES = ("units", "calendar")
_MASKS = ("_FillValue", "missing_value")


def in_units_of(
    values: Any, attributes: Mapping[str, Any], wanted: Mapping[str, Any], *, where: str
) -> Any:
    """Return a coordinate's stored numbers as they are under other ``units`` and ``calendar``.

    Parameters
    ----------
    values
        As stored; the result has their data type.
    attributes
        Of the array that the values come from.
    wanted
        Attributes of the array that they go to.
    where
        Names the array and its store in errors.

    Raises
    ------
    MismatchError
        The units are not those of times, or the numbers cannot be expressed exactly.
    """
    given = [attributes.get(name) for name in TIME_ATTRIBUTES]
    target = [wanted.get(name) for name in TIME_ATTRIBUTES]
    if given == target:
        return values
    said = f"its units are {_shown(attributes)} there and {_shown(wanted)} in the target"
    if not all(isinstance(units, str) and " since " in units for units in (given[0], target[0])):
        raise MismatchError(f"{where}: {said}", "only units of time are converted")
    import numpy as np

    values = np.asarray(values)
    missing = _missing(values, attributes)
    converted = values.copy()
    if missing.any():
        converted[missing] = _mask_value(attributes, wanted, where, said)
    if not missing.all():
        try:
            converted[~missing] = _converted(values[~missing], given, target)
        except ImportError as error:
            raise MismatchError(
                f"{where}: {said}, and {error.name} is not installed",
                "converting them needs xarray: pip install xarray cftime",
            ) from error
        except (ArithmeticError, TypeError, ValueError) as error:
            raise MismatchError(
                f"{where}: {said}, and its values cannot be expressed exactly in the latter: "
                f"{' '.join(str(error).split())}",
                "store the coordinate in units and a data type that hold both",
            ) from error
    return converted


def _converted(values: Any, given: list[Any], wanted: list[Any]) -> Any:
    """Convert numbers; raises ValueError when that is not exact."""
    if values.dtype.kind not in "iuf":
        raise TypeError(f"{values.dtype} is not a number")
    with warnings.catch_warnings():
        # Dates beyond those of datetime64 become cftime's, which is fine.
        warnings.simplefilter("ignore")
        try:
            return _through_times(values, given, wanted, "ns")
        except OverflowError:
            # Times that are further apart than 292 years. Whole numbers of anything else than
            # nanoseconds need none.
            if not _is_whole(values) or given[0].lower().startswith("nano"):
                raise
            return _through_times(values, given, wanted, "us")


def _is_whole(values: Any) -> bool:
    import numpy as np

    return np.array_equal(values, np.trunc(values))


def _through_times(values: Any, given: list[Any], wanted: list[Any], resolution: str) -> Any:
    import numpy as np
    from xarray.coding.times import encode_cf_datetime

    times = _decoded(values, given, resolution)
    numbers, units, _ = encode_cf_datetime(times, wanted[0], wanted[1] or "standard")
    numbers = np.asarray(numbers)
    result = numbers.astype(values.dtype)
    if not np.array_equal(result.astype(numbers.dtype), numbers):
        raise ValueError(f"{values.dtype} does not hold them")
    if not np.array_equal(_decoded(result, wanted, resolution), times):
        # xarray spells units in its own way ("hours since 2000-01-01" without the time of day): only
        # another unit of time says that it took a finer one.
        is_finer = _unit_of_time(units) != _unit_of_time(wanted[0])
        raise ValueError(f"{wanted[0]} is too coarse" if is_finer else "decoding gives other times")
    return result


def _unit_of_time(units: str) -> str:
    return units.partition(" since ")[0].strip().lower().removesuffix("s")


def _decoded(values: Any, units: list[Any], resolution: str) -> Any:
    """Return the times that numbers mean: datetime64, or cftime's where that cannot hold them."""
    from xarray.coding.times import decode_cf_datetime

    # The first is all that older releases of xarray know.
    unit: Any = {} if resolution == "ns" else {"time_unit": resolution}
    return decode_cf_datetime(values, units[0], units[1] or "standard", **unit)


def _missing(values: Any, attributes: Mapping[str, Any]) -> Any:
    """Tell which values xarray masks."""
    import numpy as np

    missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
    for name in _MASKS:
        if isinstance(attributes.get(name), int | float):
            missing |= values == attributes[name]
    return missing


def _mask_value(
    attributes: Mapping[str, Any], wanted: Mapping[str, Any], where: str, said: str
) -> Any:
    """Return the number that is masked on both sides; differences of masks are refused before."""
    masks = {name: attributes.get(name) for name in _MASKS}
    if masks != {name: wanted.get(name) for name in _MASKS}:
        raise MismatchError(f"{where}: {said}, and values that are missing are marked differently")
    number = next((mask for mask in masks.values() if isinstance(mask, int | float)), None)
    return float("nan") if number is None else number


def _shown(attributes: Mapping[str, Any]) -> str:
    calendar = attributes.get("calendar")
    units = f"{attributes.get('units')!r}"
    return f"{units} ({calendar})" if calendar else units
