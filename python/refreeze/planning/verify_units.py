"""A comparison cut into units that others carry out: documents of it, and sums of their results.

What a unit compares is the core's; who carries units out, and where, is not known here.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from refreeze.metadata.specs import ArraySpec, Piece

if TYPE_CHECKING:
    from refreeze.planning.verify import ToCompare

__all__ = ["KIND", "compare", "core_plan", "summed", "units"]

KIND = "verify"
"""What the plan of a comparison says that it is."""

LEAST = 100_000
"""Chunks of a unit, at least: each opens the target and looks at its sources."""

UNITS_EACH = 8
"""Units that each worker should get: the last ones end at about the same time."""

Box = tuple[tuple[int, int], ...]


def core_plan(plan: ToCompare, *, branch: str, snapshot_id: str) -> dict[str, Any]:
    """Return the part of a `refreeze.work.WorkPlan` that says what is compared with what."""
    from refreeze import __version__

    return {
        "kind": KIND,
        "refreeze": __version__,
        "run_id": f"verify-{snapshot_id}",
        "branch": branch,
        "snapshot_id": snapshot_id,
        "arrays": [_document(spec) for spec in plan.arrays],
    }


def units(plan: ToCompare, workers: int, sample: int) -> list[dict[str, Any]]:
    """Cut what is to be compared into units of about equal size; small arrays share one.

    A unit has ``parts``, each the position of an array and a box of its chunk grid, and its share
    of the ``sample``.
    """
    total = sum(map(_chunks, plan.compared))
    room = max(LEAST, total // max(workers * UNITS_EACH, 1))
    cut: list[list[tuple[int, Box]]] = []
    held = room
    for array, whole in enumerate(plan.compared):
        for box in _boxes(whole, room):
            if held + _chunks(box) > room:
                cut.append([])
                held = 0
            cut[-1].append((array, box))
            held += _chunks(box)
    shares = _shares(sample, [sum(_chunks(box) for _, box in parts) for parts in cut])
    return [
        {"number": number, "parts": [[array, box] for array, box in parts], "sample": share}
        for number, (parts, share) in enumerate(zip(cut, shares, strict=True))
    ]


def _boxes(box: Box, room: int) -> Iterator[Box]:
    """Cut a box along its first dimensions until each part has room for no more chunks."""
    axis = next((axis for axis, (start, stop) in enumerate(box) if stop - start > 1), None)
    if axis is None or _chunks(box) <= room:
        yield box
        return
    start, stop = box[axis]
    step = max(room // (_chunks(box) // (stop - start)), 1)
    for first in range(start, stop, step):
        part = (*box[:axis], (first, min(first + step, stop)), *box[axis + 1 :])
        yield from _boxes(part, room)


def _chunks(box: Sequence[tuple[int, int]]) -> int:
    return math.prod(stop - start for start, stop in box)


def _shares(total: int, weights: Sequence[int]) -> list[int]:
    """Divide a number in proportion, such that the shares add up to it."""
    sums = list(itertools.accumulate(weights, initial=0))
    ends = [total * part // max(sums[-1], 1) for part in sums]
    return [end - start for start, end in itertools.pairwise(ends)]


def compare(
    plan: Mapping[str, Any],
    unit: Mapping[str, Any],
    sources: Sequence[tuple[Any, str]],
    *,
    source_urls: Sequence[str],
    target: Any,
    options: Any,
) -> str:
    """Compare one unit; return the core's figures of it as JSON."""
    from refreeze import _refreeze

    arrays, compared = [], []
    for array, ranges in unit["parts"]:
        box = tuple((start, stop) for start, stop in ranges)
        arrays.append(_within(_spec(plan["arrays"][array]), box))
        compared.append(box)
    comparison = _refreeze.verify(
        list(sources),
        target,
        source_urls=list(source_urls),
        arrays=arrays,
        compared=compared,
        options=options,
        snapshot_id=plan["snapshot_id"],
        sample=unit["sample"],
        progress=None,
    )
    for _ in comparison:
        pass
    return json.dumps({"number": unit["number"], "found": json.loads(comparison.report())})


def summed(results: Iterable[Mapping[str, Any]], plan: ToCompare, examples: int) -> dict[str, Any]:
    """Add up the figures of units, as if one process had compared everything."""
    found: dict[str, Any] = dict.fromkeys(("checked", "sampled", "list_requests", "keys_listed"), 0)
    arrays = {
        spec.path: {"path": spec.path, "checked": 0, "elsewhere": 0, "kinds": Counter()}
        for spec in plan.arrays
    }
    shown: list[dict[str, Any]] = []
    warnings: dict[str, None] = {}
    of_kind: Counter[str] = Counter()
    for result in sorted(results, key=lambda result: result["number"]):
        one = result["found"]
        for name in found:
            found[name] += one[name]
        for array in one["arrays"]:
            total: dict[str, Any] = arrays[array["path"]]
            total["checked"] += array["checked"]
            total["elsewhere"] += array["elsewhere"]
            total["kinds"].update(array["kinds"])
        for example in one["examples"]:
            of_kind[example["kind"]] += 1
            if of_kind[example["kind"]] <= examples:
                shown.append(example)
        warnings |= dict.fromkeys(one["warnings"])
    return found | {
        "arrays": list(arrays.values()),
        "examples": shown,
        "warnings": list(warnings),
    }


def _within(spec: ArraySpec, box: Box) -> ArraySpec:
    """Return the array with that much of its pieces as lies in a box."""
    pieces = []
    for piece in spec.pieces or ():
        shared = tuple(
            (max(start, first), min(stop, last))
            for (start, stop), (first, last) in zip(piece.target, box, strict=True)
        )
        if all(start < stop for start, stop in shared):
            pieces.append(replace(piece, target=shared))
    return replace(spec, pieces=tuple(pieces))


def _document(spec: ArraySpec) -> dict[str, Any]:
    pieces = _whole(spec) if spec.pieces is None else spec.pieces
    return asdict(replace(spec, pieces=pieces, chunks=None, document=b"")) | {
        "document": spec.document.decode()
    }


def _whole(spec: ArraySpec) -> tuple[Piece, ...]:
    """Return the one piece that an array without any stands for."""
    return (
        Piece(
            source=spec.source,
            source_path=spec.source_path,
            shape=spec.shape,
            chunk_shape=spec.chunk_shape,
            key_encoding=spec.key_encoding,
            separator=spec.separator,
            target=tuple((0, count) for count in spec.grid_shape),
            shift=(0,) * len(spec.shape),
        ),
    )


def _spec(document: Mapping[str, Any]) -> ArraySpec:
    pieces = tuple(Piece(**_tuples(piece)) for piece in document["pieces"])
    given = {**_tuples(document), "document": document["document"].encode(), "pieces": pieces}
    return ArraySpec(**given)


def _tuples(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document of JSON with tuples in the place of its lists."""

    def plain(value: Any) -> Any:
        return tuple(map(plain, value)) if isinstance(value, list | tuple) else value

    return {name: plain(value) for name, value in document.items()}
