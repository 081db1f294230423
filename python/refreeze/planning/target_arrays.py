"""Arrays that are in the target already: how a source's chunks relate to them.

Reads the target through the core; decides where a source's elements are in it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from refreeze.exceptions import MismatchError, TargetError, TargetNotFoundError
from refreeze.metadata.chunk_codec import check_chunk, decoded_values
from refreeze.planning.compatibility import check_agreement, check_inherited_units
from refreeze.planning.source_slice import attributes_of
from refreeze.stores.reading_errors import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from refreeze.metadata.specs import ArraySpec
    from refreeze.planning.source_slice import Cut, Store

_ATTEMPTS = 3
_MOST_VALUES = 1 << 23
"""Elements of an array that is read at once because it is all native, although it was not selected
for copying."""

__all__ = [
    "Origin",
    "Standing",
    "Target",
    "check_region_of",
    "is_by_value",
    "located",
    "other_source",
    "siblings_offset",
]


class Origin(NamedTuple):
    """What an array of a target is made of, asked about a source."""

    kind: str
    """``virtual``: references to the source; ``elsewhere``: to others; ``native`` chunks; ``empty``."""
    shift: tuple[int, ...] | None
    """Of a virtual one: chunk coordinates in the source minus those in the target."""
    source: str | None
    """URL of another source."""


def is_by_value(part: Cut, origin: Origin) -> bool:
    """Whether an array of a target is compared and changed by its values, read at once.

    Large ones whose references have been copied are not: of these the lengths of chunks are
    compared, and native chunks stay as they are.
    """
    if origin.kind == "native":
        return part.copied or part.grid.coordinate or math.prod(part.spec.shape) <= _MOST_VALUES
    return origin.kind == "empty" and part.copied


def other_source(part: Cut, origin: Origin) -> MismatchError:
    """Return the error for an array that is made of another source than the one given."""
    return MismatchError(
        f"array {part.path} was ingested from {origin.source}, not from {part.store.url}",
        "give the source that it came from; --concat-dim continues with another one",
    )


class Target:
    """A branch of a repository, as it was when it was first looked at.

    Parameters
    ----------
    location
        As `refreeze.stores.resolve.resolve_target` gives it.
    branch
        The branch.
    """

    def __init__(self, location: Any, branch: str) -> None:
        from refreeze import _refreeze

        self.url = str(location.url)
        """For messages."""
        self.branch = branch
        self._opened = _refreeze.open_target(location, branch=branch)
        self.snapshot_id = self._opened.snapshot_id
        self.nodes = self._opened.nodes

    @cached_property
    def arrays(self) -> dict[str, bytes]:
        """Metadata documents of the arrays."""
        return {
            path: document
            for path, document in self.nodes.items()
            if json.loads(document).get("node_type") == "array"
        }

    def document(self, path: str) -> bytes:
        """Return the metadata document of an array.

        Raises
        ------
        TargetNotFoundError
            It is not there.
        """
        if path not in self.arrays:
            raise TargetNotFoundError(
                f"there is no array {path} in {self.url}, branch {self.branch}",
                "ingest it by mode create first, or leave it out with --skip; --target-group names "
                "the group that the arrays are in",
            )
        return self.arrays[path]

    def attributes(self, path: str) -> dict[str, Any]:
        """Return an array's attributes; see `refreeze.planning.source_slice.attributes_of`."""
        return attributes_of(self.arrays, path)

    def chunks(self, path: str) -> dict[tuple[int, ...], bytes]:
        """Return the native chunks of an array; `MismatchError` when it has virtual ones."""
        return self._opened.chunks(path)

    def native_in(self, path: str, region: Sequence[tuple[int, int]]) -> tuple[int, ...] | None:
        """Return the coordinates of a native chunk within a box of the grid, if there is one."""
        return self._opened.native_in(path, region=region)

    def told_of(self) -> list[tuple[str, int, bool, int]]:
        """Tell as of when the branch's commits are; see ``_refreeze.OpenedTarget``."""
        return self._opened.told_of()

    def origins(
        self, store: Store, arrays: Sequence[ArraySpec], axes: Sequence[int | None]
    ) -> list[Origin]:
        """Tell where in a store the references of arrays lie; see ``_refreeze.OpenedTarget``."""
        source = store.source
        found = self._opened.origins(source.store, source.path, arrays=arrays, axes=axes)
        return [Origin(*one) for one in found]


@dataclass(frozen=True)
class Standing:
    """An array of a source, and the same in the target."""

    part: Cut
    target: Target
    copied: bool
    """Its chunks in the target are copied ones."""
    offset: tuple[int, ...]
    """Element in the source minus that in the target, along each dimension."""
    is_known: bool = True
    """Whether a reference tells the offset, of this array or of one beside it."""

    @property
    def path(self) -> str:
        """Path in the target."""
        return self.part.path

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape in the target."""
        return tuple(json.loads(self.document)["shape"])

    @cached_property
    def document(self) -> bytes:
        """Metadata document in the target."""
        return self.target.document(self.path)

    @cached_property
    def chunk_shape(self) -> tuple[int, ...]:
        """Elements of a stored chunk in the target; equal to the source's unless copied."""
        grid = json.loads(self.document)["chunk_grid"]["configuration"]["chunk_shape"]
        return tuple(max(chunk, 1) for chunk in grid)

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """Attributes in the target, with those that it inherits."""
        return self.target.attributes(self.path)

    @cached_property
    def chunks(self) -> dict[tuple[int, ...], bytes]:
        """The native chunks in the target."""
        return self.target.chunks(self.path)

    @cached_property
    def values(self) -> Any:
        """What the native chunks hold, as stored."""
        chunks = self.chunks
        for _ in range(_ATTEMPTS):
            try:
                return decoded_values(self.document, chunks)
            except Exception as error:  # noqa: BLE001 whatever a codec raises of bytes that are wrong
                failure = error
            chunks = self.target.chunks(self.path)
        for at, chunk in chunks.items():
            try:
                check_chunk(self.document, chunk)
            except Exception as error:
                raise self._undecodable(f"chunk {list(at)} of ", error) from error
        raise self._undecodable("", failure) from failure

    def _undecodable(self, chunk: str, error: Exception) -> TargetError:
        return TargetError(
            f"{chunk}array {self.path} in {self.target.url} cannot be decoded: "
            f"{type(error).__name__}: {one_line(error)}",
            "the repository's file is damaged, or its codec is not installed",
        )

    def agreement(self) -> list[str]:
        """Check metadata but for lengths; return harmless differences."""
        if not self.copied:
            check_inherited_units(self.part, self.attributes, whose="the target")
        return check_agreement(
            self.part,
            self.document,
            copied=self.copied,
            whose="the target",
            shape=self.part.shape,
        )

    def shift(self) -> tuple[int, ...]:
        """Return the offset in chunks.

        Raises
        ------
        MismatchError
            It is not a multiple of the chunks.
        """
        sizes = list(zip(self.offset, self.chunk_shape, strict=True))
        if any(offset % chunk for offset, chunk in sizes):
            raise MismatchError(
                f"{self.part.where} begins within a chunk of the target's: by the arrays beside "
                f"it, element {list(self.offset)} of it is the target's first",
                "leave it out with --skip",
            )
        return tuple(offset // chunk for offset, chunk in sizes)

    def check_growth(self, axis: int) -> None:
        """Refuse to grow along an axis where that changes a chunk which is native.

        Raises
        ------
        MismatchError
            The last chunks are ragged, and one of them is a native chunk: a copy, or what somebody
            has written, that lacks what the source's has now.
        """
        chunk = self.chunk_shape[axis]
        last = self.shape[axis] // chunk
        if self.copied or self.shape[axis] % chunk == 0:
            return
        box = [(0, -(-size // n)) for size, n in zip(self.shape, self.chunk_shape, strict=True)]
        box[axis] = (last, last + 1)
        at = self.target.native_in(self.path, box)
        if at is not None:
            raise MismatchError(
                f"chunk {list(at)} of array {self.path} in {self.target.url} is a native one, and "
                f"the source's has grown along {self.part.grid.names[axis]}",
                "ingest the array again (--mode overwrite, then refreeze copy), or leave it out "
                "(--skip)",
            )

    def check_extent(self, axis: int) -> None:
        """Refuse a dimension that is to be as it stands, but is another in the source.

        Raises
        ------
        MismatchError
            It is shorter; or longer, although the target was not made of a part of it.
        """
        name = self.part.grid.names[axis]
        length, offset = self.part.spec.shape[axis], self.offset[axis]
        fits = offset >= 0 and offset + self.shape[axis] <= length
        if fits and (offset != 0 or length == self.shape[axis]):
            return
        raise MismatchError(
            f"{self.part.where} has {length} elements along {name}, that of the target has "
            f"{self.shape[axis]}"
            + (f", which begin at element {offset} of the source" if offset else ""),
            f"if the target holds a part of it, name that part: --region {name}=START:STOP",
        )


def located(
    target: Target, store: Store, parts: Sequence[Cut], axes: Sequence[int | None]
) -> list[Standing]:
    """Find out where in a source the arrays of a target begin.

    Parameters
    ----------
    axes
        For each array the axis along whose end to look for a reference, or None: any.

    Raises
    ------
    TargetNotFoundError
        An array is not in the target.
    MismatchError
        An array is made of another source, or its metadata does not agree.
    """
    for part in parts:
        # Without this, what has become another array would be said to be another source's.
        check_agreement(
            part,
            target.document(part.path),
            copied=part.copied or part.grid.coordinate,
            whose="the target",
            shape=part.shape,
        )
    found = _origins(target, store, parts, axes)
    offsets = [_offset(part, one.shift) for part, one in zip(parts, found, strict=True)]
    standing = []
    for part, origin, own in zip(parts, found, offsets, strict=True):
        copied = is_by_value(part, origin)
        if own is not None:
            standing.append(Standing(part, target, copied, own))
            continue
        offset, is_known = siblings_offset(part, parts, offsets)
        # The coordinate of a region is carried by native chunks when it begins within one.
        sizes = zip(offset, part.spec.chunk_shape, strict=True)
        misaligned = any(start % max(chunk, 1) for start, chunk in sizes)
        copied = copied or (part.grid.coordinate and misaligned)
        standing.append(Standing(part, target, copied, offset, is_known))
    return standing


def _origins(
    target: Target, store: Store, parts: Sequence[Cut], axes: Sequence[int | None]
) -> list[Origin]:
    """Return what references tell of arrays; those beside one that has lost all of a source's count.

    An array may have no reference left of this source, but others of another one: that is no
    contradiction when arrays beside it have some of this source, and, where the end is looked at,
    this source follows another there.
    """
    found = target.origins(store, [part.spec for part in parts], axes)
    for at, (part, one, axis) in enumerate(zip(parts, found, axes, strict=True)):
        if one.kind == "native" and axis is not None:
            # What is furthest along it was copied; what comes before may be references.
            (found[at],) = target.origins(store, [part.spec], [None])
    others = [
        other_source(part, one)
        for part, one in zip(parts, found, strict=True)
        if one.kind == "elsewhere"
    ]
    follows = any(
        one.shift is not None and (axis is None or one.shift[axis] < 0)
        for one, axis in zip(found, axes, strict=True)
    )
    if others and not follows:
        raise others[0]
    return [one if one.kind != "elsewhere" else Origin("empty", None, None) for one in found]


def _offset(part: Cut, shift: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if shift is None:
        return None
    return tuple(
        chunks * max(chunk, 1) for chunks, chunk in zip(shift, part.spec.chunk_shape, strict=True)
    )


def siblings_offset(
    part: Cut, parts: Sequence[Cut], offsets: Sequence[tuple[int, ...] | None]
) -> tuple[tuple[int, ...], bool]:
    """Return the offset along each dimension that the arrays with references have, if they do.

    Raises
    ------
    MismatchError
        They do not agree.
    """
    known: dict[str, tuple[int, Cut]] = {}
    for other, offset in zip(parts, offsets, strict=True):
        for name, elements in zip(other.grid.names, offset or (), strict=False):
            first, whose = known.setdefault(name, (elements, other))
            if first != elements and name in part.grid.names:
                raise MismatchError(
                    f"{part.where} is copied, and where it begins is not known: along {name} the "
                    f"target begins at element {first} for {whose.path}, at {elements} for "
                    f"{other.path}",
                    "append one of them at a time: --array",
                )
    names = part.grid.names
    offset = tuple(known[name][0] if name in known else 0 for name in names)
    return offset, all(name in known for name in names)


def check_region_of(standing: Standing, region: Mapping[str, tuple[int, int]], skip: str) -> None:
    """Check the dimensions of a region, other than one, against what the target holds of them."""
    for axis, name in enumerate(standing.part.grid.names):
        if name == skip:
            continue
        if name not in region:
            standing.check_extent(axis)
            continue
        start, stop = region[name]
        first = standing.offset[axis]
        if (start, stop) != (first, first + standing.shape[axis]):
            raise MismatchError(
                f"{standing.part.where}: the region {name}={start}:{stop} is not what the target "
                f"holds of it, {name}={first}:{first + standing.shape[axis]}",
                "give that, or leave it out",
            )
