"""Makes a region of the target equal to the source again: ``update``.

What the core lists anew are boxes of chunks; of copied arrays, the chunks that differ are written.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import MismatchError
from refreeze.metadata.chunk_codec import encoded_chunks
from refreeze.planning.append_grown import beside, spec_of
from refreeze.planning.compatibility import same_values, values_in_units
from refreeze.planning.request import Planned
from refreeze.planning.source_slice import check_dimensions, chunks_of, cut, elements_of
from refreeze.planning.target_arrays import Standing, located

if TYPE_CHECKING:
    from collections.abc import Mapping

    from refreeze.metadata.region import SliceBounds
    from refreeze.metadata.specs import ArraySpec
    from refreeze.planning.request import Request
    from refreeze.planning.source_slice import Box, Cut, Store
    from refreeze.planning.target_arrays import Target

__all__ = ["planned_update"]


def planned_update(store: Store, target: Target, request: Request) -> Planned:
    """Plan the part of every array that a region names; arrays without its dimensions are whole.

    Raises
    ------
    TargetNotFoundError
        An array is not in the target.
    MismatchError
        The target is made of another source, does not hold the region, or differs in metadata.
    RegionError
        The region does not align, is empty, or names a dimension that no array has.
    """
    check_dimensions([store], request.region)
    parts = cut(store, {})
    for part in parts:
        target.document(part.path)
    concerned = [part for part in parts if set(part.grid.names) & set(request.region)]
    others = [part for part in parts if part not in concerned]
    standing = located(target, store, concerned, [None] * len(concerned))
    noted = list(store.metadata.warnings)
    for part in others:
        try:
            standing += located(target, store, [part], [None])
        except MismatchError:
            # Of stores that follow each other, the first has brought it; or it is another array,
            # which the check of metadata below refuses.
            offset = beside(part, standing, {})
            standing.append(Standing(part, target, copied=False, offset=offset))
            noted.append(
                f"{part.where} replaces one that came from another source; leave it "
                f"out with --skip {part.path.rpartition('/')[2]} to keep that"
            )
    for one in standing:
        noted += one.agreement()
    arrays = []
    for one in standing:
        bounds = {
            name: part for name, part in request.region.items() if name in one.part.grid.names
        }
        spec = _updated(one, bounds)
        arrays += [] if spec is None else [spec]
    if not arrays:
        noted.append(f"nothing has changed in {store.url}")
        looked_at = [replace(one.part.spec, shape=one.shape) for one in standing]
        return Planned([], looked_at, noted, base=target.snapshot_id, nothing_new=True)
    return Planned([], arrays, noted, base=target.snapshot_id)


def _updated(one: Standing, bounds: Mapping[str, SliceBounds]) -> ArraySpec | None:
    elements = _in_target(one, bounds)
    if one.copied:
        return _copy_updated(one, elements)
    # Where the source has grown, the target's ragged end is a legal end of the region.
    ends = [
        min(length, size + offset)
        for length, size, offset in zip(one.part.spec.shape, one.shape, one.offset, strict=True)
    ]
    shift = one.shift()
    spec = replace(one.part.spec, shape=tuple(ends))
    box = chunks_of(spec, _whole_from(one, bounds, outward=one.part.grid.coordinate))
    target = tuple((start - by, stop - by) for (start, stop), by in zip(box, shift, strict=True))
    piece = replace(one.part.piece([0] * len(target)), target=target, shift=shift)
    return spec_of(one, one.shape, pieces=(piece,))


def _in_target(one: Standing, bounds: Mapping[str, SliceBounds]) -> Box:
    """Return the region in elements of the target.

    Raises
    ------
    MismatchError
        The target does not hold it.
    """
    found = []
    wanted = elements_of(one.part.grid, bounds)
    for axis, name in enumerate(one.part.grid.names):
        size, offset = one.shape[axis], one.offset[axis]
        if name not in bounds:
            one.check_extent(axis)
            found.append((0, size))
            continue
        start, stop = (element - offset for element in wanted[axis])
        if stop > size:
            raise MismatchError(
                f"the region {name}={start + offset}:{stop + offset} goes beyond what array "
                f"{one.path} of the target holds, which ends at element {size + offset} of the "
                "source",
                f"append first (--mode append --append-dim {name}), or end at {size + offset}",
            )
        if start < 0:
            raise MismatchError(
                f"the region {name}={start + offset}:{stop + offset} begins before what array "
                f"{one.path} of the target holds, which begins at element {offset} of the source",
                f"begin at {offset}",
            )
        found.append((start, stop))
    return tuple(found)


def _whole_from(
    one: Standing, bounds: Mapping[str, SliceBounds], *, outward: bool
) -> dict[str, SliceBounds]:
    """Return a region in the source, with what the target holds of the dimensions not named.

    ``outward``: chunks are taken whole, since coordinates need not align.
    """
    whole: dict[str, SliceBounds] = {
        name: (offset, offset + size, None)
        for name, offset, size in zip(one.part.grid.names, one.offset, one.shape, strict=True)
        if offset
    }
    resolved = elements_of(one.part.grid, bounds)
    for axis, name in enumerate(one.part.grid.names):
        if name in bounds:
            (start, stop), chunk = resolved[axis], one.chunk_shape[axis] if outward else 1
            whole[name] = (start // chunk * chunk, -(-stop // chunk) * chunk, None)
    return whole


def _copy_updated(one: Standing, box: Box) -> ArraySpec | None:
    """Return the chunks of a copied array that differ from the source; None without any."""
    source = tuple(
        (start + offset, stop + offset)
        for (start, stop), offset in zip(box, one.offset, strict=True)
    )
    values = values_in_units(_part(one.part, source), one.attributes)
    place = tuple(slice(*bounds) for bounds in box)
    if same_values(one.values[place], values):
        return None
    changed = one.values.copy()
    changed[place] = values
    encoded = encoded_chunks(one.document, changed)
    chunks = {
        at: encoded.get(at, b"")
        for at in _grid(one)
        if (at in encoded or at in one.chunks) and not _same_chunk(one, changed, at)
    }
    return spec_of(one, one.shape, pieces=(), chunks=chunks)


def _part(part: Cut, elements: Box) -> Cut:
    return replace(part, elements=elements)


def _grid(one: Standing) -> itertools.product[tuple[int, ...]]:
    return itertools.product(
        *(range(-(-size // chunk)) for size, chunk in zip(one.shape, one.chunk_shape, strict=True))
    )


def _same_chunk(one: Standing, changed: Any, at: tuple[int, ...]) -> bool:
    place = tuple(
        slice(index * chunk, (index + 1) * chunk)
        for index, chunk in zip(at, one.chunk_shape, strict=True)
    )
    return same_values(one.values[place], changed[place])
