"""What of each array of a source is wanted, by a region or whole: elements and chunks.

Follows from metadata alone; only `Cut.values` reads. Where a cut goes in the target is decided by
the modes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import MismatchError
from refreeze.metadata.chunk_codec import with_shape
from refreeze.metadata.dimensions import GriddedArray, arrays_of_metadata
from refreeze.metadata.specs import ArraySpec, Piece
from refreeze.metadata.time_units import TIME_ATTRIBUTES
from refreeze.metadata.values import read_box
from refreeze.runtime.interruption import interruptible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from refreeze.metadata.region import SliceBounds
    from refreeze.metadata.selection import SourceMetadata
    from refreeze.stores.resolve import Source

__all__ = [
    "Box",
    "Cut",
    "Store",
    "agreed_length",
    "attributes_of",
    "check_dimensions",
    "chunks_of",
    "cut",
    "elements_of",
    "same_length",
]

Box = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Store:
    """One of the sources of an ingest, and what its metadata says."""

    index: int
    source: Source
    metadata: SourceMetadata

    @property
    def url(self) -> str:
        """For messages."""
        return self.source.url

    @cached_property
    def grids(self) -> list[GriddedArray]:
        """The grids of its arrays, in their order."""
        return arrays_of_metadata(self.metadata)

    @cached_property
    def is_group(self) -> bool:
        """Whether the source is a group, not a single array."""
        return any(group.from_source for group in self.metadata.groups)

    def attributes(self, path: str) -> dict[str, Any]:
        """Return an array's attributes, with the units that it takes from the one it bounds."""
        documents = {spec.path: spec.document for spec in self.metadata.arrays}
        return attributes_of(documents, path)


def attributes_of(documents: Mapping[str, bytes], path: str) -> dict[str, Any]:
    """Return an array's attributes, with the units that it takes from the one it bounds.

    By CF the bounds of a coordinate have its units, and need not repeat them.
    """
    attributes: dict[str, Any] = json.loads(documents[path])["attributes"]
    group, _, name = path.rpartition("/")
    for other, document in documents.items():
        beside = other.rpartition("/")[0] == group and other != path
        # Most documents need not be parsed for that.
        if not beside or not (b'"bounds"' in document or b'"climatology"' in document):
            continue
        bounded = json.loads(document).get("attributes", {})
        if name in {bounded.get("bounds"), bounded.get("climatology")}:
            inherited = {key: bounded[key] for key in TIME_ATTRIBUTES if key in bounded}
            return inherited | attributes
    return attributes


@dataclass(frozen=True)
class Cut:
    """A box of an array in a source."""

    store: Store
    spec: ArraySpec
    grid: GriddedArray
    elements: Box
    """Start and stop along each dimension."""
    chunks: Box
    """The same in chunks; those of a native one hold at least the elements."""
    copied: bool
    """Its values are carried as native chunks."""

    @property
    def path(self) -> str:
        """Path in the target."""
        return self.spec.path

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the box in elements."""
        return tuple(stop - start for start, stop in self.elements)

    @property
    def whole(self) -> bool:
        """Whether it is all of the array."""
        return self.shape == self.spec.shape

    @property
    def where(self) -> str:
        """Names the array and its store, for messages."""
        return f"array {self.path} of {self.store.url}"

    def axis(self, dimension: str) -> int | None:
        """Return the position of a dimension; None when the array does not have it."""
        return self.grid.names.index(dimension) if dimension in self.grid.names else None

    def document(self, shape: tuple[int, ...] | None = None) -> bytes:
        """Return the metadata document with the shape of the cut, or another."""
        return with_shape(self.spec.document, self.shape if shape is None else shape)

    def piece(self, start: Sequence[int]) -> Piece:
        """Return the piece that begins at these chunk coordinates of the target."""
        return Piece(
            source=self.store.index,
            source_path=self.spec.source_path,
            shape=self.spec.shape,
            chunk_shape=self.spec.chunk_shape,
            key_encoding=self.spec.key_encoding,
            separator=self.spec.separator,
            target=tuple(
                (at, at + stop - first)
                for at, (first, stop) in zip(start, self.chunks, strict=True)
            ),
            shift=tuple(first - at for at, (first, _) in zip(start, self.chunks, strict=True)),
        )

    def values(self) -> Any:
        """Read the elements as they are stored."""
        return interruptible(read_box, self.store.source, self.spec, self.elements)


def check_dimensions(stores: Iterable[Store], dimensions: Iterable[str]) -> None:
    """Refuse dimensions that no array has; `RegionError` lists those that there are."""
    from refreeze import _refreeze

    _refreeze.check_known([grid for store in stores for grid in store.grids], list(dimensions))


def cut(store: Store, region: Mapping[str, SliceBounds]) -> list[Cut]:
    """Return what a region leaves of the arrays of a store.

    Raises
    ------
    RegionError
        The region does not align with an array's chunks, or is empty.
    """
    from refreeze import _refreeze

    arrays = list(zip(store.metadata.arrays, store.grids, strict=True))
    resolved = _refreeze.resolve_region(arrays, region=region)
    return [
        Cut(store, spec, grid, tuple(elements), tuple(chunks), spec.copied or step is not None)
        for (spec, grid), (elements, chunks, step) in zip(arrays, resolved, strict=True)
    ]


def elements_of(grid: GriddedArray, bounds: Mapping[str, SliceBounds]) -> Box:
    """Return start and stop of a region along each dimension of an array.

    Raises
    ------
    RegionError
        It is empty along a dimension, or has steps.
    """
    from refreeze import _refreeze

    return tuple(_refreeze.region_elements(grid, region=bounds))


def chunks_of(spec: ArraySpec, bounds: Mapping[str, SliceBounds]) -> Box:
    """Return the chunk coordinates of a region along each dimension of an array.

    Raises
    ------
    RegionError
        It does not align, is empty, or has steps.
    """
    from refreeze import _refreeze

    return tuple(_refreeze.region_box(spec, region=bounds))


def same_length(cuts: Iterable[Cut], dimension: str) -> int:
    """Return the length along a dimension that all arrays of a store agree in.

    Raises
    ------
    MismatchError
        Two of them do not.
    """
    lengths = [
        (part.path, part.shape[axis], part.store.url)
        for part in cuts
        if (axis := part.axis(dimension)) is not None
    ]
    return agreed_length(
        [(path, length) for path, length, _ in lengths],
        lengths[0][2],
        dimension,
        "select arrays of one length with --array or --skip",
    )


def agreed_length(lengths: Sequence[tuple[str, int]], place: str, dimension: str, hint: str) -> int:
    """Return the one length of the arrays of a place, each given by its path.

    Raises
    ------
    MismatchError
        Two of them do not agree.
    """
    first: dict[int, str] = {}
    for path, length in lengths:
        first.setdefault(length, path)
    if len(first) > 1:
        (one, path), (other, differs), *_ = first.items()
        raise MismatchError(
            f"the arrays of {place} do not agree in their length along {dimension}: "
            f"{path} has {one}, {differs} has {other}",
            hint,
        )
    return next(iter(first))
