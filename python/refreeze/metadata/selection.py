"""Which nodes of a Zarr store are ingested, as what, and where: their metadata, as version 3.

Listing chunks is the core's work.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from refreeze.exceptions import SourceNotFoundError, UnsupportedArrayError
from refreeze.metadata.conversion import chunk_keys, dimension_names, stored_chunk_shape
from refreeze.metadata.hierarchy import ArrayNode, Described, GroupNode, Hierarchy, group_document
from refreeze.metadata.plain_reader import read_plain, read_plain_array
from refreeze.metadata.zarr_reader import open_node, read_hierarchy, zarr_warnings
from refreeze.runtime.interruption import interruptible
from refreeze.stores.reading_errors import one_line, store_errors

if TYPE_CHECKING:
    from refreeze.stores.resolve import Source

__all__ = [
    "ArraySpec",
    "GroupSpec",
    "Piece",
    "Selection",
    "SourceMetadata",
    "matches",
    "read_array",
    "read_metadata",
]


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
    loaded: bool
    dimension_names: tuple[str | None, ...] | None = None
    source_format: int = 3
    """Zarr version of the source's metadata; the document is of version 3."""
    source: int = 0
    """Position among the sources of the ingest."""
    pieces: tuple[Piece, ...] | None = None
    """Where its chunks come from; None: the whole array from the source. Nothing else is listed."""
    chunks: Mapping[tuple[int, ...], bytes] | None = field(default=None, repr=False)
    """The chunks of a loaded array that are to be written, by coordinates; one without bytes is
    removed. None: they are copied as they are in the source."""


@dataclass(frozen=True)
class Selection:
    """Which nodes of a source are wanted, and where they go.

    Patterns are globs that match an array's name or its path below the group.
    """

    group: str | None = None
    target_group: str | None = None
    arrays: Sequence[str] = ()
    skip_variables: Sequence[str] = ()
    loadable_variables: Sequence[str] | None = None
    """None: one-dimensional dimension coordinates."""
    partial: bool = False
    """Whether ``arrays`` may name some that are in other sources."""


@dataclass(frozen=True)
class SourceMetadata:
    """The nodes of an ingest, parents before children."""

    groups: list[GroupSpec]
    arrays: list[ArraySpec]
    warnings: list[str]


def read_metadata(source: Source, selection: Selection) -> SourceMetadata:
    """Read the groups and arrays of a source that are selected.

    Raises
    ------
    SourceNotFoundError
        There is no Zarr store, no such group, or no such array.
    UnsupportedArrayError
        Metadata that is damaged or that cannot be expressed in version 3 with references.
    AccessError
        Credentials or permissions were refused.
    ListingError
        The store cannot be read for another reason.
    """
    noted: list[str] = []
    root_path = (selection.group or "").strip("/")
    hierarchy = _hierarchy(source, root_path, noted)
    nodes = hierarchy.nodes
    target_root = _join("", selection.target_group or "")
    if isinstance(hierarchy.root, ArrayNode):
        name = root_path.rpartition("/")[2] or source.name
        found = {name: hierarchy.root}
        groups = list(_parents(f"{target_root}/{name}", {}))
        # The array is the source: its chunks lie directly below the source's root.
        source_paths = {name: root_path}
        chosen = _select(found, selection, source, noted)
    else:
        wanted = {"": hierarchy.root} | {p: n for p, n in nodes.items() if isinstance(n, GroupNode)}
        found = {path: node for path, node in nodes.items() if isinstance(node, ArrayNode)}
        source_paths = {path: _join(root_path, path).lstrip("/") for path in found}
        chosen = _select(found, selection, source, noted)
        if selection.arrays:
            ancestors = {""} | {a for path in chosen for a in _ancestors(path)}
            wanted = {path: group for path, group in wanted.items() if path in ancestors}
        documents = {
            _join(target_root, path): group_document(group.attributes)
            for path, group in sorted(wanted.items())
        }
        groups = list(_parents(target_root, documents))
    specs = []
    for path in sorted(chosen):
        with _array_errors(path):
            described = found[path].describe()
            loaded = _is_loaded(described, path, selection.loadable_variables)
            specs.append(
                _array_spec(described, _join(target_root, path), source_paths[path], loaded=loaded)
            )
            if described.loses_mask:
                noted.append(
                    f"array {path}: xarray masks its fill value in version 2, but cannot mask "
                    "text in version 3; those values show as they are stored"
                )
    return SourceMetadata(groups, specs, noted)


def _hierarchy(source: Source, root_path: str, noted: list[str]) -> Hierarchy:
    with store_errors(source):
        plain = read_plain(source, root_path)
    return plain or read_hierarchy(source, root_path, noted)


def read_array(source: Source) -> ArraySpec:
    """Read what is needed to list one array; its data type and codecs may be of any kind.

    Raises
    ------
    SourceNotFoundError
        There is nothing at the source, or a group.
    UnsupportedArrayError
        The array's grid or chunk keys are of an unknown kind, or its metadata is damaged.
    AccessError, ListingError
        The store cannot be read.
    """
    with store_errors(source):
        plain = interruptible(read_plain_array, source)
    if plain is not None:
        return _array_spec(plain, f"/{source.name}", "", loaded=False)
    import zarr

    with store_errors(source), zarr_warnings([]):
        node = interruptible(open_node, source)
    if not isinstance(node, zarr.Array):
        raise SourceNotFoundError(
            f"{source.url} is a group, not an array",
            "name one array: the path of the group, '/' and the array's name",
        )
    with _array_errors(source.name):
        key_encoding, separator = chunk_keys(node.metadata)
        return ArraySpec(
            path=f"/{source.name}",
            source_path="",
            document=b"",
            shape=tuple(node.shape),
            chunk_shape=stored_chunk_shape(node.metadata),
            key_encoding=key_encoding,
            separator=separator,
            loaded=False,
            dimension_names=dimension_names(node.metadata),
        )


@contextmanager
def _array_errors(path: str) -> Iterator[None]:
    """Name the array in what its conversion raises."""
    leave_out = f"leave it out with --skip {path}"
    try:
        yield
    except UnsupportedArrayError as error:
        message = f"array {path} cannot be referenced: {error.message}"
        raise UnsupportedArrayError(message, error.hint or leave_out) from error
    except (KeyError, NotImplementedError, TypeError, ValueError) as error:
        message = f"array {path} cannot be referenced: {one_line(error)}"
        raise UnsupportedArrayError(message, leave_out) from error


def _select(
    found: Iterable[str], selection: Selection, source: Source, noted: list[str]
) -> list[str]:
    chosen = list(found)
    if selection.arrays:
        for pattern in selection.arrays:
            if not selection.partial and not any(matches(path, [pattern]) for path in found):
                raise SourceNotFoundError(
                    f"{source.url} has no array {pattern}",
                    f"arrays: {', '.join(sorted(found)) or 'none'}",
                )
        chosen = [path for path in chosen if matches(path, selection.arrays)]
    for option, patterns in (
        ("skip", selection.skip_variables),
        ("loadable", selection.loadable_variables or ()),
    ):
        noted.extend(
            f"no array matches the {option} pattern {pattern}"
            for pattern in patterns
            if not any(matches(path, [pattern]) for path in found)
        )
    return [path for path in chosen if not matches(path, selection.skip_variables)]


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether an array's path below its group, or its name, matches one of the patterns."""
    name = path.rpartition("/")[2]
    return any(
        candidate == pattern or fnmatch.fnmatchcase(candidate, pattern)
        for pattern in (pattern.strip("/") for pattern in patterns)
        for candidate in (name, path)
    )


def _is_loaded(array: Described, path: str, loadable: Sequence[str] | None) -> bool:
    if loadable is not None:
        return matches(path, loadable)
    return len(array.shape) == 1 and array.dimension_names == (path.rpartition("/")[2],)


def _array_spec(array: Described, path: str, source_path: str, *, loaded: bool) -> ArraySpec:
    return ArraySpec(
        path=path,
        source_path=source_path,
        document=array.document,
        shape=array.shape,
        chunk_shape=array.chunk_shape,
        key_encoding=array.key_encoding,
        separator=array.separator,
        loaded=loaded,
        dimension_names=array.dimension_names,
        source_format=array.source_format,
    )


def _parents(path: str, documents: dict[str, bytes]) -> Iterator[GroupSpec]:
    """Yield the groups of ``documents``, preceded by the parents of ``path`` that are not in it."""
    empty = group_document({})
    for parent in ["/", *(f"/{ancestor}" for ancestor in _ancestors(path.strip("/")))]:
        if parent not in documents:
            yield GroupSpec(parent, empty, from_source=False)
    for group, document in documents.items():
        yield GroupSpec(group, document, from_source=True)


def _ancestors(path: str) -> list[str]:
    """``a/b/c`` has the ancestors ``a`` and ``a/b``."""
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _join(parent: str, child: str) -> str:
    """Join two paths; the result begins with ``/`` when ``parent`` is empty or does."""
    parent, child = parent.rstrip("/"), child.strip("/")
    return f"{parent}/{child}" if child else parent or "/"
