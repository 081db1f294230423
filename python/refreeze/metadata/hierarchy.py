"""The nodes of a source as they are found: groups with attributes, arrays with their documents.

Nothing is asked of an array's document before the array is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from refreeze.exceptions import UnsupportedArrayError
from refreeze.metadata.documents import document_bytes

__all__ = [
    "DOCUMENTS",
    "ArrayNode",
    "GroupNode",
    "Hierarchy",
    "Node",
    "UnreadableNode",
    "group_document",
    "unreadable",
]

# Those of version 2 lie beside `zarr.json` in a store that has been migrated in place.
DOCUMENTS = {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"}
"""Names of objects that hold metadata."""


@dataclass(frozen=True)
class GroupNode:
    """A group."""

    attributes: Mapping[str, Any]
    consolidated: Any = field(default=None, repr=False)
    """What its version 3 document says of the nodes below it; None: nothing."""


@dataclass(frozen=True)
class ArrayNode:
    """An array, whose document is parsed if it is chosen."""

    document: Callable[[], dict[str, Any]]
    """Gives ``zarr.json``, or ``.zarray`` with ``attributes`` beside; raises ValueError if it is
    damaged."""
    zarr_format: int
    consolidated: bool = False
    """Whether the document comes from consolidated metadata, which may be older than its own."""


@dataclass(frozen=True)
class UnreadableNode:
    """A group or an array, one cannot say which: its document is damaged."""

    why: str
    hint: str | None = "repair its metadata document"


Node = GroupNode | ArrayNode | UnreadableNode


@dataclass(frozen=True)
class Hierarchy:
    """A root and, if it is a group, all nodes below it by their paths."""

    root: GroupNode | ArrayNode
    nodes: dict[str, Node] = field(default_factory=dict)
    ignored_folders: list[str] = field(default_factory=list)
    """Folders that are no nodes, where more may lie."""
    consolidated: bool = False
    """Whether it was read from consolidated metadata, without listing."""


def group_document(attributes: Mapping[str, Any]) -> bytes:
    """Return the version 3 document of a group.

    Consolidated metadata is left out: in a copy it would go stale.
    """
    return document_bytes({"attributes": dict(attributes), "zarr_format": 3, "node_type": "group"})


def unreadable(node: str, what: UnreadableNode) -> UnsupportedArrayError:
    """Return the error for a node whose metadata is damaged."""
    return UnsupportedArrayError(f"the metadata of {node} cannot be read: {what.why}", what.hint)
