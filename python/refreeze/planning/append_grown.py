"""Appends what a recorded source has grown by, or the stores that follow what the target holds.

Pieces are what the core lists; copied chunks are made here. What the target holds is never made
anew, but for a last chunk that was ragged.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import MismatchError, RegionError
from refreeze.metadata.chunk_codec import encoded_chunks, with_shape
from refreeze.planning.compatibility import check_agreement, same_values, values_in_units
from refreeze.planning.request import Planned
from refreeze.planning.source_slice import check_dimensions, chunks_of, cut, same_length
from refreeze.planning.target_arrays import Standing, check_region_of, located

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from refreeze.metadata.region import SliceBounds
    from refreeze.metadata.specs import ArraySpec
    from refreeze.planning.request import Request
    from refreeze.planning.source_slice import Cut, Store
    from refreeze.planning.target_arrays import Target

__all__ = ["beside", "grown_copy", "others_with", "planned_append", "spec_of"]

_COMPARED = 100
"""Chunks of a copied array whose values are compared with the source's at every append."""


def planned_append(store: Store, target: Target, request: Request, dimension: str) -> Planned:
    """Plan what a source has that the target has not, along a dimension.

    Raises
    ------
    TargetNotFoundError
        An array is not in the target.
    MismatchError
        The target is made of another source, or the source has changed in more than its length.
    RegionError
        The region does not begin where the target ends, or does not align.
    """
    check_dimensions([store], [dimension, *request.region])
    whole = cut(store, {})
    having = [part for part in whole if part.axis(dimension) is not None]
    length = same_length(having, dimension)
    others = [part for part in whole if part.axis(dimension) is None]
    standing = located(target, store, having, [part.axis(dimension) for part in having])
    noted = [*store.metadata.warnings, *_left_behind(whole, target, request, dimension)]
    for one in standing:
        noted += one.agreement()
    # Their chunks are not looked at, so where those come from does not matter.
    static = [
        Standing(part, target, copied=False, offset=beside(part, standing, request.region))
        for part in others
    ]
    for part in others:
        document = target.document(part.path)
        noted += check_agreement(part, document, copied=False, whose="the target", shape=part.shape)
    for one in [*standing, *static]:
        check_region_of(one, _elements(one.part, request.region), skip=dimension)
    stop = _stop(standing, request.region.get(dimension), length, dimension)
    arrays = []
    for one in standing:
        array, warnings = _appended(one, dimension, stop)
        noted += warnings
        arrays += [] if array is None else [array]
    base = target.snapshot_id
    if not arrays:
        url = store.url
        noted.append(
            f"nothing is new in {url}: the target has all {stop} elements along {dimension}"
        )
        looked_at = [replace(one.part.spec, shape=one.shape) for one in standing]
        return Planned([], looked_at, noted, base=base, nothing_new=True)
    return Planned([], arrays, noted, base=base)


def _left_behind(
    parts: Sequence[Cut], target: Target, request: Request, dimension: str
) -> list[str]:
    """Warn of arrays that have the dimension, beside those of the source, and stay as long."""
    if request.selective:
        return []
    return [
        f"array {path} of the target has {dimension} too, but is not in the source: it keeps its "
        "length"
        for path in others_with(target, request.target_group, dimension, parts)
    ]


def others_with(target: Target, group: str, dimension: str, parts: Sequence[Cut]) -> list[str]:
    """Return the arrays of a target's group that have a dimension and are not in a source."""
    below = group.rstrip("/") + "/"
    known = {part.path for part in parts}
    return [
        path
        for path, document in target.arrays.items()
        if path.startswith(below)
        and path not in known
        and dimension in (json.loads(document).get("dimension_names") or ())
    ]


def beside(
    part: Cut, standing: Sequence[Standing], region: Mapping[str, SliceBounds]
) -> tuple[int, ...]:
    """Return where an array begins in its source, by those beside it, or by the region."""
    known: dict[str, int] = {}
    for one in standing:
        known |= dict(zip(one.part.grid.names, one.offset, strict=True))
    named = _elements(part, region)
    return tuple(known.get(name, named.get(name, (0, 0))[0]) for name in part.grid.names)


def _elements(part: Cut, region: Mapping[str, SliceBounds]) -> dict[str, tuple[int, int]]:
    """Return what a region says of an array's dimensions, in elements; empty ones too."""
    from refreeze import _refreeze

    lengths = zip(part.grid.names, part.spec.shape, strict=True)
    return {
        name: _refreeze.slice_elements(name, length, region[name])
        for name, length in lengths
        if name in region
    }


def _stop(
    standing: Sequence[Standing], bounds: SliceBounds | None, length: int, dimension: str
) -> int:
    """Return the element of the source at which the target is to end.

    Raises
    ------
    RegionError
        The region does not begin at the recorded end, or ends where some array's chunks do not.
    MismatchError
        The source is shorter than what the target holds of it.
    """
    for one in standing:
        axis = one.part.grid.names.index(dimension)
        end = one.shape[axis] + one.offset[axis]
        if end > length:
            raise MismatchError(
                f"{one.part.where} has {length} elements along {dimension}, and the target holds "
                f"{end} of it: the source has shrunk",
                "nothing can be appended; --mode overwrite ingests it again",
            )
    if bounds is None:
        return length
    from refreeze import _refreeze

    start, stop = _refreeze.slice_elements(dimension, length, bounds)
    for one in standing:
        axis = one.part.grid.names.index(dimension)
        end = one.shape[axis] + one.offset[axis]
        if stop < end or (stop > end and bounds[0] is not None and start != end):
            raise RegionError(
                f"the region {dimension}={start}:{stop} does not begin where array {one.path} of "
                f"the target ends, at element {end} of the source",
                f"use {dimension}={end}:{max(stop, end + 1)}",
            )
        if stop > end and not one.copied and not one.part.grid.coordinate:
            # Ends on a chunk or at the array's end: the core judges that, and begins are chunks'.
            # A coordinate's chunk may hold more than the target shows of it.
            chunk = one.chunk_shape[axis]
            chunks_of(one.part.spec, {dimension: (end // chunk * chunk, stop, None)})
    return stop


def _appended(one: Standing, dimension: str, stop: int) -> tuple[ArraySpec | None, list[str]]:
    """Return the array grown to an element of the source, None where it ends there already."""
    axis = one.part.grid.names.index(dimension)
    offset, old = one.offset[axis], one.shape[axis]
    new = stop - offset
    if new == old:
        return None, []
    shape = tuple(new if place == axis else size for place, size in enumerate(one.shape))
    if one.copied:
        box = [(first, first + size) for first, size in zip(one.offset, shape, strict=True)]
        # What the store before this one has brought is not in it. Old values are only compared:
        # where they are in many chunks, and none of those is ragged, they are not read.
        begin = max(offset, 0)
        chunk = one.chunk_shape[axis]
        if one.is_known and old % chunk == 0 and old > _COMPARED * chunk:
            begin = old + offset
        box[axis] = (begin, stop)
        values = values_in_units(replace(one.part, elements=tuple(box)), one.attributes)
        spec, differ = grown_copy(one, axis, shape, values, begin - offset)
        if differ and not one.is_known:
            raise MismatchError(
                f"{one.part.where} does not begin with the values that the target holds, and no "
                "reference tells where those are in the source",
                "append it together with arrays that are referenced, or ingest it again "
                "(--mode overwrite)",
            )
        return spec, [
            f"{one.part.where} has other values than the target holds of it; those are kept"
        ] * differ
    one.check_growth(axis)
    chunk = one.chunk_shape[axis]
    shift = one.shift()
    target = [
        (0, -(-size // size_of)) for size, size_of in zip(shape, one.chunk_shape, strict=True)
    ]
    target[axis] = (old // chunk, -(-new // chunk))
    piece = replace(one.part.piece([0] * len(shape)), target=tuple(target), shift=shift)
    return spec_of(one, shape, pieces=(piece,)), []


def grown_copy(
    one: Standing, axis: int, shape: tuple[int, ...], values: Any, begin: int
) -> tuple[ArraySpec, bool]:
    """Return a copied array that is longer along an axis, and whether old values differ.

    Only chunks from the last old one on are written.

    Parameters
    ----------
    values
        Of the source, from element ``begin`` of the target on: old ones are only compared.
    """
    import numpy as np

    old, chunk = one.shape[axis], one.chunk_shape[axis]
    differ, written = False, _along(values, axis, max(old - begin, 0), None)
    if begin < old:
        overlap = _along(values, axis, 0, old - begin)
        differ = not same_values(overlap, _along(one.values, axis, begin, old))
    kept = old // chunk * chunk
    if kept < old:
        written = np.concatenate([_along(one.values, axis, kept, old), written], axis=axis)
    encoded = encoded_chunks(with_shape(one.document, written.shape), written)
    first = kept // chunk
    moved = {
        tuple(at + first * (place == axis) for place, at in enumerate(coordinates)): chunk_bytes
        for coordinates, chunk_bytes in encoded.items()
    }
    # A chunk that now holds nothing but the fill value is none.
    ragged = one.chunks if kept < old else {}
    gone = {at: b"" for at in ragged if at[axis] >= first and at not in moved}
    return spec_of(one, shape, pieces=(), chunks=moved | gone), differ


def spec_of(one: Standing, shape: tuple[int, ...], **fields: Any) -> ArraySpec:
    """Return the array of the target with a new shape; its metadata is the target's."""
    return replace(
        one.part.spec,
        source=one.part.store.index,
        document=with_shape(one.document, shape),
        shape=shape,
        chunk_shape=one.chunk_shape,
        copied=one.copied,
        **fields,
    )


def _along(values: Any, axis: int, start: int, stop: int | None) -> Any:
    return values[(slice(None),) * axis + (slice(start, stop),)]
