"""Which nodes of a Zarr store are ingested, as what, and where: their metadata, as version 3.

Listing chunks is the core's work.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import RefreezeError, SourceNotFoundError, UnsupportedArrayError
from refreeze.metadata.attributes import of_group, warning_of
from refreeze.metadata.documents import check_storable
from refreeze.metadata.hierarchy import (
    ArrayNode,
    GroupNode,
    Hierarchy,
    UnreadableNode,
    group_document,
    unreadable,
)
from refreeze.metadata.hierarchy_reader import HierarchyReader
from refreeze.metadata.interpretation import Described, described
from refreeze.metadata.layout import Layout, layout_of
from refreeze.metadata.specs import ArraySpec, GroupSpec
from refreeze.stores.reading import LARGEST_DOCUMENT
from refreeze.stores.reading_errors import one_line

if TYPE_CHECKING:
    from refreeze.stores.resolve import Source

__all__ = [
    "Selection",
    "SourceMetadata",
    "matches",
    "read_array",
    "read_metadata",
]


_SHOWN = 10
"""Arrays that an error names."""


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
    max_document: int = LARGEST_DOCUMENT
    """Bytes that a metadata document may have."""
    grown_along: str | None = None
    """A dimension whose arrays are taken as their own documents say, where those have other shapes
    than consolidated metadata says."""


@dataclass(frozen=True)
class SourceMetadata:
    """The nodes of an ingest, parents before children."""

    groups: list[GroupSpec]
    arrays: list[ArraySpec]
    warnings: list[str]
    nothing: RefreezeError | None = field(default=None, compare=False)
    """Why there is no array; None if there is one."""


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
    reader = HierarchyReader(source, limit=selection.max_document)
    hierarchy = reader.hierarchy(root_path, noted)
    target_root = _join("", selection.target_group or "")
    if isinstance(hierarchy.root, ArrayNode):
        name = root_path.rpartition("/")[2] or source.name
        found: dict[str, ArrayNode | UnreadableNode] = {name: hierarchy.root}
        groups = list(_parents(f"{target_root}/{name}", {}))
        # The array is the source: its chunks lie directly below the source's root.
        source_paths = {name: root_path}
        chosen = _select(found, selection, source, noted)
    else:
        nodes = hierarchy.nodes
        wanted = {"": hierarchy.root} | {p: n for p, n in nodes.items() if isinstance(n, GroupNode)}
        found = {path: node for path, node in nodes.items() if not isinstance(node, GroupNode)}
        source_paths = {path: _join(root_path, path).lstrip("/") for path in found}
        chosen = _select(found, selection, source, noted)
        if selection.arrays:
            ancestors = {""} | {a for path in chosen for a in _ancestors(path)}
            wanted = {path: group for path, group in wanted.items() if path in ancestors}
        documents = {
            _join(target_root, path): _group_document(path, group, noted)
            for path, group in sorted(wanted.items())
        }
        groups = list(_parents(target_root, documents))
        if selection.grown_along is not None and hierarchy.consolidated:
            nodes_chosen = {path: found[path] for path in chosen}
            found |= _newer(reader, root_path, nodes_chosen, selection.grown_along, noted)
    specs = []
    for path in sorted(chosen):
        with _array_errors(path):
            array = described(_document(path, found[path]))
            copied = _is_copied(array.layout, path, selection.loadable_variables)
            specs.append(
                _array_spec(array, _join(target_root, path), source_paths[path], copied=copied)
            )
            noted += _noted(path, array)
    nothing = None if specs else _nothing(reader, hierarchy, root_path, found, source)
    return SourceMetadata(groups, specs, noted, nothing)


def _document(path: str, node: ArrayNode | UnreadableNode) -> dict[str, Any]:
    """Parse an array's document.

    Raises
    ------
    UnsupportedArrayError
        It is damaged, or too large.
    """
    if isinstance(node, UnreadableNode):
        raise unreadable(path, node)
    try:
        return node.document()
    except UnsupportedArrayError:
        raise
    except ValueError as error:
        why = f"{type(error).__name__}: {one_line(error)}"
        raise unreadable(path, UnreadableNode(why)) from None


def _group_document(path: str, group: GroupNode, noted: list[str]) -> bytes:
    shown = path or "/"
    attributes = of_group(group.attributes)
    try:
        check_storable({"attributes": attributes.values})
    except UnsupportedArrayError as error:
        raise UnsupportedArrayError(
            f"group {shown} cannot be ingested: {error.message}",
            "repair its metadata document, or choose arrays of other groups with --array",
        ) from error
    if (text := warning_of(f"group {shown}", attributes)) is not None:
        noted.append(text)
    return group_document(attributes.values)


def _noted(path: str, array: Described) -> Iterator[str]:
    if (text := warning_of(f"array {path}", array.attributes)) is not None:
        yield text
    if array.loses_mask:
        yield (
            f"array {path}: xarray masks its fill value in version 2, but cannot mask "
            "text in version 3; those values show as they are stored"
        )


def _newer(
    reader: HierarchyReader,
    root: str,
    chosen: Mapping[str, ArrayNode | UnreadableNode],
    dimension: str,
    noted: list[str],
) -> dict[str, ArrayNode]:
    """Return the arrays whose own documents have other shapes than consolidated metadata says."""
    recorded: dict[str, Layout] = {}
    arrays: dict[str, ArrayNode] = {}
    for path, node in chosen.items():
        with _array_errors(path):
            layout = layout_of(_document(path, node))
        if isinstance(node, ArrayNode) and dimension in layout.addressed_by:
            recorded[path], arrays[path] = layout, node
    differ: dict[str, ArrayNode] = {}
    for path, own in reader.own(arrays, root, attributes=False).items():
        with _array_errors(path):
            shape = layout_of(_document(path, own)).shape
        if shape == recorded[path].shape:
            continue
        differ[path] = arrays[path]
        grown = all(now >= was for now, was in zip(shape, recorded[path].shape, strict=False))
        newer = "is the newer one and" if grown else "has another length, and"
        noted.append(
            f"array {path}: consolidated metadata says the shape is "
            f"{_lengths(recorded[path].shape)}, the array's own document {_lengths(shape)}: the "
            f"own document {newer} was taken; consolidate the store's metadata again"
        )
    return reader.own(differ, root, attributes=True)


def _lengths(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"


def _nothing(
    reader: HierarchyReader,
    hierarchy: Hierarchy,
    root: str,
    found: Mapping[str, object],
    source: Source,
) -> SourceNotFoundError:
    """Say why a source gives no array."""
    what = f"group {root} of {source.url}" if root else source.url
    if found:
        return SourceNotFoundError(
            f"no array of {what} is left: --array and --skip leave out all {len(found)}",
            f"arrays: {', '.join(sorted(found)[:_SHOWN])}",
        )
    folders = [""] if hierarchy.consolidated else hierarchy.ignored_folders
    keys = reader.documents_below(root, folders) if folders else []
    if keys and hierarchy.consolidated:
        return SourceNotFoundError(
            f"the consolidated metadata of {what} names no array, but there are documents: "
            f"{', '.join(keys)}",
            "consolidate the store's metadata again, or remove what is consolidated",
        )
    if keys:
        lacking = sorted({key.split("/")[root.count("/") + 1 if root else 0] for key in keys})
        return SourceNotFoundError(
            f"there is no array in {what}, but metadata documents lie below folders that are no "
            f"groups: {', '.join(keys)}",
            f"write group documents into the folders above them, from {lacking[0]} on, or name "
            "one of those groups as the source",
        )
    return SourceNotFoundError(
        f"there is no array in {what}", "check the URL; groups alone are nothing to ingest"
    )


def read_array(source: Source, *, max_document: int = LARGEST_DOCUMENT) -> ArraySpec:
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
    node = HierarchyReader(source, limit=max_document).array("")
    if node is None:
        raise SourceNotFoundError(
            f"{source.url} is a group, not an array",
            "name one array: the path of the group, '/' and the array's name",
        )
    try:
        layout = layout_of(_document(source.url, node))
    except UnsupportedArrayError as error:
        if error.hint:
            raise
        raise UnsupportedArrayError(
            f"array {source.name} cannot be listed: {error.message}", "repair its metadata document"
        ) from error
    return ArraySpec(
        path=f"/{source.name}",
        source_path="",
        document=b"",
        shape=layout.shape,
        chunk_shape=layout.chunk_shape,
        key_encoding=layout.key_encoding,
        separator=layout.separator,
        copied=False,
        dimension_names=layout.dimension_names,
        source_format=node.zarr_format,
    )


@contextmanager
def _array_errors(path: str) -> Iterator[None]:
    """Name the array in what its conversion raises, and the option that leaves it out."""
    leave_out = f"leave it out with --skip {path}"
    try:
        yield
    except UnsupportedArrayError as error:
        message = error.message
        if not error.hint:
            message = f"array {path} cannot be referenced: {message}"
        hint = f"{error.hint}, or {leave_out}" if error.hint else leave_out
        raise UnsupportedArrayError(message, hint) from error


def _select(
    found: Mapping[str, ArrayNode | UnreadableNode],
    selection: Selection,
    source: Source,
    noted: list[str],
) -> list[str]:
    chosen = list(found)
    if selection.arrays:
        for pattern in selection.arrays:
            if any(matches(path, [pattern]) for path in found):
                continue
            _check_above(pattern, found)
            if not selection.partial:
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


def _check_above(pattern: str, found: Mapping[str, ArrayNode | UnreadableNode]) -> None:
    """Refuse a pattern for what may lie in a group that is damaged."""
    for above in _ancestors(pattern.strip("/")):
        if isinstance(node := found.get(above), UnreadableNode):
            raise unreadable(above, node)


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether an array's path below its group, or its name, matches one of the patterns."""
    name = path.rpartition("/")[2]
    return any(
        candidate == pattern or fnmatch.fnmatchcase(candidate, pattern)
        for pattern in (pattern.strip("/") for pattern in patterns)
        for candidate in (name, path)
    )


def _is_copied(array: Layout, path: str, loadable: Sequence[str] | None) -> bool:
    if loadable is not None:
        return matches(path, loadable)
    return len(array.shape) == 1 and array.dimension_names == (path.rpartition("/")[2],)


def _array_spec(array: Described, path: str, source_path: str, *, copied: bool) -> ArraySpec:
    return ArraySpec(
        path=path,
        source_path=source_path,
        document=array.document,
        shape=array.layout.shape,
        chunk_shape=array.layout.chunk_shape,
        key_encoding=array.layout.key_encoding,
        separator=array.layout.separator,
        copied=copied,
        dimension_names=array.layout.dimension_names,
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
