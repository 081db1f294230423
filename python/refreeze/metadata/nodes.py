"""Documents to nodes: what the metadata of one place, or consolidated metadata, makes of it.

Pure. Documents of arrays are kept as they are. Sources: the Zarr specifications of versions 2 and
3; consolidated metadata as zarr-python writes it. Which version wins where both are there is what
zarr-python does.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import UnsupportedArrayError
from refreeze.metadata.documents import parsed
from refreeze.metadata.hierarchy import ArrayNode, GroupNode, Node, UnreadableNode
from refreeze.stores.reading_errors import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "consolidated",
    "consolidated_version_2",
    "document_names",
    "is_name",
    "node_of",
    "stale_member",
]

_V2 = 2
_V3 = 3
_MEMBERS = (
    "shape",
    "chunks",
    "dtype",
    "compressor",
    "filters",
    "fill_value",
    "order",
    "dimension_separator",
)
"""Of a version 2 array's document."""


def document_names(zarr_format: int) -> tuple[str, ...]:
    """Return the names of an array's documents."""
    return ("zarr.json",) if zarr_format == _V3 else (".zarray", ".zattrs")


def node_of(stored: Mapping[str, Any]) -> Node | None:
    """Return what a node's documents make of it; None if there are none.

    Parameters
    ----------
    stored
        Documents by name: bytes, None, or the error that says why one was not read.
    """
    for name in ("zarr.json", ".zarray", ".zgroup"):
        if isinstance(error := stored.get(name), UnsupportedArrayError):
            return UnreadableNode(error.message, error.hint)
    try:
        if (document := stored.get("zarr.json")) is not None:
            return _version_3(parsed(document), from_consolidated=False)
        if (document := stored.get(".zarray")) is not None:
            return ArrayNode(partial(_version_2_array, document, stored.get(".zattrs")), _V2)
        if (document := stored.get(".zgroup")) is not None:
            return _version_2_group(parsed(document), _attributes(stored.get(".zattrs")))
    except ValueError as error:
        return _damaged(error)
    return None


def _version_3(document: dict[str, Any], *, from_consolidated: bool) -> Node:
    if type(document.get("zarr_format")) is not int or document["zarr_format"] != _V3:
        raise ValueError(f"zarr_format is {document.get('zarr_format')!r}, not 3")
    node_type = document.get("node_type")
    if node_type == "array":
        return ArrayNode(lambda: document, _V3, from_consolidated)
    if node_type != "group":
        raise ValueError(f"node_type is {node_type!r}, neither 'array' nor 'group'")
    known = {"zarr_format", "node_type", "attributes", "consolidated_metadata"}
    for name, value in document.items():
        if name not in known and not (
            isinstance(value, dict) and value.get("must_understand") is False
        ):
            raise ValueError(f"the member {name!r} must be understood, and is not known")
    attributes = _object(document.get("attributes"))
    return GroupNode(attributes, document.get("consolidated_metadata") or None)


def _version_2_group(document: Mapping[str, Any], attributes: dict[str, Any]) -> GroupNode:
    zarr_format = document.get("zarr_format", _V2)
    if type(zarr_format) is not int or zarr_format != _V2:
        raise ValueError(f"zarr_format is {zarr_format!r}, not 2")
    return GroupNode(attributes)


def _version_2_array(document: bytes, attributes: Any) -> dict[str, Any]:
    return parsed(document) | {"attributes": _attributes(attributes)}


def _attributes(stored: Any) -> dict[str, Any]:
    if isinstance(stored, UnsupportedArrayError):
        raise stored
    return {} if stored is None else parsed(stored)


def _object(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError("a part of its metadata is no object")  # noqa: TRY004 data, not a type
    return value


def consolidated(group: GroupNode) -> dict[str, Node] | None:
    """Return what is consolidated in a group's version 3 document, by path.

    Raises
    ------
    ValueError
        It is of another kind.
    """
    found = group.consolidated
    if found is None:
        return None
    if not isinstance(found, dict) or found.get("kind") != "inline":
        raise ValueError("its kind is not 'inline'")
    return {
        path: _entry(entry) for path, entry in _entries(found.get("metadata")) if _is_path(path)
    }


def _entry(entry: Any) -> Node:
    if not isinstance(entry, dict):
        return UnreadableNode("its entry in the consolidated metadata is no object")
    try:
        if entry.get("zarr_format") != _V2:
            return _version_3(entry, from_consolidated=True)
        if "shape" in entry:
            return ArrayNode(lambda: entry, _V2, consolidated=True)
        return _version_2_group(entry, _object(entry.get("attributes")))
    except ValueError as error:
        return _damaged(error)


def consolidated_version_2(document: Mapping[str, Any]) -> dict[str, Node]:
    """Return what ``.zmetadata`` holds, by path; entries that are no documents say nothing."""
    stored: dict[str, dict[str, Any]] = {}
    for key, entry in _entries(document.get("metadata")):
        path, _, name = key.rpartition("/")
        if name in {".zarray", ".zgroup", ".zattrs"} and _is_path(path):
            stored.setdefault(path, {})[name] = entry
    return {path: _node_v2(entries) for path, entries in stored.items()}


def _node_v2(entries: Mapping[str, Any]) -> Node:
    try:
        if (found := entries.get(".zarray")) is not None:
            whole = _object(found) | {"attributes": _object(entries.get(".zattrs"))}
            return ArrayNode(lambda: whole, _V2, consolidated=True)
        return _version_2_group(_object(entries.get(".zgroup")), _object(entries.get(".zattrs")))
    except ValueError as error:
        return _damaged(error)


def stale_member(entry: Mapping[str, Any], own: Mapping[str, Any]) -> str | None:
    """Return what a version 2 array's consolidated entry and its own document differ in, if anything.

    Attributes do not count: writers of them often leave consolidated metadata alone.
    """
    for name in _MEMBERS:
        default = "." if name == "dimension_separator" else None
        says, is_ = (
            json.dumps(document.get(name, default), sort_keys=True) for document in (entry, own)
        )
        if says != is_:
            return name
    return None


def _entries(metadata: Any) -> Iterable[tuple[str, Any]]:
    if not isinstance(metadata, dict):
        raise ValueError("its metadata is no object")  # noqa: TRY004 data, not a type
    return ((key.strip("/"), entry) for key, entry in metadata.items())


def _is_path(path: str) -> bool:
    """Whether it can be the path of a node below the root."""
    return all(map(is_name, path.split("/")))


def is_name(name: str) -> bool:
    """Whether it can be the name of a node; JSON and file systems have names that are no text."""
    if name in ("", ".", "..") or "\\" in name:
        return False
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _damaged(error: ValueError) -> UnreadableNode:
    if isinstance(error, UnsupportedArrayError):
        return UnreadableNode(error.message, error.hint)
    return UnreadableNode(f"{type(error).__name__}: {one_line(error)}")
