"""The grids of arrays: how each is chunked along which dimension, and which are coordinates.

Pure: everything follows from metadata that has been read already. What a region takes of an array
is the core's decision.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from refreeze.metadata.conversion import dimension_names, stored_chunk_shape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import zarr

    from refreeze.metadata.selection import SourceMetadata
    from refreeze.metadata.specs import ArraySpec, GroupSpec

__all__ = [
    "GriddedArray",
    "arrays_of_metadata",
    "arrays_of_node",
]


@dataclass(frozen=True)
class GriddedArray:
    """An array's grid. Shapes are in elements; a chunk is a stored object (a shard, if sharded)."""

    path: str
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    names: tuple[str, ...]
    """By which the dimensions are addressed in regions; ``dim_0``, … where they have no name."""
    coordinate: bool
    """One-dimensional, and what xarray takes for a coordinate: it is named like its dimension, or
    by a ``coordinates`` attribute."""

    def chunks(self, dimension: str, length: int) -> int:
        """Return how many chunks the first ``length`` elements along a dimension can have."""
        return math.prod(
            -(-min(length, size) // max(chunk, 1))
            if name == dimension
            else -(-size // max(chunk, 1))
            for name, size, chunk in zip(self.names, self.shape, self.chunk_shape, strict=True)
        )


def arrays_of_metadata(metadata: SourceMetadata) -> list[GriddedArray]:
    """Return the grids of a source's arrays."""
    nodes: list[GroupSpec | ArraySpec] = [*metadata.groups, *metadata.arrays]
    attributes = {node.path: json.loads(node.document)["attributes"] for node in nodes}
    listed = _listed_coordinates(attributes)
    return [
        _gridded(spec.path, spec.shape, spec.chunk_shape, spec.dimension_names, listed)
        for spec in metadata.arrays
    ]


def arrays_of_node(node: zarr.Group | zarr.Array[Any]) -> list[GriddedArray]:
    """Return the grids of an opened array, or of all arrays in an opened group."""
    import zarr

    if isinstance(node, zarr.Array):
        nodes: dict[str, Any] = {f"/{node.basename or 'array'}": node}
    else:
        nodes = {"/": node} | {f"/{path}": n for path, n in node.members(max_depth=None)}
    listed = _listed_coordinates({path: n.attrs.asdict() for path, n in nodes.items()})
    return [
        _gridded(
            path,
            tuple(array.shape),
            stored_chunk_shape(array.metadata),
            dimension_names(array.metadata),
            listed,
        )
        for path, array in nodes.items()
        if isinstance(array, zarr.Array)
    ]


def _gridded(
    path: str,
    shape: tuple[int, ...],
    chunk_shape: tuple[int, ...],
    dimension_names: Sequence[str | None] | None,
    listed: Mapping[str, set[str]],
) -> GriddedArray:
    from refreeze import _refreeze

    parent, _, name = path.rpartition("/")
    names = tuple(_refreeze.addressed_names(dimension_names, len(shape)))
    own = dimension_names[0] if dimension_names else None
    coordinate = len(shape) == 1 and (own == name or name in listed.get(parent, ()))
    return GriddedArray(path, shape, chunk_shape, names, coordinate)


def _listed_coordinates(attributes: Mapping[str, Mapping[str, Any]]) -> dict[str, set[str]]:
    """Return what ``coordinates`` attributes name, by group; arrays name some in their group."""
    listed: dict[str, set[str]] = {}
    for path, found in attributes.items():
        named = found.get("coordinates")
        if isinstance(named, str):
            # A group lists its own, an array those beside it.
            for group in {path.rstrip("/"), path.rpartition("/")[0]}:
                listed.setdefault(group, set()).update(named.split())
    return listed
