"""Appends stores that follow what the target holds: ``append`` with ``concat_dim``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from refreeze.exceptions import MismatchError, RegionError
from refreeze.planning.append_grown import grown_copy, others_with, spec_of
from refreeze.planning.compatibility import (
    check_agreement,
    check_inherited_units,
    same_values,
    values_in_units,
)
from refreeze.planning.concatenate import check_continues, cuts_by_path
from refreeze.planning.request import Planned, source_warnings
from refreeze.planning.source_slice import agreed_length, check_dimensions
from refreeze.planning.target_arrays import Standing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from refreeze.metadata.specs import ArraySpec
    from refreeze.planning.request import Request
    from refreeze.planning.source_slice import Cut, Store
    from refreeze.planning.target_arrays import Target

__all__ = ["planned_following"]


@dataclass(frozen=True)
class _Series:
    """An array of the target, and the cuts that are to follow it."""

    standing: Standing
    """By the first of them; its offset says nothing."""
    parts: list[Cut]
    axis: int | None
    """The dimension along which they follow; None where the array does not have it."""

    @property
    def length(self) -> int:
        """Elements along the axis that the parts have together."""
        return sum(part.shape[self.axis] for part in self.parts if self.axis is not None)


def planned_following(
    stores: Sequence[Store], target: Target, request: Request, dimension: str
) -> Planned:
    """Plan stores that continue a dimension at the target's length.

    Raises
    ------
    TargetNotFoundError
        An array is not in the target.
    MismatchError
        The stores do not go with the target, or its length is not on a chunk boundary.
    RegionError
        The region or the dimension does not fit.
    """
    check_dimensions(stores, request.region)
    found = cuts_by_path(stores, request.region, dimension)
    noted = source_warnings(stores)
    series = [_series([cuts[path] for cuts in found], target, dimension) for path in found[0]]
    _check_all_there(list(found[0].values()), target, request, dimension)
    for one in series:
        noted += _check_documents(one)
    growing = [one for one in series if one.axis is not None]
    _check_lengths(growing, target, dimension)
    noted = list(dict.fromkeys(noted))
    if _are_there(growing, target):
        noted.append(f"nothing is new: the target ends with {stores[-1].url} already")
        specs = [replace(one.standing.part.spec, shape=one.standing.shape) for one in growing]
        return Planned([], specs, noted, base=target.snapshot_id, nothing_new=True)
    for one in growing:
        _check_boundaries(one, dimension)
    for one in series:
        if one.axis is None and one.standing.copied:
            _check_equal(one)
    arrays = [spec for one in growing if (spec := _continued(one)) is not None]
    return Planned([], arrays, noted, base=target.snapshot_id)


def _series(parts: list[Cut], target: Target, dimension: str) -> _Series:
    first = parts[0]
    target.document(first.path)
    copied = False
    if any(part.copied or part.grid.coordinate for part in parts):
        # What is copied was decided when the array was created.
        (origin,) = target.origins(first.store, [first.spec], [None])
        copied = origin.kind == "native" or (origin.kind == "empty" and first.copied)
    standing = Standing(first, target, copied, (0,) * len(first.shape))
    return _Series(standing, parts, first.axis(dimension))


def _check_all_there(
    parts: Sequence[Cut], target: Target, request: Request, dimension: str
) -> None:
    if request.selective:
        return
    for path in others_with(target, request.target_group, dimension, parts):
        raise MismatchError(
            f"{parts[0].store.url} has no array {path}, which is in the target with {dimension}",
            "to let it keep its length, select the others with --array",
        )


def _check_documents(one: _Series) -> list[str]:
    noted = []
    for part in one.parts:
        shape = list(one.standing.shape)
        if one.axis is not None and one.axis < min(len(shape), len(part.shape)):
            shape[one.axis] = part.shape[one.axis]
        copied = one.standing.copied
        noted += check_agreement(
            part, one.standing.document, copied=copied, whose="the target", shape=tuple(shape)
        )
        if not copied:
            check_inherited_units(part, one.standing.attributes, whose="the target")
    return noted


def _check_lengths(growing: Sequence[_Series], target: Target, dimension: str) -> None:
    lengths = [
        (one.standing.path, one.standing.shape[one.axis]) for one in growing if one.axis is not None
    ]
    agreed_length(
        lengths, target.url, dimension, "append to arrays of one length at a time: --array"
    )


def _check_boundaries(one: _Series, dimension: str) -> None:
    """Refuse references that would begin within a chunk, of the target or of a store."""
    standing, axis = one.standing, one.axis
    if standing.copied or axis is None:
        return
    length, chunk = standing.shape[axis], standing.chunk_shape[axis]
    if length % chunk:
        raise MismatchError(
            f"array {standing.path} of the target has {length} elements along {dimension}, which "
            f"is not a multiple of its chunks' {chunk}: its last chunk would be in the middle",
            "nothing can follow it; ingest all sources again (--mode overwrite --concat-dim)"
            + (", or copy the coordinate (--load)" if one.parts[0].grid.coordinate else ""),
        )
    check_continues(one.parts, axis, dimension)
    for part in one.parts:
        for (start, _), size in zip(part.elements, standing.chunk_shape, strict=True):
            if start % size:
                raise RegionError(
                    f"the region begins within a chunk of {part.where}, which is not copied in "
                    "the target",
                    "begin on a multiple of its chunks",
                )


def _are_there(growing: Sequence[_Series], target: Target) -> bool:
    """Whether the target ends with these very stores: the same command was run before.

    Only references tell; copied chunks and missing ones are nobody's.
    """
    proven = False
    for one in growing:
        if one.axis is None or one.standing.copied:
            continue
        end = one.standing.shape[one.axis]
        for number, part in enumerate(reversed(one.parts)):
            end -= part.shape[one.axis]
            (origin,) = target.origins(part.store, [part.spec], [None if number else one.axis])
            if origin.kind == "elsewhere":
                return False
            if origin.shift is None:
                continue
            offset = origin.shift[one.axis] * one.standing.chunk_shape[one.axis]
            if end != part.elements[one.axis][0] - offset:
                return False
            proven = True
    return proven


def _check_equal(one: _Series) -> None:
    """Refuse stores whose copied arrays without the dimension are not those of the target."""
    for part in one.parts:
        if not same_values(one.standing.values, values_in_units(part, one.standing.attributes)):
            raise MismatchError(
                f"{part.where} has other values than that of the target",
                "what follows has the same coordinates in other dimensions; leave it out with "
                f"--skip {part.path.rpartition('/')[2]}",
            )


def _continued(one: _Series) -> ArraySpec | None:
    """Return an array of the target with the parts behind it; None if they hold nothing."""
    standing, axis = one.standing, one.axis
    if axis is None or one.length == 0:
        return None
    shape = list(standing.shape)
    length, shape[axis] = shape[axis], shape[axis] + one.length
    if standing.copied:
        import numpy as np

        values = [values_in_units(part, standing.attributes) for part in one.parts]
        joined = np.concatenate(values, axis=axis)
        return grown_copy(standing, axis, tuple(shape), joined, length)[0]
    pieces = []
    for part in one.parts:
        if part.shape[axis]:
            start = [0] * len(shape)
            start[axis] = length // standing.chunk_shape[axis]
            pieces.append(part.piece(start))
        length += part.shape[axis]
    return spec_of(standing, tuple(shape), pieces=tuple(pieces))
