"""What planners and the core are told of a source's nodes: groups, arrays, and where chunks are.

Values alone: which nodes there are is chosen by `refreeze.metadata.selection`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["ArraySpec", "GroupSpec", "Piece"]


@dataclass(frozen=True)
class GroupSpec:
    """A group to be created in the target."""

    path: str
    document: bytes = field(repr=False)
    from_source: bool
    """False for a parent that only the target needs."""


@dataclass(frozen=True)
class Piece:
    """A box of an array's chunk grid in the target, and where its chunks are."""

    source: int
    """Position among the sources of the ingest."""
    source_path: str
    """Path of the array in that source."""
    shape: tuple[int, ...]
    """Of the array in the source, in elements."""
    chunk_shape: tuple[int, ...]
    key_encoding: str
    separator: str
    target: tuple[tuple[int, int], ...]
    """Start and stop along each dimension, in chunk coordinates of the target's grid."""
    shift: tuple[int, ...]
    """Chunk coordinate in the source minus that in the target."""


@dataclass(frozen=True)
class ArraySpec:
    """An array to be created in the target, and where its chunks are.

    Shapes are in elements; a chunk is a stored object (a shard, for sharded arrays).
    """

    path: str
    source_path: str
    document: bytes = field(repr=False)
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    key_encoding: str
    separator: str
    copied: bool
    dimension_names: tuple[str | None, ...] | None = None
    source_format: int = 3
    """Zarr version of the source's metadata; the document is of version 3."""
    source: int = 0
    """Position among the sources of the ingest."""
    pieces: tuple[Piece, ...] | None = None
    """Where its chunks come from; None: the whole array from the source. Nothing else is listed."""
    chunks: Mapping[tuple[int, ...], bytes] | None = field(default=None, repr=False)
    """The chunks of a copied array that are to be written, by coordinates; one without bytes is
    removed. None: they are copied as they are in the source."""

    @property
    def grid_shape(self) -> tuple[int, ...]:
        """Chunks along each dimension."""
        sizes = zip(self.shape, self.chunk_shape, strict=True)
        return tuple(-(-length // max(chunk, 1)) for length, chunk in sizes)
