"""The figures of an ingest whose mode has said what is to be listed.

Each piece is estimated by the core as an array of its source of its own; the figures are summed.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from refreeze.planning.dispatch import listing_report
from refreeze.planning.probing import requests_warning
from refreeze.shown import shown
from refreeze.stores.buckets import is_bucket
from refreeze.stores.web_store import is_web
from refreeze.verbs.copy_figures import copy_figures
from refreeze.verbs.ingest_kerchunk import check_format
from refreeze.verbs.listed_parts import part_of, parts_of
from refreeze.verbs.plan_figures import (
    ArrayPlan,
    InFlight,
    Plan,
    addressed_names,
    array_plan,
    most_in_flight,
    summed,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from refreeze.metadata.specs import ArraySpec
    from refreeze.planning.options import IngestArguments, IngestOptions
    from refreeze.planning.request import Planned
    from refreeze.planning.source_slice import Store
    from refreeze.verbs.listed_parts import Part

__all__ = ["plan_of"]

_NOTHING = {
    "chunks_in_region": 0,
    "chunks_expected": 0,
    "strategy": "none",
    "list_requests": 0,
    "usd_per_list": 0.0,
    "most_in_flight": None,
    "refs_per_manifest": 0,
    "batches": 0,
    "manifests": 0,
    "sampled": False,
}
"""The estimate of an array of which nothing is listed."""


def plan_of(
    planned: Planned,
    stores: Sequence[Store],
    options: IngestOptions,
    given: IngestArguments,
    target: Any,
) -> Plan:
    """Return what the core would list for a planned ingest.

    Parameters
    ----------
    given, target
        As the caller named them: what they say of copying, and of the format.
    """
    check_format(given.format, given.record_size, copy=given.copy)
    arrays = [] if planned.nothing_new else planned.arrays
    estimates: dict[str, list[dict[str, Any]]] = {array.path: [] for array in arrays}
    commits = 0
    all_estimated: list[dict[str, Any]] = []
    for store in stores:
        parts = [part for array in arrays for part in parts_of(array, store.index)]
        if not parts:
            continue
        estimated = _estimated(store, parts, options)
        # Each counts the one that creates the arrays.
        commits += estimated["commits"] - bool(commits)
        all_estimated.append(estimated)
        for (spec, _), estimate in zip(parts, estimated["arrays"], strict=True):
            estimates[spec.path].append(estimate)
    in_flight = InFlight.of(all_estimated, options.concurrency)
    figures = []
    for array in arrays:
        together = _together(estimates[array.path])
        if array.chunks is not None:
            together["chunks_in_region"] = len(array.chunks) or math.prod(array.grid_shape)
            together["manifests"] = 1
        plan = _array_plan(array, together, in_flight.most)
        figures.append((plan, together, array.copied))
    is_remote = any(
        (is_bucket(store.url) or is_web(store.url)) and store.source.listing is None
        for store in stores
    )
    commits = max(commits, 1) if arrays else 0
    totals = summed(figures, commits, in_flight, options.memory, is_remote=is_remote)
    if given.format != "icechunk":
        # No commits; each array has its record files.
        files = sum(-(-array.chunks_in_region // given.record_size) for array, _, _ in figures)
        totals = replace(totals, commits=0, manifests=files)
    copied = None
    if given.copy:
        expected = [
            (array, together["chunks_expected"])
            for array, (_, together, native) in zip(arrays, figures, strict=True)
            if not native
        ]
        copied = copy_figures(expected, stores, target, concurrency=options.concurrency)
    sampled = any(together["sampled"] for _, together, _ in figures)
    return Plan(
        arrays=tuple(array for array, _, _ in figures),
        estimate="sampled" if sampled else "dense",
        totals=totals,
        warnings=tuple(
            shown(warning) for warning in (*planned.warnings, *requests_warning(arrays, stores))
        ),
        most_in_flight=(
            most_in_flight([array for array, _, _ in figures], in_flight.most)
            if is_remote
            else None
        ),
        copy=copied,
        listing=listing_report(stores),
    )


def _estimated(store: Store, parts: list[Part], options: IngestOptions) -> dict[str, Any]:
    from refreeze import _refreeze

    estimated: dict[str, Any] = json.loads(
        _refreeze.estimate_arrays(
            store.source.store,
            store.source.path,
            parts,
            memory=options.memory,
            references_per_manifest=options.references_per_manifest,
            references_per_commit=options.references_per_commit,
            concurrency=options.concurrency,
        )
    )
    return estimated


def _together(estimates: list[dict[str, Any]]) -> dict[str, Any]:
    """Add up the estimates of an array's pieces."""
    if not estimates:
        return dict(_NOTHING)
    together = dict(estimates[0])
    for estimate in estimates[1:]:
        for name in (
            "chunks_in_region",
            "chunks_expected",
            "list_requests",
            "batches",
            "manifests",
        ):
            together[name] += estimate[name]
        together["sampled"] = together["sampled"] or estimate["sampled"]
    return together


def _array_plan(array: ArraySpec, together: dict[str, Any], in_flight: int) -> ArrayPlan:
    """Return the plan of an array; its region is that of the source, if it is of one alone."""
    plan = array_plan(array, together, in_flight)
    if array.pieces is None or len(array.pieces) != 1:
        return plan
    (piece,) = array.pieces
    (_, chunks) = part_of(array, piece)
    axes = zip(addressed_names(array), piece.shape, piece.chunk_shape, chunks, strict=True)
    region: dict[str, tuple[int | None, int | None]] = {
        name: (start * chunk, min(stop * chunk, length))
        for name, length, chunk, (start, stop) in axes
        if start or stop * chunk < length
    }
    return replace(plan, region=region or None)
