"""Finds the groups and arrays of a source: each node's document is read by itself.

Consolidated metadata is taken where there is some, as zarr-python takes it; otherwise folders are
listed. Documents of arrays are kept as they are: what is not chosen is never interpreted.

What documents make of a place is decided by `refreeze.metadata.nodes`.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import RefreezeError, SourceNotFoundError, UnsupportedArrayError
from refreeze.metadata.documents import parsed
from refreeze.metadata.hierarchy import (
    DOCUMENTS,
    ArrayNode,
    GroupNode,
    Hierarchy,
    Node,
    UnreadableNode,
    unreadable,
)
from refreeze.metadata.nodes import (
    consolidated,
    consolidated_version_2,
    document_names,
    is_name,
    node_of,
    stale_member,
)
from refreeze.stores.mistakes import page_in_place_of, something_else
from refreeze.stores.reading import Folder, Reader
from refreeze.stores.reading_errors import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from refreeze.stores.resolve import Source

__all__ = ["HierarchyReader"]

_MOST_WARNINGS = 5
"""Of what is ignored, for each group."""
_MOST_FOLDERS = 256
"""That are searched for documents when no array was found."""
_V2 = 2
_V3 = 3


class HierarchyReader:
    """Reads the documents of a source.

    Parameters
    ----------
    source
        The store and the path in it.
    limit
        Bytes that a document may have.
    """

    def __init__(self, source: Source, *, limit: int) -> None:
        self._source = source
        self._reader = Reader(source)
        self._limit = limit

    def hierarchy(self, root: str, noted: list[str]) -> Hierarchy:
        """Read the root (a path below the source) and find everything in it.

        Parameters
        ----------
        noted
            Takes warnings of what is ignored.

        Raises
        ------
        SourceNotFoundError
            There is nothing.
        UnsupportedArrayError
            The root's document, or consolidated metadata, is damaged.
        AccessError, ListingError
            The store cannot be read.
        """
        zarr_format, node, below = self._root(root)
        if isinstance(node, ArrayNode):
            return Hierarchy(node)
        if below is not None:
            nodes = self._with_parents(root, below, noted)
            stale = self._staleness(root, nodes) if zarr_format == _V2 else None
            if stale is None:
                return Hierarchy(node, nodes, consolidated=True)
            noted.append(stale)
            if not self._reader.lists_folders:
                own = self.own(_arrays(nodes), root, attributes=True)
                return Hierarchy(node, nodes | own, consolidated=True)
        return self._listed(root, zarr_format, node, noted)

    def array(self, path: str) -> ArrayNode | None:
        """Return the array at a path; None if there is a group.

        Raises
        ------
        SourceNotFoundError, UnsupportedArrayError, AccessError, ListingError
            As for `hierarchy`.
        """
        _, node, _ = self._root(path)
        return node if isinstance(node, ArrayNode) else None

    def own(
        self, nodes: Mapping[str, ArrayNode], root: str, *, attributes: bool
    ) -> dict[str, ArrayNode]:
        """Read the arrays' own documents, where they come from consolidated metadata.

        Those that have none of their own are left out. Without attributes that is one document of
        each array.
        """
        asked = {path: node for path, node in nodes.items() if node.consolidated}
        count = None if attributes else 1
        names = [document_names(node.zarr_format)[:count] for node in asked.values()]
        keys = [
            _join(root, path, name) for path, of in zip(asked, names, strict=True) for name in of
        ]
        found = dict(zip(keys, self._documents(keys), strict=True))
        own = {}
        for path, of in zip(asked, names, strict=True):
            stored = {name: found[_join(root, path, name)] for name in of}
            read = node_of(stored)
            if isinstance(read, ArrayNode):
                own[path] = read
        return own

    def documents_below(self, root: str, folders: Sequence[str]) -> list[str]:
        """Search folders for metadata documents, level by level; the first few keys are enough."""
        waiting, searched = [_join(root, folder) for folder in folders], 0
        while waiting and searched < _MOST_FOLDERS:
            batch = waiting[: _MOST_FOLDERS - searched]
            searched += len(batch)
            deeper: list[str] = []
            found: list[str] = []
            for path, listed in zip(batch, self._reader.folders(batch), strict=True):
                found += [_join(path, name) for name in listed.objects if name in DOCUMENTS]
                deeper += [_join(path, name) for name in listed.folders if is_name(name)]
            if found:
                return sorted(found)[:3]
            waiting = deeper
        return []

    def _staleness(self, root: str, nodes: Mapping[str, Node]) -> str | None:
        """Say in what consolidated metadata contradicts the own document of its largest array.

        One request tells: whoever appends to a store makes its largest arrays larger. None where it
        agrees, and where arrays have no documents of their own.
        """
        largest, size = None, 1
        for path, array in _arrays(nodes).items():
            shape = array.document().get("shape")
            known = isinstance(shape, list) and all(isinstance(one, int) for one in shape)
            if known and shape and (largest is None or prod(shape) > size):
                largest, size = path, prod(shape)
        if largest is None:
            return None
        (stored,) = self._documents([_join(root, largest, ".zarray")])
        try:
            own = None if stored is None else parsed(stored)
        except ValueError:
            own = None
        if own is None:
            return None
        entry = _arrays(nodes)[largest].document()
        member = stale_member(entry, own)
        if member is None:
            return None
        says, is_ = (_member(document.get(member)) for document in (entry, own))
        return (
            f"array {_shown(largest)}: consolidated metadata says the {member} is {says}, its own "
            f"document says {is_} and is taken as the newer one: every document was read by itself; "
            "consolidate the source's metadata again (zarr.consolidate_metadata)"
        )

    def _root(self, root: str) -> tuple[int, GroupNode | ArrayNode, dict[str, Node] | None]:
        """Read the root's documents: version, node, and what is consolidated in them."""
        shown = root or self._source.url
        # Most stores are of version 3, and for those one request is enough.
        (stored,) = self._documents([_join(root, "zarr.json")])
        if (page := page_in_place_of(stored, self._source.url)) is not None:
            raise page
        found: dict[str, Any] = {"zarr.json": stored}
        if stored is None:
            names = [".zarray", ".zattrs", ".zgroup", ".zmetadata"]
            found |= zip(names, self._documents([_join(root, name) for name in names]), strict=True)
        node = node_of(found)
        if node is None:
            raise self._nothing(root, found.get(".zmetadata"))
        if isinstance(node, UnreadableNode):
            raise unreadable(shown, node)
        if isinstance(node, ArrayNode):
            return node.zarr_format, node, None
        document = found.get(".zmetadata")
        if isinstance(document, UnsupportedArrayError):
            raise document
        try:
            below = consolidated(node)
            if document is not None:
                below = consolidated_version_2(parsed(document))
        except ValueError as error:
            why = f"its consolidated metadata is damaged: {one_line(error)}"
            raise unreadable(shown, UnreadableNode(why)) from None
        return _V2 if stored is None else _V3, node, below

    def _nothing(self, root: str, consolidated: Any) -> RefreezeError:
        """Say what is there instead of a Zarr store, where that can be told."""
        what = f"group {root} in {self._source.url}" if root else self._source.url
        try:
            names = self._reader.folder(root)
        except RefreezeError:
            names = Folder([], [])
        return something_else(self._source, what, root, names, consolidated) or SourceNotFoundError(
            f"there is no Zarr store, group or array at {what}",
            "check the URL; a Zarr store has zarr.json, .zgroup or .zarray at its root",
        )

    def _listed(self, root: str, zarr_format: int, node: GroupNode, noted: list[str]) -> Hierarchy:
        nodes: dict[str, Node] = {}
        ignored: list[str] = []
        formats = {"": zarr_format}
        groups = [""]
        while groups:
            children: dict[str, int] = {}
            for group, listed in zip(
                groups,
                self._reader.folders([_join(root, group) for group in groups]),
                strict=True,
            ):
                names = [name for name in listed.folders if is_name(name)]
                children |= {_join(group, name): formats[group] for name in names}
                others = [name for name in listed.folders if not is_name(name)]
                others += [name for name in listed.objects if name not in DOCUMENTS]
                noted += _ignored(group, others)
            groups = []
            foreign_names: dict[str, list[str]] = {}
            for path, (found, entries) in self._children(root, children).items():
                if found is None:
                    parent, _, name = path.rpartition("/")
                    foreign_names.setdefault(parent, []).append(name)
                    ignored.append(path)
                    continue
                nodes[path] = found
                if entries is not None:
                    below = self._with_parents(_join(root, path), entries, noted)
                    nodes |= {_join(path, inner): one for inner, one in below.items()}
                elif isinstance(found, GroupNode):
                    formats[path] = children[path]
                    groups.append(path)
            for parent, unknown in foreign_names.items():
                noted += _ignored(parent, unknown)
        return Hierarchy(node, nodes, ignored)

    def _children(
        self, root: str, children: Mapping[str, int]
    ) -> dict[str, tuple[Node | None, dict[str, Node] | None]]:
        """Read folders of groups; one without documents of its group's version is no node."""
        keys = [
            _join(root, path, name)
            for path, zarr_format in children.items()
            for name in (*document_names(zarr_format), *([".zgroup"] if zarr_format == _V2 else []))
        ]
        stored = dict(zip(keys, self._documents(keys), strict=True))
        found: dict[str, tuple[Node | None, dict[str, Node] | None]] = {}
        for path in children:
            node = node_of({name: stored.get(_join(root, path, name)) for name in DOCUMENTS})
            entries = None
            if isinstance(node, GroupNode):
                try:
                    entries = consolidated(node)
                except ValueError as error:
                    node = UnreadableNode(
                        f"its consolidated metadata is damaged: {one_line(error)}"
                    )
            found[path] = node, entries
        return found

    def _with_parents(self, root: str, nodes: dict[str, Node], noted: list[str]) -> dict[str, Node]:
        """Add groups that consolidated metadata leaves out; drop what lies below an array."""
        kept: dict[str, Node] = {}
        missing: dict[str, None] = {}
        for path, node in nodes.items():
            parents = _ancestors(path)
            above = [one for one in parents if isinstance(nodes.get(one), ArrayNode)]
            if above:
                noted.append(f"{path} lies below the array {above[0]} and was ignored")
                continue
            kept[path] = node
            missing |= dict.fromkeys(one for one in parents if one not in nodes)
        if missing:
            names = ("zarr.json", ".zgroup", ".zattrs")
            keys = [_join(root, path, name) for path in missing for name in names]
            stored = dict(zip(keys, self._documents(keys), strict=True))
            for path in missing:
                found = node_of({name: stored[_join(root, path, name)] for name in names})
                kept[path] = found if isinstance(found, GroupNode) else GroupNode({})
            noted.append(
                f"consolidated metadata has no entry for {_some(list(missing))}: read as groups, "
                "because it has entries below"
            )
        return kept

    def _documents(self, keys: Sequence[str]) -> list[Any]:
        """Read objects; in place of one that is too large stands the error that says so."""
        try:
            return list(self._reader.documents(keys, limit=self._limit))
        except UnsupportedArrayError as error:
            if len(keys) == 1:
                return [error]
        # Only where one of many is at fault are they read one by one.
        return [one for key in keys for one in self._documents([key])]


def _arrays(nodes: Mapping[str, Node]) -> dict[str, ArrayNode]:
    return {path: node for path, node in nodes.items() if isinstance(node, ArrayNode)}


def _member(value: Any) -> str:
    return _shown(str(tuple(value) if isinstance(value, list) else value))


def _ignored(group: str, names: Sequence[str]) -> list[str]:
    """Warn of what lies in a group and is no node."""
    shown = sorted(_shown(_join(group, name)) for name in names)
    noted = [f"{one} is neither a group nor an array and was ignored" for one in shown]
    if len(noted) <= _MOST_WARNINGS:
        return noted
    rest = len(noted) - _MOST_WARNINGS
    return [
        *noted[:_MOST_WARNINGS],
        f"{rest} others beside {shown[0]} are neither groups nor arrays and were ignored",
    ]


def _some(paths: list[str]) -> str:
    few = ", ".join(_shown(path) for path in paths[:3])
    return few if len(paths) <= 3 else f"{few} and {len(paths) - 3} others"  # noqa: PLR2004 a few


def _shown(path: str) -> str:
    return path.encode(errors="backslashreplace").decode()


def _ancestors(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part)
