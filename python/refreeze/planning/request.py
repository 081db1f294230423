"""What an ingest is to do, as the planners of the modes hand it on; and the request for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from refreeze.metadata.chunk_codec import encoded_chunks, with_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from refreeze.metadata.region import SliceBounds
    from refreeze.metadata.specs import ArraySpec, GroupSpec
    from refreeze.planning.source_slice import Cut, Store

__all__ = [
    "Planned",
    "Request",
    "copied_spec",
    "merged_groups",
    "placed",
    "source_warnings",
    "unread",
]


@dataclass(frozen=True)
class Request:
    """A mode and what it needs; checked."""

    mode: str = "create"
    append_dim: str | None = None
    concat_dim: str | None = None
    region: Mapping[str, SliceBounds] = field(default_factory=dict)
    target_group: str = "/"
    selective: bool = False
    """Whether arrays are chosen or left out by name."""
    figures_only: bool = False
    """Values that would be copied are not read; what is planned cannot be carried out."""

    @property
    def fingerprint(self) -> str:
        """What of the request determines the result, besides arrays and pieces."""
        region = {name: list(bounds) for name, bounds in sorted(self.region.items())}
        return json.dumps(
            {"append_dim": self.append_dim, "concat_dim": self.concat_dim, "region": region}
        )


@dataclass(frozen=True)
class Planned:
    """Groups and arrays for the core."""

    groups: list[GroupSpec]
    arrays: list[ArraySpec]
    warnings: list[str] = field(default_factory=list)
    base: str | None = None
    """Snapshot from which the target was read."""
    replaced: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    """Sync: arrays among ``arrays`` that are not in the target."""
    nothing_new: bool = False
    """The target has it all: the core is not asked. ``arrays`` are those that were looked at."""


def placed(part: Cut, *, figures_only: bool = False) -> ArraySpec:
    """Return the array that a cut makes by itself."""
    spec = replace(part.spec, source=part.store.index)
    if part.copied and not (part.whole and spec.copied):
        if figures_only:
            return unread(spec, part.document(), part.shape)
        return copied_spec(spec, part.document(), part.values())
    if part.whole:
        return spec
    pieces = (part.piece((0,) * len(part.shape)),)
    return replace(spec, document=part.document(), shape=part.shape, pieces=pieces)


def copied_spec(spec: ArraySpec, document: bytes, values: Any) -> ArraySpec:
    """Return an array whose chunks are written here, of all its values."""
    document = with_shape(document, values.shape)
    return replace(
        spec,
        document=document,
        shape=tuple(values.shape),
        copied=True,
        pieces=(),
        chunks=encoded_chunks(document, values),
    )


def unread(spec: ArraySpec, document: bytes, shape: Sequence[int]) -> ArraySpec:
    """Return what `copied` does, without values: for figures."""
    return replace(
        spec,
        document=with_shape(document, tuple(shape)),
        shape=tuple(shape),
        copied=True,
        pieces=(),
        chunks={},
    )


def merged_groups(given: list[tuple[str, list[GroupSpec]]]) -> tuple[list[GroupSpec], list[str]]:
    """Return the groups of several sources, the first's where they differ, and warnings.

    Parameters
    ----------
    given
        URL and groups of each source.
    """
    merged: dict[str, tuple[str, GroupSpec]] = {}
    noted = []
    for url, groups in given:
        for group in groups:
            first, earlier = merged.get(group.path, (url, group))
            if not earlier.from_source:
                merged[group.path] = (url, group)
                continue
            merged[group.path] = (first, earlier)
            attributes = [json.loads(one.document)["attributes"] for one in (earlier, group)]
            if group.from_source and attributes[0] != attributes[1]:
                names = sorted(
                    name
                    for name in {*attributes[0], *attributes[1]}
                    if attributes[0].get(name) != attributes[1].get(name)
                )
                noted.append(
                    f"group {group.path}: the attributes of {first} are kept; those of {url} "
                    f"differ in {', '.join(names)}"
                )
    # Parents before children.
    return [merged[path][1] for path in sorted(merged)], noted


def source_warnings(stores: Sequence[Store]) -> list[str]:
    """Return what is to be known of sources; patterns need to match in one of them only."""
    given = [store.metadata.warnings for store in stores]
    return [
        text
        for text in dict.fromkeys(text for texts in given for text in texts)
        if not text.startswith("no array matches") or all(text in texts for texts in given)
    ]
