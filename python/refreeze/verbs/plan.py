"""`plan`: what an ingest of a source would take, from its metadata and a few requests."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import RegionError
from refreeze.metadata.region import SliceBounds, bounds_of
from refreeze.planning.options import (
    DEFAULT_CONCURRENCY,
    DEFAULT_MAX_DOCUMENT,
    DEFAULT_MEMORY,
    byte_count,
    check_mappings,
    refs_per_commit,
    requests_in_flight,
    selected,
)
from refreeze.planning.options import refs_per_manifest as per_manifest_of
from refreeze.shown import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from refreeze.metadata.region import Region
    from refreeze.metadata.specs import ArraySpec
    from refreeze.stores.resolve import Options, Source

__all__ = ["ArrayPlan", "Plan", "Totals", "addressed_names", "array_plan", "plan", "summed"]

# What the estimates are made of. None of them is a promise; the report of an ingest has the facts.
_SECONDS_PER_LIST = 0.1
_SECONDS_PER_REFERENCE = 1e-6
_BYTES_PER_REFERENCE = 12.5
_BASE_MEMORY = 150_000_000


@dataclass(frozen=True)
class ArrayPlan:
    """One array's part in a `Plan`. Shapes are in elements, ``grid_shape`` in chunks."""

    path: str
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    grid_shape: tuple[int, ...]
    key_encoding: str
    """Name and separator, such as ``default /``."""
    region: dict[str, tuple[int | None, int | None]] | None
    """Start and stop by dimension name; None is the whole array."""
    chunks_in_region: int
    """Chunks that there is room for."""
    strategy: str
    """``ranked-pages``, ``folder-walk``, ``head`` (a scalar) or ``given-list`` (in memory)."""
    list_requests: int
    """LIST requests for as many chunks as are expected; on a local file system, folders read."""
    refs_per_manifest: int
    batches: int
    """Commits that the references expected would fill by themselves."""


@dataclass(frozen=True)
class Totals:
    """Sums over the arrays. All but ``chunks_in_region`` are of the chunks that are expected."""

    chunks_in_region: int
    list_requests: int
    list_cost_usd: float
    """By list price: 0.005 US dollars for 1,000 LIST requests of S3 and Google Cloud Storage, 0.0055
    of Azure; 0 on a local file system."""
    estimated_s: float
    commits: int
    manifests: int
    manifest_bytes: int
    peak_memory_bytes: int


@dataclass(frozen=True)
class Plan:
    """What an ingest would take. Nothing has been written."""

    arrays: tuple[ArrayPlan, ...]
    estimate: str
    """``sampled``: large arrays were looked at, by a few requests each, and the figures are for as
    many chunks as that let expect, rather too many where they lie in clusters. ``dense``: no array
    is large, and the figures are for every chunk."""
    totals: Totals
    warnings: tuple[str, ...]
    most_in_flight: int | None = None
    """LIST requests at a time; None on a local file system. For people: not in `to_dict`."""

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain data, ready for `json.dumps`."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        del plain["most_in_flight"]
        return plain


def plan(
    source: Any,
    target: Any = None,
    *,
    group: str | None = None,
    target_group: str | None = None,
    arrays: Iterable[str] | None = None,
    skip_variables: Iterable[str] | None = None,
    loadable_variables: Iterable[str] | None = None,
    region: Region | None = None,
    concurrency: int = DEFAULT_CONCURRENCY,
    memory: str | int = DEFAULT_MEMORY,
    max_refs_per_commit: int | None = None,
    refs_per_manifest: int | None = None,
    max_document: str | int = DEFAULT_MAX_DOCUMENT,
    source_options: Options | None = None,
    target_options: Options | None = None,
) -> Plan:
    """Compute what an ingest would take, from the source's metadata and a few LIST requests.

    Arrays of more than 1,000 chunks are looked at with at most about 8 requests each and 64 in
    all, the largest first, to see how full they are. The others are taken to be full.

    Parameters
    ----------
    source, group, target_group, arrays, skip_variables, loadable_variables, source_options
        As for `refreeze.ingest`.
    target, target_options
        Checked, but not opened.
    region
        Slices by dimension name, in elements. Arrays without the dimension are taken whole, and
        so are copied coordinates that are chunked otherwise.
    concurrency, memory, max_refs_per_commit, refs_per_manifest, max_document
        As for `refreeze.ingest`.

    Returns
    -------
    Plan
        Its ``to_dict()`` is what ``refreeze plan --json`` prints.

    Raises
    ------
    refreeze.exceptions.RegionError
        The region does not align with an array's chunks, is empty, or names a dimension that no
        array has.
    refreeze.exceptions.SourceNotFoundError, refreeze.exceptions.UnsupportedArrayError
        As for `refreeze.ingest`.
    refreeze.exceptions.ListingError, refreeze.exceptions.AccessError
        The source cannot be listed.
    """
    from refreeze.metadata.selection import read_metadata
    from refreeze.runtime.interruption import interruptible
    from refreeze.stores.buckets import is_bucket
    from refreeze.stores.resolve import resolve_source, resolve_target

    check_mappings({"source_options": source_options, "target_options": target_options})
    bound = byte_count("memory", memory)
    limits = {
        "memory": bound,
        "references_per_manifest": (
            None if refs_per_manifest is None else per_manifest_of(refs_per_manifest)
        ),
        "references_per_commit": refs_per_commit(max_refs_per_commit),
    }
    in_flight = requests_in_flight(concurrency)
    bounds = bounds_of(region)
    resolved = resolve_source(source, source_options)
    if isinstance(target, str | os.PathLike):
        resolve_target(target, target_options)
    selection = selected(
        group,
        target_group,
        arrays,
        skip_variables,
        loadable_variables,
        max_document=max_document,
    )
    metadata = interruptible(read_metadata, resolved, selection)
    if metadata.nothing is not None:
        raise metadata.nothing
    chosen = _bounds_by_array(metadata.arrays, bounds)

    parts = [(spec, chosen[spec.path]) for spec in metadata.arrays]
    estimated = _estimates(resolved, parts, in_flight, limits)
    estimates = estimated["arrays"]
    planned = tuple(
        array_plan(spec, chosen[spec.path], estimate)
        for spec, estimate in zip(metadata.arrays, estimates, strict=True)
    )
    figures = [
        (array, estimate, spec.loaded)
        for array, spec, estimate in zip(planned, metadata.arrays, estimates, strict=True)
    ]
    is_remote = is_bucket(resolved.url)
    totals = summed(figures, estimated["commits"], in_flight, bound, is_remote=is_remote)
    how = "sampled" if any(estimate["sampled"] for estimate in estimates) else "dense"
    noted = (*metadata.warnings, *resolved.notes)
    warnings = tuple(shown(warning) for warning in noted)
    at_a_time = most_in_flight(estimates, in_flight) if is_remote else None
    return Plan(planned, how, totals, warnings, at_a_time)


def most_in_flight(estimates: Sequence[Mapping[str, Any]], in_flight: int) -> int:
    """Return how many LIST requests are made at a time, by user and service."""
    bounds: list[int | None] = [estimate["most_in_flight"] for estimate in estimates]
    return min([in_flight, *(bound for bound in bounds if bound is not None)])


def summed(
    figures: Sequence[tuple[ArrayPlan, Mapping[str, Any], bool]],
    commits: int,
    in_flight: int,
    memory: int,
    *,
    is_remote: bool,
) -> Totals:
    """Return the totals of arrays, each with the core's estimate and whether it is copied."""
    referenced = sum(estimate["chunks_expected"] for _, estimate, copied in figures if not copied)
    requests = sum(array.list_requests for array, _, _ in figures)
    seconds = math.ceil(requests / in_flight) * _SECONDS_PER_LIST
    return Totals(
        chunks_in_region=sum(array.chunks_in_region for array, _, _ in figures),
        list_requests=requests,
        list_cost_usd=round(
            sum(array.list_requests * estimate["usd_per_list"] for array, estimate, _ in figures), 6
        ),
        estimated_s=round(seconds * is_remote + referenced * _SECONDS_PER_REFERENCE, 2),
        commits=commits,
        # Copied chunks are named in manifests too.
        manifests=sum(estimate["manifests"] for _, estimate, _ in figures),
        manifest_bytes=math.ceil(referenced * _BYTES_PER_REFERENCE),
        peak_memory_bytes=_BASE_MEMORY + memory,
    )


def _bounds_by_array(
    specs: list[ArraySpec], bounds: Mapping[str, SliceBounds]
) -> dict[str, dict[str, SliceBounds]]:
    """Return the part of a region that concerns each array.

    Raises
    ------
    RegionError
        A dimension that no array has.
    """
    names = {spec.path: addressed_names(spec) for spec in specs}
    known = sorted({name for of_array in names.values() for name in of_array})
    for dimension in bounds:
        if dimension not in known:
            raise RegionError(
                f"no array has the dimension {dimension}",
                f"dimensions: {', '.join(known) or 'none'}",
            )
    return {
        spec.path: {}
        if spec.loaded and len(spec.shape) == 1
        else {name: part for name, part in bounds.items() if name in names[spec.path]}
        for spec in specs
    }


def addressed_names(spec: ArraySpec) -> list[str]:
    """Return the names by which an array's dimensions are addressed in regions."""
    names = spec.dimension_names or (None,) * len(spec.shape)
    return [f"dim_{axis}" if name is None else name for axis, name in enumerate(names)]


def _estimates(
    source: Source,
    parts: list[tuple[ArraySpec, dict[str, SliceBounds]]],
    in_flight: int,
    limits: dict[str, Any],
) -> dict[str, Any]:
    from refreeze import _refreeze

    estimate = _refreeze.estimate_arrays(
        source.store, source.path, parts, concurrency=in_flight, **limits
    )
    estimates: dict[str, Any] = json.loads(estimate)
    return estimates


def array_plan(
    spec: ArraySpec, bounds: Mapping[str, SliceBounds], estimate: Mapping[str, Any]
) -> ArrayPlan:
    """Return what of an array is to be listed, and the core's estimate of that."""
    grid = tuple(
        -(-length // chunk) for length, chunk in zip(spec.shape, spec.chunk_shape, strict=True)
    )
    return ArrayPlan(
        path=spec.path,
        shape=spec.shape,
        chunk_shape=spec.chunk_shape,
        grid_shape=grid,
        key_encoding=f"{spec.key_encoding} {spec.separator}",
        region={name: (start, stop) for name, (start, stop, _) in bounds.items()} or None,
        chunks_in_region=estimate["chunks_in_region"],
        strategy=estimate["strategy"],
        list_requests=estimate["list_requests"],
        refs_per_manifest=estimate["refs_per_manifest"],
        batches=0 if spec.loaded else estimate["batches"],
    )
