"""Reads the metadata of a Zarr store with zarr-python: which nodes there are, as version 3.

Listing chunks is the core's work. Conversion of one array is `refreeze.convert`'s.
"""

from __future__ import annotations

import fnmatch
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from refreeze.convert import (
    array_document,
    chunk_keys,
    dimension_names,
    group_document,
    loses_mask,
    stored_chunk_shape,
)
from refreeze.exceptions import (
    AccessError,
    ListingError,
    RefreezeError,
    SourceNotFoundError,
    UnsupportedArrayError,
)
from refreeze.interrupt import interruptible

if TYPE_CHECKING:
    import zarr

    from refreeze.stores import Source

__all__ = [
    "ArraySpec",
    "GroupSpec",
    "Piece",
    "Selection",
    "SourceMetadata",
    "matches",
    "read_array",
    "read_box",
    "read_elements",
    "read_metadata",
]

_NOT_A_NODE = "is not recognized as a component of a Zarr hierarchy"
# Those of version 2 lie beside `zarr.json` in a store that has been migrated in place.
_DOCUMENTS = {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"}


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
    import zarr

    noted: list[str] = []
    with _store_errors(source), _zarr_warnings(noted):
        root, root_path, nodes = _open(source, selection.group)
    target_root = _join("", selection.target_group or "")
    if isinstance(root, zarr.Array):
        name = root_path.rpartition("/")[2] or source.name
        found = {name: root}
        groups = list(_parents(f"{target_root}/{name}", {}))
        # The array is the source: its chunks lie directly below the source's root.
        source_paths = {name: root_path}
    else:
        groups_found = {"": root} | {p: n for p, n in nodes.items() if isinstance(n, zarr.Group)}
        found = {path: node for path, node in nodes.items() if isinstance(node, zarr.Array)}
        source_paths = {path: _join(root_path, path).lstrip("/") for path in found}
    chosen = _select(found, selection, source, noted)
    if not isinstance(root, zarr.Array):
        wanted = groups_found
        if selection.arrays:
            ancestors = {""} | {a for path in chosen for a in _ancestors(path)}
            wanted = {path: group for path, group in groups_found.items() if path in ancestors}
        documents = {
            _join(target_root, path): group_document(group.metadata)
            for path, group in sorted(wanted.items())
        }
        groups = list(_parents(target_root, documents))
    specs = []
    for path in sorted(chosen):
        with _array_errors(path):
            specs.append(
                _array_spec(
                    found[path],
                    path=_join(target_root, path),
                    source_path=source_paths[path],
                    loaded=_is_loaded(found[path], path, selection.loadable_variables),
                )
            )
            if loses_mask(found[path].metadata):
                noted.append(
                    f"array {path}: xarray masks its fill value in version 2, but cannot mask "
                    "text in version 3; those values show as they are stored"
                )
    return SourceMetadata(groups, specs, noted)


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
    import zarr

    with _store_errors(source), _zarr_warnings([]):
        node = interruptible(_open_node, source)
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


def read_elements(source: Source, start: int, stop: int) -> Any:
    """Read elements of a one-dimensional array; see `read_box`."""
    return read_box(source, ((start, stop),))


def read_box(source: Source, box: Sequence[tuple[int, int]]) -> Any:
    """Read a box of an array as it is stored: not masked, not scaled.

    Parameters
    ----------
    source
        The array.
    box
        Start and stop along each dimension, in elements.

    Raises
    ------
    ListingError, AccessError
        The store cannot be read.
    UnsupportedArrayError
        A chunk cannot be decoded.
    """
    with _store_errors(source), _zarr_warnings([]):
        array = _open_node(source)
        try:
            return array[tuple(slice(*bounds) for bounds in box)]
        except (RuntimeError, TypeError, ValueError) as error:
            raise UnsupportedArrayError(
                f"{source.url} cannot be decoded: {type(error).__name__}: {_one_line(error)}",
                "the chunk is damaged, or its codec is not installed",
            ) from error


def _open_node(source: Source) -> Any:
    import zarr

    try:
        return zarr.open(_zarr_store(source), mode="r", path=source.path)
    except FileNotFoundError:
        raise SourceNotFoundError(
            f"there is no Zarr array at {source.url}", "check the path"
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(source.url, error) from error


def _open(source: Source, group: str | None) -> tuple[Any, str, dict[str, Any]]:
    """Open the root (or the group below it), and everything in it, by relative path."""
    import zarr

    store = _zarr_store(source)
    relative = (group or "").strip("/")
    path = _join(source.path, relative).lstrip("/")
    try:
        root = zarr.open(store, mode="r", path=path)
    except FileNotFoundError:
        what = f"group {relative} in {source.url}" if relative else source.url
        raise SourceNotFoundError(
            f"there is no Zarr store, group or array at {what}",
            "check the URL; a Zarr store has zarr.json, .zgroup or .zarray at its root",
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        # A damaged document or a codec that zarr does not know.
        raise _unreadable(relative or source.url, error) from error
    if isinstance(root, zarr.Array):
        return root, relative, {}
    try:
        return root, relative, dict(root.members(max_depth=None))
    except (KeyError, TypeError, ValueError) as error:
        _name_the_culprit(store, path, relative)
        raise _unreadable(relative or source.url, error) from error


def _zarr_store(source: Source) -> Any:
    """Return the source's store as zarr wants it."""
    from zarr.storage import LocalStore, ObjectStore

    if type(source.store).__name__ == "LocalStore":
        # obstore's fails on a file where zarr looks for a folder, such as a README in a group.
        return LocalStore(source.store.prefix or "/", read_only=True)
    return ObjectStore(source.store, read_only=True)


def _name_the_culprit(store: Any, path: str, shown: str) -> None:
    """Raise for the first member below ``path`` that cannot be read, by its name.

    zarr reads members all at once, and its error does not say which one was at fault.
    """
    import zarr
    from zarr.core.sync import sync

    async def children() -> list[str]:
        return [name async for name in store.list_dir(path)]

    for name in sorted(sync(children())):
        child = _join(path, name).lstrip("/")
        try:
            node = zarr.open(store, mode="r", path=child)
        except FileNotFoundError:
            continue
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable(_join(shown, name).lstrip("/"), error) from error
        if isinstance(node, zarr.Group):
            _name_the_culprit(store, child, _join(shown, name).lstrip("/"))


def _unreadable(path: str, error: Exception) -> UnsupportedArrayError:
    return UnsupportedArrayError(
        f"the metadata of {path} cannot be read: {type(error).__name__}: {_one_line(error)}",
        "repair its metadata document; if it names a codec or data type that zarr does not know, "
        "install the package that provides it",
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
        message = f"array {path} cannot be referenced: {_one_line(error)}"
        raise UnsupportedArrayError(message, leave_out) from error


@contextmanager
def _store_errors(source: Source) -> Iterator[None]:
    """Turn what the store raises into errors that say what to change."""
    import obstore.exceptions

    try:
        yield
    except RefreezeError:
        raise
    except (OSError, obstore.exceptions.BaseError) as error:
        if _refused(error):
            raise AccessError(
                f"cannot read {source.url}: {_one_line(error)}",
                "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or set --source-option "
                "access_key_id=… and secret_access_key=… (skip_signature=true for public data); "
                "on local disk, the permissions of the folder",
            ) from error
        raise ListingError(
            f"cannot read {source.url}: {_one_line(error)}",
            "check the URL, the endpoint and the network",
        ) from error


def _refused(error: Exception) -> bool:
    """Whether permissions are at fault; for LIST, object_store says so in the text alone."""
    from obstore.exceptions import GenericError, PermissionDeniedError, UnauthenticatedError

    if isinstance(error, PermissionError | PermissionDeniedError | UnauthenticatedError):
        return True
    refusals = ("status code: 401", "status code: 403", "Permission denied (os error 13)")
    return isinstance(error, GenericError) and any(text in str(error) for text in refusals)


@contextmanager
def _zarr_warnings(noted: list[str]) -> Iterator[None]:
    """Keep the warnings that say something of this store; zarr's others are about its own future."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    texts = sorted({str(warning.message) for warning in caught})
    strangers = [text.removeprefix("Object at ").partition(" is not ")[0] for text in texts]
    noted.extend(
        f"{stranger} is neither a group nor an array and was ignored"
        for stranger, text in zip(strangers, texts, strict=True)
        if _NOT_A_NODE in text and stranger.rpartition("/")[2] not in _DOCUMENTS
    )


def _select(
    found: dict[str, Any], selection: Selection, source: Source, noted: list[str]
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


def _is_loaded(array: zarr.Array[Any], path: str, loadable: Sequence[str] | None) -> bool:
    if loadable is not None:
        return matches(path, loadable)
    return array.ndim == 1 and dimension_names(array.metadata) == (path.rpartition("/")[2],)


def _array_spec(array: zarr.Array[Any], *, path: str, source_path: str, loaded: bool) -> ArraySpec:
    key_encoding, separator = chunk_keys(array.metadata)
    return ArraySpec(
        path=path,
        source_path=source_path,
        document=array_document(array.metadata),
        shape=tuple(array.shape),
        chunk_shape=stored_chunk_shape(array.metadata),
        key_encoding=key_encoding,
        separator=separator,
        loaded=loaded,
        dimension_names=dimension_names(array.metadata),
        source_format=array.metadata.zarr_format,
    )


def _parents(path: str, documents: dict[str, bytes]) -> Iterator[GroupSpec]:
    """Yield the groups of ``documents``, preceded by the parents of ``path`` that are not in it."""
    empty = group_document(None)
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


def _one_line(error: Exception) -> str:
    """Return the first paragraph of a message; obstore's go on with a dump of its structures."""
    text = str(error).strip().partition("\n\n")[0]
    if (document := re.search(r"<\?xml|<Error", text)) is not None:
        # Of an S3 error document, the code and the message; AWS repeats whole requests in others.
        said = re.findall(r"<(?:Code|Message)>([^<]*)<", text)
        text = text[: document.start()] + ": ".join(said)
    return " ".join(text.split()).rstrip(".") or type(error).__name__
