"""What both readers of metadata return: the nodes below the root of a source."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "DOCUMENTS",
    "ArrayNode",
    "Described",
    "GroupNode",
    "Hierarchy",
    "document_bytes",
    "group_document",
]

# Those of version 2 lie beside `zarr.json` in a store that has been migrated in place.
DOCUMENTS = {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"}
"""Names of objects that hold metadata."""


@dataclass(frozen=True)
class Described:
    """An array: how the target holds it, and where the source has its chunks."""

    document: bytes = field(repr=False)
    """Version 3 metadata, with Icechunk's chunk keys."""
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    """Elements of a stored object along each dimension: the shard's, of a sharded array."""
    key_encoding: str
    separator: str
    dimension_names: tuple[str | None, ...] | None
    source_format: int = 3
    loses_mask: bool = False
    """Whether xarray masks values of it that it cannot mask in the target."""


@dataclass(frozen=True)
class GroupNode:
    """A group."""

    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class ArrayNode:
    """An array, which can be described if it is chosen; of any other nothing is asked."""

    describe: Callable[[], Described]


@dataclass(frozen=True)
class Hierarchy:
    """A root and, if it is a group, all nodes below it by their paths."""

    root: GroupNode | ArrayNode
    nodes: dict[str, GroupNode | ArrayNode] = field(default_factory=dict)


def group_document(attributes: Mapping[str, Any]) -> bytes:
    """Return the version 3 document of a group.

    Consolidated metadata is left out: in a copy it would go stale.
    """
    return document_bytes({"attributes": dict(attributes), "zarr_format": 3, "node_type": "group"})


def document_bytes(document: Mapping[str, Any]) -> bytes:
    """Return a metadata document as zarr-python writes it."""
    return json.dumps(document, indent=2).encode()
