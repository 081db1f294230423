"""Creates from sources: one, several that follow each other along a dimension, several merged.

What it returns is metadata, pieces and copied chunks; nothing has been listed.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import AlreadyExistsError, MismatchError, RegionError
from refreeze.planning.compatibility import (
    check_agreement,
    check_inherited_units,
    same_values,
    values_in_units,
)
from refreeze.planning.request import (
    Planned,
    copied_spec,
    merged_groups,
    placed,
    source_warnings,
    unread,
)
from refreeze.planning.source_slice import check_dimensions, cut, same_length

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from refreeze.metadata.region import SliceBounds
    from refreeze.metadata.specs import ArraySpec
    from refreeze.planning.request import Request
    from refreeze.planning.source_slice import Cut, Store

__all__ = ["check_continues", "cuts_by_path", "planned_create", "planned_overwrite"]


def planned_create(stores: Sequence[Store], request: Request) -> Planned:
    """Plan the arrays of sources that are not in the target.

    Raises
    ------
    RegionError
        The region or the dimension does not fit.
    MismatchError
        Sources that are to follow each other do not go together.
    AlreadyExistsError
        Sources that are to be merged have an array in common.
    """
    check_dimensions(stores, request.region)
    groups, noted = merged_groups([(store.url, store.metadata.groups) for store in stores])
    if request.concat_dim is not None:
        arrays, differing = _concatenated(stores, request, request.concat_dim)
    else:
        arrays, differing = _merged(stores, request), []
    return Planned(groups, arrays, [*source_warnings(stores), *noted, *differing])


def planned_overwrite(stores: Sequence[Store], request: Request) -> Planned:
    """Plan what `planned_create` does, in the place of what stands there."""
    planned = planned_create(stores, request)
    if not request.selective and any(store.is_group for store in stores):
        return replace(planned, replaced=(request.target_group,))
    return replace(planned, replaced=tuple(array.path for array in planned.arrays))


def cuts_by_path(
    stores: Sequence[Store], region: Mapping[str, SliceBounds], dimension: str
) -> list[dict[str, Cut]]:
    """Cut stores that follow each other along a dimension; all have the same arrays.

    Raises
    ------
    MismatchError
        A store lacks an array, or its arrays do not agree in their length.
    RegionError
        A store does not have the dimension, or the region would cut several along it.
    """
    if dimension in region and len(stores) > 1:
        raise RegionError(
            f"a region along {dimension} does not say which of the {len(stores)} sources it cuts",
            "leave it out, or ingest one source and append the others",
        )
    found = []
    for store in stores:
        check_dimensions([store], [dimension])
        cuts = {part.path: part for part in cut(store, region)}
        same_length(cuts.values(), dimension)
        found.append(cuts)
    for cuts, store in zip(found, stores, strict=True):
        for one, other, lacking in ((found[0], cuts, store), (cuts, found[0], stores[0])):
            for path in one:
                if path not in other:
                    raise MismatchError(
                        f"{lacking.url} has no array {path}",
                        f"sources along {dimension} have the same arrays; leave it out with "
                        f"--skip {path.rpartition('/')[2]}",
                    )
    return found


def check_continues(parts: Sequence[Cut], axis: int, dimension: str) -> None:
    """Refuse references of stores, other than the last, whose end is not that of a chunk.

    Raises
    ------
    MismatchError
        It names the store.
    """
    for part in parts[:-1]:
        length, chunk = part.shape[axis], max(part.spec.chunk_shape[axis], 1)
        if length % chunk:
            raise MismatchError(
                f"{part.where} has {length} elements along {dimension}, which is not a multiple "
                f"of its chunks' {chunk}; only the last source may end within a chunk",
                "put it last, or ingest it by itself",
            )


def _concatenated(
    stores: Sequence[Store], request: Request, dimension: str
) -> tuple[list[ArraySpec], list[str]]:
    found = cuts_by_path(stores, request.region, dimension)
    series = [[cuts[path] for cuts in found] for path in found[0]]
    noted = []
    # Everything is compared before the first value is read.
    for parts in series:
        noted += _check_series(parts, dimension)
    return [_joined(parts, dimension, figures_only=request.figures_only) for parts in series], noted


def _check_series(parts: list[Cut], dimension: str) -> list[str]:
    first, axis = parts[0], parts[0].axis(dimension)
    attributes = first.store.attributes(first.path)
    copied = _is_copied(parts, axis)
    if axis is not None and not copied:
        check_continues(parts, axis, dimension)
    noted = []
    for part in parts[1:]:
        shape = list(first.shape)
        if axis is not None and len(part.shape) > axis:
            shape[axis] = part.shape[axis]
        noted += check_agreement(
            part,
            first.document(),
            copied=copied,
            whose=first.store.url,
            shape=tuple(shape),
        )
        if not copied:
            check_inherited_units(part, attributes, whose=first.store.url)
    return noted


def _joined(parts: list[Cut], dimension: str, *, figures_only: bool) -> ArraySpec:
    """Return the array that cuts make one after another; the first where they do not have it."""
    first, axis = parts[0], parts[0].axis(dimension)
    copied = _is_copied(parts, axis)
    if axis is None:
        if copied and len(parts) > 1 and not figures_only:
            _check_equal(parts)
        return placed(first, figures_only=figures_only)
    if len(parts) == 1:
        return placed(first, figures_only=figures_only)
    if copied and figures_only:
        shape = list(first.shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        return unread(replace(first.spec, source=first.store.index), first.document(), shape)
    if copied:
        import numpy as np

        attributes = first.store.attributes(first.path)
        values = [values_in_units(part, attributes) for part in parts]
        spec = replace(first.spec, source=first.store.index)
        return copied_spec(spec, first.document(), np.concatenate(values, axis=axis))
    chunk = max(first.spec.chunk_shape[axis], 1)
    shape, pieces = list(first.shape), []
    shape[axis] = 0
    for part in parts:
        if part.shape[axis]:
            start = [0] * len(shape)
            start[axis] = shape[axis] // chunk
            pieces.append(part.piece(start))
        shape[axis] += part.shape[axis]
    return replace(
        first.spec,
        source=first.store.index,
        document=first.document(tuple(shape)),
        shape=tuple(shape),
        pieces=tuple(pieces),
    )


def _is_copied(parts: Sequence[Cut], axis: int | None) -> bool:
    """Whether a series is copied: as it is to be, or as a coordinate that cannot be referenced."""
    if any(part.copied for part in parts):
        return True
    if axis is None or not all(part.grid.coordinate for part in parts):
        return False
    chunks = {part.spec.chunk_shape for part in parts}
    (chunk, *others) = (shape[axis] for shape in chunks)
    return bool(others) or any(part.shape[axis] % max(chunk, 1) for part in parts[:-1])


def _check_equal(parts: Sequence[Cut]) -> None:
    first = parts[0]
    attributes = first.store.attributes(first.path)
    values: Any = first.values()
    for part in parts[1:]:
        if not same_values(values, values_in_units(part, attributes)):
            raise MismatchError(
                f"{part.where} has other values than that of {first.store.url}",
                "sources that follow each other have the same coordinates in other dimensions; "
                f"leave it out with --skip {part.path.rpartition('/')[2]}",
            )


def _merged(stores: Sequence[Store], request: Request) -> list[ArraySpec]:
    """Return the arrays of all sources; one that is in two of them is taken once if it is equal."""
    parts: dict[str, Cut] = {}
    for store in stores:
        wanted = {
            name: bounds
            for name, bounds in request.region.items()
            if any(name in grid.names for grid in store.grids)
        }
        for part in cut(store, wanted):
            earlier = parts.setdefault(part.path, part)
            if earlier is not part and not _equal(earlier, part, request):
                raise AlreadyExistsError(
                    f"array {part.path} is in {earlier.store.url} and, not equal to it, in "
                    f"{store.url}",
                    "leave one out with --skip, give sources that follow each other --concat-dim, "
                    "or ingest them into groups of their own (--target-group)",
                )
    groups = {group.path: store for store in stores for group in store.metadata.groups}
    for path, part in parts.items():
        if path in groups:
            raise AlreadyExistsError(
                f"{path} is an array in {part.store.url} and a group in {groups[path].url}",
                "leave one out with --skip",
            )
    return [placed(parts[path], figures_only=request.figures_only) for path in sorted(parts)]


def _equal(one: Cut, other: Cut, request: Request) -> bool:
    """Whether two arrays are copied, and the same in metadata and values."""
    if not (one.copied and other.copied):
        return False
    documents = [json.loads(part.document()) for part in (one, other)]
    if documents[0] != documents[1]:
        return False
    return request.figures_only or same_values(one.values(), other.values())
