"""Attributes of groups and arrays in the form that version 3 documents and xarray have for them.

JSON has no NaN and no infinities; Python writes them all the same, and Icechunk takes no document
that holds them. Version 3 has texts for such floats. Two attributes mean something to xarray,
``_FillValue`` and ``missing_value``: what they mask stays masked.
"""

from __future__ import annotations

import base64
import math
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import UnsupportedArrayError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Attributes",
    "encoded_fill_value",
    "of_array",
    "of_group",
    "of_version_2_array",
    "warning_of",
]

_DECODING = ("scale_factor", "add_offset")
"""Attributes that xarray computes with: a text would make it fail."""
_NUMBERS = "fciub"
"""Kinds of numpy data types whose ``_FillValue`` has a form in version 3."""


@dataclass
class Attributes:
    """Attributes for a version 3 document, and what had to be changed for it."""

    values: dict[str, Any]
    as_text: list[str] = field(default_factory=list)
    """Names of those that held floats which are now text."""
    left_out: list[str] = field(default_factory=list)
    """Names of those that masked nothing."""


def of_group(attributes: Mapping[str, Any]) -> Attributes:
    """Return a group's attributes."""
    found = Attributes({})
    for name, value in attributes.items():
        found.values[name] = value if _is_finite(value) else _as_text(value)
        if not _is_finite(value):
            found.as_text.append(name)
    return found


def of_array(attributes: Mapping[str, Any], kind: str) -> Attributes:
    """Return the attributes of a version 3 array; they stay as they are where JSON has them.

    Parameters
    ----------
    kind
        Kind of the array's data type, as numpy's letters have it.

    Raises
    ------
    UnsupportedArrayError
        One that xarray computes with is not finite.
    """
    if _is_finite(attributes):
        return Attributes(dict(attributes))
    kept = dict(attributes)
    noted: dict[str, list[str]] = {"as_text": [], "left_out": []}
    value = kept.get("_FillValue")
    if not _is_finite(value):
        encoded = _encoded_if_able(value, kind)
        if encoded is not None:
            kept["_FillValue"] = encoded
            noted["as_text"].append("_FillValue")
        elif kind in "iu":
            # No integer is equal to it.
            del kept["_FillValue"]
            noted["left_out"].append("_FillValue")
    _without_nan(kept, kind, noted)
    return _texts(kept, noted)


def of_version_2_array(attributes: Mapping[str, Any], fill_value: Any, kind: str) -> Attributes:
    """Return the attributes of a version 2 array for version 3.

    To xarray, a version 2 array's fill value is its ``_FillValue``; in version 3 that attribute
    has to be there, in the form that xarray writes.

    Parameters
    ----------
    fill_value
        The array's own, None where it has none.
    kind
        Kind of the array's data type, as numpy's letters have it.

    Raises
    ------
    UnsupportedArrayError
        A mask cannot be expressed, or what xarray computes with is not finite.
    """
    kept = dict(attributes)
    noted: dict[str, list[str]] = {"as_text": [], "left_out": []}
    given = kept.pop("_FillValue", None)
    rest: list[Any] = []
    if fill_value is not None:
        if kind in _NUMBERS:
            kept["_FillValue"] = encoded_fill_value(fill_value, kind)
    elif given is not None and kind in _NUMBERS:
        masked, rest = _masks(given, kind)
        if masked is not None:
            kept["_FillValue"] = masked
        elif not rest:
            noted["left_out"].append("_FillValue")
        if not _is_finite(given) and masked is not None:
            noted["as_text"].append("_FillValue")
    _without_nan(kept, kind, noted)
    if rest:
        # xarray masks all that either attribute names.
        kept["missing_value"] = rest + _flat(kept.get("missing_value", []))
    return _texts(kept, noted)


def warning_of(node: str, attributes: Attributes) -> str | None:
    """Say what was changed in a node's attributes; None if nothing was."""
    said = []
    if attributes.as_text:
        said.append(f"NaN and Infinity are held as text in {', '.join(attributes.as_text)}")
    if attributes.left_out:
        said.append(f"{', '.join(attributes.left_out)} left out (NaN masks nothing)")
    return f"{node}: {'; '.join(said)}" if said else None


def encoded_fill_value(value: Any, kind: str) -> Any:
    """Return ``_FillValue`` as xarray writes it into version 3 attributes.

    Floats become base64 of their little-endian double, complex numbers a pair of those.

    Raises
    ------
    OverflowError, TypeError, ValueError
        The value is none of the kind.
    """

    def double(number: Any) -> str:
        return base64.standard_b64encode(struct.pack("<d", float(number))).decode()

    match kind:
        case "f":
            return double(value)
        case "c":
            number = complex(value)
            return [double(number.real), double(number.imag)]
        case "b":
            return bool(value)
        case _:
            return int(value)


def _masks(given: Any, kind: str) -> tuple[Any, list[Any]]:
    """Split what a ``_FillValue`` attribute masks: one for that attribute, and all others."""
    values = _flat(given)
    numbers = [value for value in values if value is not None and not _is_nan(value)]
    first: Any = None
    rest = []
    for value in numbers:
        encoded = _encoded_if_able(value, kind) if first is None else None
        if encoded is None:
            rest.append(value)
        else:
            first = encoded
    if first is None and kind in "fc" and any(_is_nan(value) for value in values):
        # It masks nothing, but it is what such values are called.
        first = encoded_fill_value(math.nan, kind)
    return first, rest


def _encoded_if_able(value: Any, kind: str) -> Any:
    """Return the form of a mask, or None if the attribute cannot hold just this number."""
    if not isinstance(value, int | float) or kind not in _NUMBERS:
        return None
    try:
        encoded = encoded_fill_value(value, kind)
    except (OverflowError, ValueError):
        return None
    if kind in "iub" and encoded != value:
        return None
    return encoded


def _without_nan(attributes: dict[str, Any], kind: str, noted: Mapping[str, list[str]]) -> None:
    """Leave NaN out of ``missing_value``; an infinity there becomes ``_FillValue``.

    Raises
    ------
    UnsupportedArrayError
        There is another ``_FillValue``, so that the infinity would no longer be masked.
    """
    value = attributes.get("missing_value")
    if _is_finite(value):
        return
    kept = [one for one in _flat(value) if not _is_nan(one)]
    infinite = [one for one in kept if not _is_finite(one)]
    if infinite and kind in "fc":
        encoded = encoded_fill_value(infinite[0], kind)
        if len(infinite) > 1 or attributes.get("_FillValue", encoded) != encoded:
            raise UnsupportedArrayError(
                "its missing_value masks an infinity besides another value, which version 3 "
                "metadata cannot say"
            )
        attributes["_FillValue"] = encoded
        kept.remove(infinite[0])
        noted["as_text"].append("missing_value")
    if not kept:
        del attributes["missing_value"]
    else:
        attributes["missing_value"] = kept if isinstance(value, list) else kept[0]
    if any(_is_nan(one) for one in _flat(value)):
        noted["left_out"].append("missing_value")


def _texts(attributes: dict[str, Any], noted: Mapping[str, list[str]]) -> Attributes:
    for name in _DECODING:
        if not _is_finite(attributes.get(name)):
            raise UnsupportedArrayError(
                f"its {name} is {attributes[name]}, which version 3 metadata cannot hold as a number"
            )
    found = of_group(attributes)
    found.as_text = [*noted["as_text"], *found.as_text]
    found.left_out = list(noted["left_out"])
    return found


def _flat(value: Any) -> list[Any]:
    if not isinstance(value, list):
        return [value]
    return [inner for one in value for inner in _flat(one)]


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _is_finite(value: Any) -> bool:
    """Whether no float in a JSON value is NaN or infinite."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return True


def _as_text(value: Any) -> Any:
    """Return a JSON value with version 3's texts for NaN and the infinities."""
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return value
    if isinstance(value, dict):
        return {name: _as_text(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_as_text(inner) for inner in value]
    return value
