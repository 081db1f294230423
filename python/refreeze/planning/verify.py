"""What is compared of each array by ``verify``: boxes for the core, and here metadata and values.

Nothing is listed here. What depends on whose references lie beyond a source is left until the core
has told.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import MismatchError
from refreeze.metadata.chunk_codec import with_shape
from refreeze.planning.compatibility import same_values, values_in_units
from refreeze.planning.counterparts import (
    counterparts,
    covers,
    extras,
    field_differences,
    gone_from_sources,
)
from refreeze.planning.listing_age import older_listing
from refreeze.planning.request import merged_groups
from refreeze.planning.source_slice import check_dimensions, cut

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from refreeze.metadata.region import SliceBounds
    from refreeze.metadata.selection import Selection
    from refreeze.metadata.specs import ArraySpec
    from refreeze.planning.counterparts import Gone
    from refreeze.planning.source_slice import Cut, Store
    from refreeze.planning.target_arrays import Standing, Target

__all__ = ["Difference", "ToCompare", "planned_verify"]


@dataclass(frozen=True)
class Difference:
    """One difference of metadata or of a copied chunk, in the form of those that the core finds."""

    array: str
    kind: str
    source: Any
    target: Any
    coordinates: tuple[int, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        at = None if self.coordinates is None else list(self.coordinates)
        return {
            "array": self.array,
            "coordinates": at,
            "kind": self.kind,
            "source": self.source,
            "target": self.target,
        }


@dataclass
class ToCompare:
    """What the core compares, and what has been compared already."""

    arrays: list[ArraySpec] = field(default_factory=list)
    compared: list[tuple[tuple[int, int], ...]] = field(default_factory=list)
    """Of each array, the chunks whose references are looked at."""
    differences: list[Difference] = field(default_factory=list)
    checked: int = 0
    """Copied chunks that were compared."""
    longer: dict[str, tuple[Difference, frozenset[str]]] = field(default_factory=dict)
    """Arrays that are longer in the target, along these dimensions: no difference if the rest is of
    other sources."""
    gone: list[Gone] = field(default_factory=list)
    """Arrays that no source has; those of other sources are no difference."""
    warnings: list[str] = field(default_factory=list)

    def settle(self, elsewhere: Mapping[str, int]) -> None:
        """Decide what was left open.

        Parameters
        ----------
        elsewhere
            By path, references of other sources where nothing was listed.
        """
        shared: set[str] = set()
        for path, (_, dimensions) in self.longer.items():
            if elsewhere.get(path):
                shared |= dimensions
        for path, (difference, dimensions) in self.longer.items():
            if not dimensions <= shared:
                self.differences.append(difference)
            elif elsewhere.get(path):
                self.warnings.append(
                    f"array {path}: {elsewhere[path]:,} references lead to other sources than "
                    "those given, and were not compared"
                )
        for one in gone_from_sources(self.gone):
            document = json.loads(one.document)
            self.differences.append(Difference(one.path, "array_missing_in_source", None, document))
        others = [one.path for one in self.gone if one.kind == "elsewhere"]
        if others:
            self.warnings.append(
                f"{len(others)} arrays of other sources were not compared, such as {min(others)}"
            )
            # The first of several sources gave their groups the attributes that they have.
            self.differences = [one for one in self.differences if one.kind != "group_attribute"]


def planned_verify(
    stores: Sequence[Store],
    target: Target,
    region: Mapping[str, SliceBounds],
    selection: Selection,
) -> ToCompare:
    """Compare metadata and copied arrays, and say what the core is to compare.

    Raises
    ------
    TargetNotFoundError
        The target has none of the arrays.
    MismatchError
        The target was ingested from another source, or begins after the region.
    RegionError
        The region does not align, is empty, or names a dimension that no array has.
    """
    check_dimensions(stores, region)
    plan = ToCompare(warnings=[text for store in stores for text in store.metadata.warnings])
    older = older_listing(stores, target)
    if older is not None:
        plan.warnings.append(f"{older}: what differs may have changed since the listing was made")
    for series in _by_path(plan, stores, target, region).values():
        _add(plan, series, region)
    if not region:
        plan.gone = extras(target, stores, selection)
        for gone in plan.gone:
            plan.arrays.append(gone.spec)
            plan.compared.append(_grid(gone.spec.shape, gone.spec.chunk_shape))
    if not (selection.arrays or selection.skip_variables):
        plan.differences += _group_differences(stores, target)
    return plan


def _by_path(
    plan: ToCompare,
    stores: Sequence[Store],
    target: Target,
    region: Mapping[str, SliceBounds],
) -> dict[str, list[Standing]]:
    """Return the arrays that target and sources have, in the order of these; tell of all others."""
    by_path: dict[str, list[Standing]] = {}
    for store in stores:
        known = {name for grid in store.grids for name in grid.names}
        bounds = {name: part for name, part in region.items() if name in known}
        found = counterparts(target, store, cut(store, bounds))
        for one in found.standing:
            if one.path in found.elsewhere and (found.follows or one.path in by_path):
                continue  # Of sources that follow each other the first has brought it.
            by_path.setdefault(one.path, []).append(one)
            for name, (ours, theirs) in field_differences(one, follows=found.follows).items():
                plan.differences.append(Difference(one.path, name, ours, theirs))
        for part in found.new:
            _add_new(plan, part)
        for part, what in found.other:
            difference = Difference(part.path, "array", json.loads(part.document()), what)
            plan.differences.append(difference)
    return by_path


def _add_new(plan: ToCompare, part: Cut) -> None:
    plan.differences.append(
        Difference(part.path, "array_missing_in_target", json.loads(part.document()), None)
    )
    if not part.copied:
        chunks = _grid(part.spec.shape, part.spec.chunk_shape)
        piece = replace(part.piece([0] * len(chunks)), target=part.chunks, shift=(0,) * len(chunks))
        plan.arrays.append(replace(part.spec, source=part.store.index, pieces=(piece,)))
        plan.compared.append(chunks)


def _add(plan: ToCompare, series: Sequence[Standing], region: Mapping[str, SliceBounds]) -> None:
    """Add an array that sources have, one after another or alone."""
    for one in series:
        _check_begin(one, region)
    _compare_shapes(plan, series, region)
    first = series[0]
    if first.copied:
        for one in series:
            _compare_values(plan, one)
        return
    ends = [
        max(one.part.spec.shape[axis] - one.offset[axis] for one in series)
        for axis in range(len(first.shape))
    ]
    shape = tuple(max(pair) for pair in zip(first.shape, ends, strict=True))
    pieces = []
    for one in series:
        shift = one.shift()
        box = tuple(
            (max(start - by, 0), stop - by)
            for (start, stop), by in zip(one.part.chunks, shift, strict=True)
        )
        if all(start < stop for start, stop in box):
            piece = one.part.piece([0] * len(box))
            pieces.append(replace(piece, target=box, shift=shift))
    compared = _grid(shape, first.chunk_shape)
    if region:
        boxes = [piece.target for piece in pieces] or [compared]
        compared = tuple(
            (min(start for start, _ in axis), max(stop for _, stop in axis))
            for axis in zip(*boxes, strict=True)
        )
    plan.arrays.append(
        replace(
            first.part.spec,
            document=with_shape(first.document, shape),
            shape=shape,
            chunk_shape=first.chunk_shape,
            source=first.part.store.index,
            copied=False,
            pieces=tuple(pieces),
        )
    )
    plan.compared.append(compared)


def _check_begin(one: Standing, region: Mapping[str, SliceBounds]) -> None:
    """Refuse a region that begins before what the target holds."""
    for axis, name in enumerate(one.part.grid.names):
        start, offset = one.part.elements[axis][0], one.offset[axis]
        if name in region and start < offset:
            raise MismatchError(
                f"the region along {name} begins at element {start}, before what array {one.path} "
                f"of the target holds, which begins at element {offset} of the source",
                f"begin at {offset}",
            )


def _compare_shapes(
    plan: ToCompare, series: Sequence[Standing], region: Mapping[str, SliceBounds]
) -> None:
    first = series[0]
    names = first.part.grid.names
    axes = [axis for axis, name in enumerate(names) if name not in region]
    here = [
        max(one.part.spec.shape[axis] - one.offset[axis] for one in series)
        for axis in range(len(names))
    ]
    begins = [max(one.offset[axis] for one in series) for axis in range(len(names))]
    difference = Difference(
        first.path, "shape", [one.part.spec.shape for one in series], list(first.shape)
    )
    if len(series) == 1:
        difference = replace(difference, source=list(first.part.spec.shape))
    longer = frozenset(names[axis] for axis in axes if first.shape[axis] > here[axis])
    if any(here[axis] > first.shape[axis] or begins[axis] > 0 for axis in axes):
        plan.differences.append(difference)
    elif longer or any(begins[axis] < 0 for axis in axes):
        before = frozenset(names[axis] for axis in axes if begins[axis] < 0)
        plan.longer[first.path] = (difference, longer | before)


def _compare_values(plan: ToCompare, one: Standing) -> None:
    """Compare a copied array chunk by chunk, as far as both have it."""
    wanted = [
        (max(start - offset, 0), min(stop - offset, size))
        for (start, stop), offset, size in zip(
            one.part.elements, one.offset, one.shape, strict=True
        )
    ]
    if any(start >= stop for start, stop in wanted):
        return
    elements = tuple(
        (start + offset, stop + offset)
        for (start, stop), offset in zip(wanted, one.offset, strict=True)
    )
    part = replace(one.part, elements=elements)
    here = part.values() if covers(one) else values_in_units(part, one.attributes)
    there = one.values[tuple(slice(*bounds) for bounds in wanted)]
    if here.dtype != there.dtype:
        return  # Told by the metadata.
    ranges = [
        range(start // chunk, -(-stop // chunk))
        for (start, stop), chunk in zip(wanted, one.chunk_shape, strict=True)
    ]
    for at in itertools.product(*ranges):
        plan.checked += 1
        place = tuple(
            slice(max(index * chunk - start, 0), max((index + 1) * chunk - start, 0))
            for index, chunk, (start, _) in zip(at, one.chunk_shape, wanted, strict=True)
        )
        if not same_values(here[place], there[place]):
            source, target = _first_different(here[place], there[place])
            plan.differences.append(
                Difference(one.path, "values", {"value": source}, {"value": target}, at)
            )


def _first_different(here: Any, there: Any) -> tuple[str, str]:
    import numpy as np

    pairs = zip(np.atleast_1d(here).flat, np.atleast_1d(there).flat, strict=True)
    return next(
        ((str(one), str(other)) for one, other in pairs if not same_values(one, other)), ("", "")
    )


def _group_differences(stores: Sequence[Store], target: Target) -> list[Difference]:
    groups, _ = merged_groups([(store.url, store.metadata.groups) for store in stores])
    found = []
    for group in groups:
        if not group.from_source:
            continue
        document = target.nodes.get(group.path)
        if document is None:
            found.append(Difference(group.path, "group_missing_in_target", {}, None))
            continue
        here = json.loads(group.document).get("attributes", {})
        there = json.loads(document).get("attributes", {})
        for name in sorted({*here, *there}):
            if here.get(name) != there.get(name):
                ours, theirs = ({"name": name, "value": side.get(name)} for side in (here, there))
                found.append(Difference(group.path, "group_attribute", ours, theirs))
    return found


def _grid(shape: Sequence[int], chunks: Sequence[int]) -> tuple[tuple[int, int], ...]:
    return tuple((0, -(-size // max(n, 1))) for size, n in zip(shape, chunks, strict=True))
