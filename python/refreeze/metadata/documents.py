"""Metadata documents as bytes and as JSON: parsed with bounds, checked before Icechunk gets them.

What a document means is decided elsewhere.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import UnsupportedArrayError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["check_storable", "document_bytes", "parsed"]

_DEEPEST = 120
"""Levels of a document. Readers in Rust, Icechunk's among them, follow 127."""


def parsed(stored: bytes) -> dict[str, Any]:
    """Parse a document.

    Raises
    ------
    ValueError
        It is not a JSON object.
    """
    try:
        document = json.loads(stored)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError(f"it is {_kind(document)}, not an object")  # noqa: TRY004 data, not a type
    return document


def check_storable(document: Mapping[str, Any]) -> None:
    """Refuse what Icechunk or its readers cannot hold in a metadata document.

    Raises
    ------
    UnsupportedArrayError
        It names the member, not the node.
    """
    for member, value in document.items():
        attributes = value if member == "attributes" and isinstance(value, dict) else None
        parts = {member: value}
        if attributes is not None:
            parts = {f"attribute {name}": inner for name, inner in attributes.items()}
        for name, part in parts.items():
            if (reason := _unstorable(part, _DEEPEST)) is not None:
                raise UnsupportedArrayError(f"its {name} {reason}")


def document_bytes(document: Mapping[str, Any]) -> bytes:
    """Return a metadata document as zarr-python writes it."""
    return json.dumps(document, indent=2).encode()


def _unstorable(value: Any, levels: int) -> str | None:
    if levels == 0:
        return f"is nested more than {_DEEPEST} levels deep"
    if isinstance(value, float) and not math.isfinite(value):
        return f"holds {value}, which JSON has no number for"
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return "holds half of a character (a lone surrogate)"
        return None
    inner: Any = ()
    if isinstance(value, dict):
        inner = [*value, *value.values()]
    elif isinstance(value, list):
        inner = value
    return next((said for one in inner if (said := _unstorable(one, levels - 1))), None)


def _kind(value: Any) -> str:
    kinds = {list: "an array", str: "text", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")
