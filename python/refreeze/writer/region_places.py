"""Where a file belongs in a template: slices that follow from the labels of every dimension.

Pure. Labels are compared as numbers, times in microseconds; what does not match exactly is refused
with the label, its place and the nearest one that there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from refreeze.exceptions import MismatchError, RegionError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Place", "given_region", "place_of"]

_TOLERANCE = 1e-5
"""Of the spacing of labels: what is nearer than that is the same label."""


@dataclass(frozen=True)
class Place:
    """Where a file belongs."""

    region: dict[str, slice]
    """Elements of the template, by dimension of the file."""
    flipped: frozenset[str]
    """Dimensions along which the file runs the other way."""

    def shown(self) -> dict[str, list[int]]:
        """Return the region for reports."""
        return {name: [part.start, part.stop] for name, part in self.region.items()}


def given_region(region: Any) -> dict[str, slice] | None:
    """Read a region: a mapping of slices, ``time=0:100,lat=0:50``, or a list of such texts.

    Raises
    ------
    ValueError
        A text is not of that form.
    TypeError
        It is neither a mapping nor text.
    """
    from refreeze.metadata.region import bounds_of, parse_region

    if region is None or (isinstance(region, str) and region == "auto"):
        return None
    if isinstance(region, Mapping):
        return {name: slice(*bounds) for name, bounds in bounds_of(region).items()}
    if isinstance(region, str):
        region = [region]
    if not isinstance(region, Sequence):
        raise TypeError(f"a region maps dimension names to slices, not {type(region).__name__}")
    return parse_region([part.strip() for text in region for part in str(text).split(",")])


def place_of(
    data: xr.Dataset,
    template: xr.Dataset,
    given: Mapping[str, slice] | None,
    where: str,
) -> Place:
    """Return where a data set belongs in a template.

    Parameters
    ----------
    given
        Slices that are known; they are checked against the labels.
    where
        Names the file in errors.

    Raises
    ------
    RegionError
        Labels do not match, or a dimension without labels has not its full size.
    MismatchError
        The template has no such dimension, or its times have another calendar.
    """
    given = dict(given or {})
    _check_named(given, template)
    region: dict[str, slice] = {}
    flipped: set[str] = set()
    for each in data.dims:
        name = str(each)
        if name not in template.sizes:
            raise MismatchError(
                f"{where} has a dimension {name!r}, which the template does not have",
                f"it has {', '.join(map(str, template.sizes))}",
            )
        length, size = data.sizes[name], template.sizes[name]
        if not length:
            raise RegionError(f"{where} has no elements along {name}")
        told = None
        if name in given:
            told = _normal(name, given[name], size, length, where)
        if name in data.coords and name in template.coords:
            found, reverse = _by_labels(_Labels(name, data[name], template[name], where), told)
            region[name] = found
            if reverse:
                flipped.add(name)
        elif told is not None:
            region[name] = told
        elif length != size:
            raise RegionError(
                f"{where} has {length} elements along {name}, which has no labels, and the template "
                f"has {size}",
                f"give the region: {name}=START:STOP",
            )
        else:
            region[name] = slice(0, size)
    return Place(region, frozenset(flipped))


def _check_named(given: Mapping[str, slice], template: xr.Dataset) -> None:
    for name in given:
        if name not in template.sizes:
            raise RegionError(
                f"the region names {name!r}, which the template does not have",
                f"it has {', '.join(map(str, template.sizes))}",
            )


def _normal(name: str, part: slice, size: int, length: int, where: str) -> slice:
    if part.step not in (None, 1):
        raise RegionError(f"the region's step along {name} is {part.step}; it can only be 1")
    # A stop beyond the end is clipped, as Python does it.
    start, stop, _ = part.indices(size)
    if stop - start != length:
        raise RegionError(
            f"the region {name}={start}:{stop} has {max(0, stop - start)} elements, and {where} "
            f"has {length} along {name}",
            "leave the region out: it is found by the labels",
        )
    return slice(start, stop)


@dataclass(frozen=True)
class _Labels:
    """The labels of a file and of the template along one dimension."""

    name: str
    own: xr.DataArray
    there: xr.DataArray
    where: str


def _by_labels(both: _Labels, told: slice | None) -> tuple[slice, bool]:
    name, own, there, where = both.name, both.own, both.there, both.where
    if own.ndim != 1 or there.ndim != 1:
        raise RegionError(f"the labels along {name} are not one-dimensional")
    places = _positions(both)
    steps = np.diff(places)
    if len(places) == 1 or (steps == 1).all():
        found, reverse = slice(int(places[0]), int(places[-1]) + 1), False
    elif (steps == -1).all():
        found, reverse = slice(int(places[-1]), int(places[0]) + 1), True
    else:
        raise _not_in_a_row(both, places)
    if told is not None and told != found:
        raise RegionError(
            f"the region {name}={told.start}:{told.stop} contradicts the labels of {where}: "
            f"{_label(own, 0)} is element {int(places[0])} of the template, whose element "
            f"{told.start} is {_label(there, told.start)}",
            f"the labels are those of {name}={found.start}:{found.stop}",
        )
    return found, reverse


def _not_in_a_row(both: _Labels, places: np.ndarray[Any, Any]) -> RegionError:
    name, own, there, where = both.name, both.own, both.there, both.where
    steps = np.diff(places)
    if (repeated := np.flatnonzero(steps == 0)).size:
        at = int(repeated[0])
        return RegionError(f"{where} has the label {_label(own, at)} twice along {name}")
    usual = 1 if (steps > 0).sum() >= (steps < 0).sum() else -1
    at = int(np.flatnonzero(steps != usual)[0])
    after = int(places[at]) + usual
    between = _label(there, after) if 0 <= after < there.size else "its end"
    return RegionError(
        f"the labels of {where} along {name} do not follow each other in the template: after "
        f"{_label(own, at)} (element {at}) comes {_label(own, at + 1)}, in the template {between}",
        "write the parts on their own",
    )


def _positions(both: _Labels) -> np.ndarray[Any, Any]:
    """Return which elements of the template a file's are."""
    name, own, there, where = both.name, both.own, both.there, both.where
    labels, known, tolerance = _comparable(both)
    order = np.argsort(known, kind="stable")
    ordered = known[order]
    if ordered.size > 1 and (ordered[1:] == ordered[:-1]).any():
        raise RegionError(f"the template has labels twice along {name}")
    after = np.clip(np.searchsorted(ordered, labels), 0, len(ordered) - 1)
    before = np.clip(after - 1, 0, None)
    if labels.dtype.kind in "US":
        nearest, wrong = after, ordered[after] != labels
    else:
        closer = np.abs(labels - ordered[before]) < np.abs(ordered[after] - labels)
        nearest = np.where(closer, before, after)
        limits = np.broadcast_to(tolerance, labels.shape)
        wrong = ~(np.abs(labels - ordered[nearest]) <= limits)
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        place = int(order[nearest[at]])
        more = int(wrong.sum()) - 1
        raise RegionError(
            f"{_label(own, at)} along {name} (element {at} of {where}) is no label of the template; "
            f"the nearest is {_label(there, place)} (element {place})"
            + (f"; {more} more labels are none either" if more else ""),
            "the template has to have exactly the labels of the file",
        )
    return np.asarray(order[nearest])


def _comparable(
    both: _Labels,
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], Any]:
    """Return both labels as numbers (or text), and how far the same label may be off."""
    name, own, there, where = both.name, both.own, both.there, both.where
    kinds = [_calendar(labels) for labels in (own, there)]
    if kinds[0] != kinds[1]:
        shown = [kind or "no times" for kind in kinds]
        raise MismatchError(
            f"the labels along {name} are {shown[0]} in {where} and {shown[1]} in the template",
            "calendars are not converted",
        )
    if kinds[0] is not None:
        labels, known = (_microseconds(each) for each in (own, there))
        return labels, known, _TOLERANCE * _spacing(known)
    values = [np.asarray(each.values) for each in (own, there)]
    if any(each.dtype.kind in "OUST" for each in values):
        labels, known = (each.astype(str) for each in values)
        return labels, known, 0
    units = own.attrs.get("units"), there.attrs.get("units")
    if None not in units and units[0] != units[1]:
        raise MismatchError(
            f"{name} is in {units[0]!r} in {where} and in {units[1]!r} in the template"
        )
    floats = [each.dtype for each in values if each.dtype.kind == "f"]
    if not floats:
        labels, known = (each.astype(np.int64) for each in values)
        return labels, known, 0
    coarse = min(floats, key=lambda dtype: dtype.itemsize)
    labels, known = (each.astype(coarse).astype(np.float64) for each in values)
    spacing = _spacing(known)
    rounding = np.minimum(4 * np.finfo(coarse).eps * np.abs(labels), spacing / 4)
    return labels, known, np.maximum(_TOLERANCE * spacing, rounding)


def _spacing(known: np.ndarray[Any, Any]) -> float:
    if known.size < 2:  # noqa: PLR2004 one label has no neighbour
        return 1.0
    steps = np.diff(np.sort(known))
    steps = steps[steps > 0]
    return float(steps.min()) if steps.size else 1.0


def _calendar(labels: xr.DataArray) -> str | None:
    """Return the calendar of times; None for other labels."""
    if labels.dtype.kind == "M":
        calendar = str(labels.encoding.get("calendar", "standard"))
    elif labels.dtype.kind == "O" and labels.size:
        calendar = str(getattr(labels.values.ravel()[0], "calendar", ""))
    else:
        return None
    if calendar in {"standard", "gregorian", "proleptic_gregorian"}:
        return "standard times"
    return f"times of the calendar {calendar}" if calendar else None


def _microseconds(labels: xr.DataArray) -> np.ndarray[Any, Any]:
    values = labels.values
    if values.dtype.kind == "M":
        return np.asarray(values.astype("datetime64[us]").astype(np.int64))
    import cftime

    calendar = values.ravel()[0].calendar
    return np.asarray(
        cftime.date2num(values, "microseconds since 1970-01-01", calendar), dtype=np.int64
    )


def _label(labels: xr.DataArray, place: int) -> str:
    value = labels.values[place]
    if isinstance(value, np.datetime64):
        text = str(value.astype("datetime64[us]"))
        return text.removesuffix(".000000")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
