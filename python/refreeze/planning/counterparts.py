"""The arrays of sources beside the same arrays of a target, whatever has become of either.

Unlike the planners of an append or an update, what is here refuses nothing but another source:
the caller reports or fixes what differs.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import TargetNotFoundError
from refreeze.metadata.selection import matches
from refreeze.metadata.specs import ArraySpec
from refreeze.metadata.time_units import TIME_ATTRIBUTES
from refreeze.planning.target_arrays import Standing, is_by_value, other_source, siblings_offset

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from refreeze.metadata.selection import Selection
    from refreeze.planning.source_slice import Cut, Store
    from refreeze.planning.target_arrays import Origin, Target

__all__ = [
    "Counterparts",
    "Gone",
    "counterparts",
    "covers",
    "extras",
    "field_differences",
    "gone_spec",
]

_LAYOUT = ("data_type", "codecs", "fill_value", "chunk_grid", "dimension_names")
"""Fields of an array's document, besides shape and attributes, that make it what it is."""


@dataclass(frozen=True)
class Counterparts:
    """The arrays of one source: those that the target has too, and others."""

    standing: list[Standing]
    """What can be compared chunk by chunk."""
    new: list[Cut]
    """Not in the target."""
    other: list[tuple[Cut, str]]
    """In the target as something else: a group, or of other chunks; and what it is."""
    elsewhere: frozenset[str]
    """Paths of those that are compared and have references to other sources only."""

    @property
    def follows(self) -> bool:
        """Whether another source comes before this one, whose attributes the target keeps."""
        return any(min(one.offset, default=0) < 0 for one in self.standing)


@dataclass(frozen=True)
class Gone:
    """An array of the target that no source has."""

    path: str
    document: bytes = field(repr=False)
    kind: str
    """``virtual``: of a source that is given; ``elsewhere``: of another; ``native`` or ``empty``:
    nothing tells."""
    spec: ArraySpec = field(repr=False)


def counterparts(target: Target, store: Store, parts: Sequence[Cut]) -> Counterparts:
    """Find the arrays of a source in a target, and where they begin there.

    Raises
    ------
    TargetNotFoundError
        The target has none of the arrays.
    MismatchError
        Its references lead to another source.
    """
    new = [part for part in parts if part.path not in target.nodes]
    if parts and len(new) == len(parts):
        names = ", ".join(part.path for part in new[:3])
        raise TargetNotFoundError(
            f"{target.url}, branch {target.branch}, has no array of {store.url} (such as {names})",
            "ingest it first; --target-group names the group that the arrays are in",
        )
    known: list[Cut] = []
    other: list[tuple[Cut, str]] = []
    for part in parts:
        if part.path in target.nodes:
            what = _another(part, target.nodes[part.path])
            if what is None:
                known.append(part)
            else:
                other.append((part, what))
    found = _origins(target, store, known)
    elsewhere = (p.path for p, one in zip(known, found, strict=True) if one.kind == "elsewhere")
    return Counterparts(_standing(target, known, found), new, other, frozenset(elsewhere))


def _another(part: Cut, document: bytes) -> str | None:
    """Return what makes chunks incomparable, as the end of a sentence; None if they are not."""
    there = json.loads(document)
    if there.get("node_type") != "array":
        return "it is a group"
    here = json.loads(part.document())
    if len(there["shape"]) != len(here["shape"]):
        return f"it has the shape {there['shape']}"
    chunks = there["chunk_grid"]["configuration"]["chunk_shape"]
    copied = part.copied or part.grid.coordinate
    if not copied and [max(n, 1) for n in chunks] != [max(n, 1) for n in part.spec.chunk_shape]:
        return f"it has chunks of {chunks}"
    return None


def _standing(
    target: Target,
    parts: Sequence[Cut],
    found: Sequence[Origin],
) -> list[Standing]:
    shapes = [json.loads(target.document(part.path))["shape"] for part in parts]
    offsets: list[tuple[int, ...] | None] = []
    for part, (_, shift, _), shape in zip(parts, found, shapes, strict=True):
        if shift is None:
            offsets.append(None)
            continue
        # Of a length that has stayed, all is where it was, whatever a reference says.
        axes = zip(shift, part.spec.chunk_shape, part.spec.shape, shape, strict=True)
        offsets.append(tuple(0 if here == there else by * max(n, 1) for by, n, here, there in axes))
    standing = []
    for part, origin, own in zip(parts, found, offsets, strict=True):
        copied = is_by_value(part, origin)
        offset, is_known = (own, True) if own else siblings_offset(part, parts, offsets)
        standing.append(Standing(part, target, copied, offset, is_known))
    return standing


def _origins(target: Target, store: Store, parts: Sequence[Cut]) -> list[Origin]:
    """Return what references tell; an array of another source's counts, if others are of this."""
    found = target.origins(store, [part.spec for part in parts], [None] * len(parts))
    others = [
        other_source(part, one)
        for part, one in zip(parts, found, strict=True)
        if one.kind == "elsewhere"
    ]
    if others and not any(one.shift is not None for one in found):
        raise others[0]
    return found


def field_differences(one: Standing, *, follows: bool) -> dict[str, tuple[Any, Any]]:
    """Return the fields of metadata, but for the shape, that differ: the source's and the target's.

    Attributes are ``attributes.NAME``. Of a source that follows another one only what makes up an
    array is compared, since the target keeps the first one's attributes; of copied arrays neither
    chunks nor codecs, which are the target's own.
    """
    here, there = json.loads(one.part.spec.document), json.loads(one.document)
    found = {}
    for name in _LAYOUT:
        if one.copied and name in {"codecs", "chunk_grid"}:
            continue
        if not _same(here.get(name), there.get(name)):
            found[name] = (here.get(name), there.get(name))
    if not follows:
        mine, theirs = here.get("attributes", {}), there.get("attributes", {})
        for name in sorted({*mine, *theirs}):
            if name in TIME_ATTRIBUTES and one.copied and not covers(one):
                continue
            if not _same(mine.get(name), theirs.get(name)):
                found[f"attributes.{name}"] = (mine.get(name), theirs.get(name))
    return found


def covers(one: Standing) -> bool:
    """Whether all that the target has of an array lies within the source's."""
    lengths = zip(one.offset, one.shape, one.part.spec.shape, strict=True)
    return all(offset >= 0 and offset + size <= length for offset, size, length in lengths)


def _same(one: Any, other: Any) -> bool:
    """Whether values of a document say the same; absent, null and empty are the same."""
    if one in (None, []) and other in (None, []):
        return True
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (one != one and other != other)  # noqa: PLR0124 not a number
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def extras(target: Target, stores: Sequence[Store], selection: Selection) -> list[Gone]:
    """Return the arrays of the target's group that are selected and that no source has."""
    if not any(store.is_group for store in stores):
        return []
    root = "/" + (selection.target_group or "").strip("/")
    below = root.rstrip("/") + "/"
    known = {spec.path for store in stores for spec in store.metadata.arrays}
    found = []
    for path, document in target.arrays.items():
        name = path.removeprefix(below)
        if not path.startswith(below) or path in known:
            continue
        if selection.arrays and not matches(name, selection.arrays):
            continue
        if selection.skip_variables and matches(name, selection.skip_variables):
            continue
        source_path = "/".join(filter(None, ((selection.group or "").strip("/"), name)))
        found.append(_gone(target, stores, path, document, source_path))
    return found


_KEYS = (("default", "/"), ("v2", "."), ("v2", "/"), ("default", "."))


def _gone(
    target: Target, stores: Sequence[Store], path: str, document: bytes, source_path: str
) -> Gone:
    """Find out whose an array was that no source has: its references tell, whatever its keys."""
    for store, keys in itertools.product(stores, _KEYS):
        spec = gone_spec(path, document, source_path, keys)
        (origin,) = target.origins(store, [spec], [None])
        if origin.kind != "elsewhere":
            return Gone(path, document, origin.kind, spec)
    return Gone(path, document, "elsewhere", gone_spec(path, document, source_path, _KEYS[0]))


def gone_from_sources(found: Sequence[Gone]) -> list[Gone]:
    """Return those that were the sources'; native ones too, beside none of another source."""
    others = {one.path.rpartition("/")[0] for one in found if one.kind == "elsewhere"}
    return [
        one
        for one in found
        if one.kind == "virtual"
        or (one.kind in {"native", "empty"} and one.path.rpartition("/")[0] not in others)
    ]


def gone_spec(path: str, document: bytes, source_path: str, keys: tuple[str, str]) -> ArraySpec:
    """Return an array of the target as if a source had it, of which nothing is listed."""
    fields: Mapping[str, Any] = json.loads(document)
    return ArraySpec(
        path=path,
        source_path=source_path,
        document=document,
        shape=tuple(fields["shape"]),
        chunk_shape=tuple(max(n, 1) for n in fields["chunk_grid"]["configuration"]["chunk_shape"]),
        key_encoding=keys[0],
        separator=keys[1],
        copied=False,
        pieces=(),
    )
