"""Makes arrays of the target equal to their sources as they are now: ``sync``.

All references are listed again by the core, which writes what differs. Documents, copied chunks,
and which arrays there are, are settled here; what cannot be fixed in place is refused.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import MismatchError
from refreeze.metadata.chunk_codec import encoded_chunks, with_shape
from refreeze.metadata.time_units import TIME_ATTRIBUTES
from refreeze.planning.compatibility import check_agreement, same_values, values_in_units
from refreeze.planning.counterparts import (
    counterparts,
    covers,
    extras,
    field_differences,
    gone_from_sources,
)
from refreeze.planning.listing_age import check_listing_age
from refreeze.planning.request import Planned, merged_groups, placed
from refreeze.planning.source_slice import check_dimensions, cut

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from refreeze.metadata.region import SliceBounds
    from refreeze.metadata.selection import Selection
    from refreeze.metadata.specs import ArraySpec, GroupSpec
    from refreeze.planning.source_slice import Cut, Store
    from refreeze.planning.target_arrays import Standing, Target

__all__ = ["planned_sync"]

_OVERWRITE = (
    "ingest it again in its place (refreeze ingest --mode overwrite), or leave it out (--skip)"
)


def planned_sync(
    stores: Sequence[Store],
    target: Target,
    region: Mapping[str, SliceBounds],
    selection: Selection,
    *,
    new_arrays: str,
    remove_arrays: bool,
) -> Planned:
    """Plan what makes a target equal to sources.

    Raises
    ------
    TargetNotFoundError
        The target has none of the arrays.
    MismatchError
        The target is of another source; arrays have come or gone and nothing says what to do; or an
        array has changed in more than a sync can fix.
    RegionError
        The region does not align, is empty, or names a dimension that no array has.
    ListingError
        The target is younger than the listing that the sources' keys come from.
    """
    check_listing_age(stores, lambda: target)
    check_dimensions(stores, region)
    noted = [text for store in stores for text in store.metadata.warnings]
    by_path: dict[str, list[Standing]] = {}
    new: list[Cut] = []
    follows = False
    for store in stores:
        known = {name for grid in store.grids for name in grid.names}
        bounds = {name: part for name, part in region.items() if name in known}
        found = counterparts(target, store, cut(store, bounds))
        follows |= found.follows and len(stores) == 1
        for part, what in found.other:
            raise MismatchError(
                f"{part.where} cannot take the place of that of the target: {what}", _OVERWRITE
            )
        new += found.new
        for one in found.standing:
            if one.path not in found.elsewhere or not (found.follows or one.path in by_path):
                by_path.setdefault(one.path, []).append(one)
                _check_fields(one, follows=found.follows)
    arrays = []
    for series in by_path.values():
        spec = _synced(series, region)
        arrays += [] if spec is None else [spec]
    added = _added(new, new_arrays, noted)
    beside = [] if region else extras(target, stores, selection)
    removed = _removed(beside, target, remove_arrays=remove_arrays)
    groups: list[GroupSpec] = []
    whole = not (selection.arrays or selection.skip_variables or region or follows)
    if whole and not any(one.kind == "elsewhere" for one in beside):
        groups = _changed_groups(stores, target)
    if added:
        groups = _missing_groups(stores, target, groups, added)
    return Planned(
        groups,
        [*arrays, *added],
        noted,
        base=target.snapshot_id,
        replaced=removed,
        added=tuple(spec.path for spec in added),
        nothing_new=not (groups or arrays or added or removed),
    )


def _check_fields(one: Standing, *, follows: bool) -> None:
    """Refuse what makes another array of it."""
    for name, (source, target) in field_differences(one, follows=follows).items():
        if not name.startswith("attributes."):
            raise MismatchError(
                f"{one.part.where} has another {name} than that of the target: "
                f"{json.dumps(source)}, not {json.dumps(target)}",
                _OVERWRITE,
            )
    if not covers(one):
        # What others have brought means what its attributes say.
        check_agreement(
            one.part, one.document, copied=one.copied, whose="the target", shape=one.part.shape
        )


def _shape(series: Sequence[Standing], region: Mapping[str, SliceBounds]) -> tuple[int, ...]:
    """Return the shape that an array gets; it may grow along one dimension.

    Raises
    ------
    MismatchError
        It has changed otherwise.
    """
    first = series[0]
    shape = list(first.shape)
    grown = []
    for axis, name in enumerate(first.part.grid.names):
        if name in region:
            continue
        end = max(one.part.spec.shape[axis] - one.offset[axis] for one in series)
        if any(one.offset[axis] > 0 for one in series):
            first.check_extent(axis)
        elif end > shape[axis]:
            grown.append(name)
            shape[axis] = end
        elif end < shape[axis] and _is_the_last(series, axis):
            raise MismatchError(
                f"{first.part.where} has shrunk along {name}: the target holds {shape[axis]} "
                f"elements, of which the source has {end}",
                _OVERWRITE,
            )
    if len(grown) > 1:
        raise MismatchError(
            f"{first.part.where} has grown along {' and '.join(grown)}: a sync follows along one "
            "dimension",
            _OVERWRITE,
        )
    return tuple(shape)


def _is_the_last(series: Sequence[Standing], axis: int) -> bool:
    """Whether what is furthest along an axis is of the sources, so that nothing else follows."""
    first = series[0]
    if first.copied:
        return all(one.offset[axis] == 0 for one in series) and not _others_follow(first, axis)
    for one in series:
        (origin,) = first.target.origins(one.part.store, [one.part.spec], [axis])
        if origin.kind != "elsewhere":
            return True
    return False


def _others_follow(one: Standing, axis: int) -> bool:
    """Whether an array with references, beside a copied one, tells that another source follows."""
    name = one.part.grid.names[axis]
    for part in cut(one.part.store, {}):
        along = part.axis(name)
        if along is None or part.copied or part.path not in one.target.arrays:
            continue
        (origin,) = one.target.origins(one.part.store, [part.spec], [along])
        if origin.kind == "elsewhere":
            return True
    return False


def _synced(series: Sequence[Standing], region: Mapping[str, SliceBounds]) -> ArraySpec | None:
    first = series[0]
    shape = _shape(series, region)
    for axis, (before, now) in enumerate(zip(first.shape, shape, strict=True)):
        if now > before:
            first.check_growth(axis)
    document = with_shape(_document(first, series), shape)
    if first.copied:
        chunks = _copied(series, document, shape)
        if not chunks and json.loads(document) == json.loads(first.document):
            return None
    pieces = []
    for one in () if first.copied else series:
        shift = one.shift()
        box = tuple(
            (max(start - by, 0), min(stop - by, -(-size // chunk)))
            for (start, stop), by, size, chunk in zip(
                one.part.chunks, shift, shape, one.chunk_shape, strict=True
            )
        )
        if all(start < stop for start, stop in box):
            piece = one.part.piece([0] * len(box))
            pieces.append(replace(piece, target=box, shift=shift))
    return replace(
        first.part.spec,
        source=first.part.store.index,
        document=document,
        shape=shape,
        chunk_shape=first.chunk_shape,
        copied=first.copied,
        pieces=tuple(pieces),
        chunks=chunks if first.copied else None,
    )


def _document(first: Standing, series: Sequence[Standing]) -> bytes:
    """Return the target's document with the attributes of the source that gave them."""
    giver = next((one for one in series if not any(by < 0 for by in one.offset)), None)
    if giver is None:
        return first.document
    document = json.loads(first.document)
    here = dict(json.loads(giver.part.spec.document).get("attributes", {}))
    if first.copied and not covers(giver):
        for name in TIME_ATTRIBUTES:
            here.pop(name, None)
            if name in document["attributes"]:
                here[name] = document["attributes"][name]
    if document.get("attributes", {}) == here:
        return first.document
    return json.dumps(document | {"attributes": here}).encode()


def _copied(
    series: Sequence[Standing], document: bytes, shape: tuple[int, ...]
) -> dict[tuple[int, ...], bytes]:
    """Return the chunks of a copied array that are to be written; without bytes, removed."""
    import numpy as np

    first = series[0]
    before = first.values
    overlap = tuple(slice(0, size) for size in before.shape)
    now = np.zeros(shape, before.dtype)
    now[overlap] = before
    for one in series:
        values = one.part.values() if covers(one) else values_in_units(one.part, one.attributes)
        place = tuple(
            slice(start - offset, stop - offset)
            for (start, stop), offset in zip(one.part.elements, one.offset, strict=True)
        )
        now[place] = values
    encoded = encoded_chunks(document, now)
    grid = [range(-(-size // n)) for size, n in zip(shape, first.chunk_shape, strict=True)]
    found = {}
    for at in itertools.product(*grid):
        place = tuple(
            slice(index * n, (index + 1) * n)
            for index, n in zip(at, first.chunk_shape, strict=True)
        )
        if same_values(now[place], before[place]):
            continue
        if at in encoded or at in first.chunks:
            found[at] = encoded.get(at, b"")
    return found


def _added(new: Sequence[Cut], policy: str, noted: list[str]) -> list[ArraySpec]:
    """Return the arrays to create."""
    if not new:
        return []
    names = ", ".join(part.path for part in new[:3])
    if policy == "error":
        raise MismatchError(
            f"{new[0].store.url} has {len(new)} arrays that the target does not have, such as {names}",
            "add them with --new-arrays add, or leave them out with --new-arrays ignore",
        )
    if policy == "ignore":
        noted.append(f"{len(new)} new arrays were left out (--new-arrays ignore), such as {names}")
        return []
    return [placed(part) for part in {part.path: part for part in reversed(new)}.values()]


def _removed(beside: Sequence[Any], target: Target, *, remove_arrays: bool) -> tuple[str, ...]:
    """Return the arrays to remove."""
    gone = [one.path for one in gone_from_sources(beside)]
    if gone and not remove_arrays:
        raise MismatchError(
            f"{target.url} has {len(gone)} arrays that are gone from the source, such as "
            f"{', '.join(gone[:3])}",
            "remove them with --remove-arrays, or leave them alone with --skip",
        )
    return tuple(gone)


def _changed_groups(stores: Sequence[Store], target: Target) -> list[GroupSpec]:
    groups, _ = merged_groups([(store.url, store.metadata.groups) for store in stores])
    return [
        group
        for group in groups
        if group.from_source
        and (
            group.path not in target.nodes
            or json.loads(target.nodes[group.path]).get("attributes", {})
            != json.loads(group.document).get("attributes", {})
        )
    ]


def _missing_groups(
    stores: Sequence[Store], target: Target, groups: list[GroupSpec], added: Sequence[ArraySpec]
) -> list[GroupSpec]:
    """Add the groups that new arrays need."""
    there = {group.path for group in groups}
    every, _ = merged_groups([(store.url, store.metadata.groups) for store in stores])
    needed = [
        group
        for group in every
        if group.path not in target.nodes
        and group.path not in there
        and any(spec.path.startswith(group.path.rstrip("/") + "/") for spec in added)
    ]
    return sorted([*groups, *needed], key=lambda group: group.path)
