"""Whether an array of a store goes with what stands already: metadata, units, values.

Metadata documents are compared by the core; what copied arrays may differ in is left out before.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import MismatchError
from refreeze.metadata.chunk_codec import with_shape
from refreeze.metadata.time_units import TIME_ATTRIBUTES, in_units_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from refreeze.planning.source_slice import Cut

__all__ = ["check_agreement", "check_inherited_units", "same_values", "values_in_units"]


def check_agreement(
    part: Cut,
    document: bytes,
    *,
    copied: bool,
    whose: str,
    shape: tuple[int, ...] | None = None,
) -> list[str]:
    """Refuse an array that does not go with another; return harmless differences.

    Parameters
    ----------
    part
        The array.
    document
        Metadata of the other one.
    copied
        Whether both are copied: chunks and codecs may differ then, and units of time.
    whose
        Says whose the other one is, in errors: ``the target``.
    shape
        Shape for the comparison of the other one; its own is not looked at then.

    Raises
    ------
    MismatchError
        It names the array, both places and the difference.
    """
    from refreeze import _refreeze

    if shape is not None:
        document = with_shape(document, shape)
    now = part.document()
    if copied:
        now = _as_copied(document, now)
    what, harmless = _refreeze.differences(document, now)
    if what is not None:
        raise MismatchError(
            f"{part.where} does not fit that of {whose}: {what}",
            "repair the source, or leave the array out with --skip",
        )
    return [f"{part.where} differs from that of {whose}: {text}" for text in harmless]


def check_inherited_units(part: Cut, attributes: Mapping[str, Any], *, whose: str) -> None:
    """Refuse references to bounds whose coordinate has other units.

    By CF they need no units of their own, and the coordinate's are converted.

    Raises
    ------
    MismatchError
        It says how to convert the bounds too.
    """
    mine = part.store.attributes(part.path)
    if any(mine.get(key) != attributes.get(key) for key in TIME_ATTRIBUTES):
        raise MismatchError(
            f"{part.where} is in the units of the coordinate that it bounds, "
            f"{mine.get('units')!r}; in {whose} that has {attributes.get('units')!r}",
            "from the first ingest on copy it, so that it is converted: --load "
            f"{part.path.rpartition('/')[2]} besides the coordinates",
        )


def values_in_units(part: Cut, attributes: Mapping[str, Any]) -> Any:
    """Read a copied array, in the units of the one that it continues.

    Raises
    ------
    MismatchError
        Its values cannot be expressed exactly in those units.
    """
    mine = part.store.attributes(part.path)
    return in_units_of(part.values(), mine, attributes, where=part.where)


def same_values(one: Any, other: Any) -> bool:
    """Whether arrays are equal; values that are not a number are equal to each other."""
    import numpy as np

    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    # Only these have values that are not equal to themselves.
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind in "fcmM"))


def _as_copied(was: bytes, now: bytes) -> bytes:
    """Return a document that differs from another only in what copying does not settle."""
    before, after = json.loads(was), json.loads(now)
    attributes = dict(after["attributes"])
    for name in TIME_ATTRIBUTES:
        attributes.pop(name, None)
        if name in before["attributes"]:
            attributes[name] = before["attributes"][name]
    kept = {name: before[name] for name in ("chunk_grid", "codecs") if name in before}
    return json.dumps(after | kept | {"attributes": attributes}).encode()
