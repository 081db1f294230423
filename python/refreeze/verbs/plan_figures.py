"""A plan's figures: the core's estimates, put together for people."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from refreeze.metadata.specs import ArraySpec

__all__ = [
    "ArrayPlan",
    "InFlight",
    "Plan",
    "Totals",
    "addressed_names",
    "array_plan",
    "most_in_flight",
    "summed",
]

# What the estimates are made of. None of them is a promise; the report of an ingest has the facts.
_SECONDS_PER_LIST = 0.1
_SECONDS_PER_REFERENCE = 1e-6
_BYTES_PER_REFERENCE = 8
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
    """``ranked-pages``: independent pages, each from a computed key on; ``token-pages``: chains of
    continuation tokens, on services that list from no key on; ``probe``: every possible key is
    asked for, on a web server; ``folder-walk``, on a local file system; ``head``: a scalar's one
    key; ``given-list``: by the store's own library; ``inventory``: a listing that exists already."""
    list_requests: int
    """LIST requests for as many chunks as are expected; on a local file system, folders read; of a
    probe, one for each possible chunk."""
    refs_per_manifest: int
    batches: int
    """Commits that the references expected would fill by themselves."""
    list_cost_usd: float = 0.0
    """Of the LIST requests, by the service's list price. For people: not in `Plan.to_dict`."""
    most_in_flight: int | None = None
    """LIST requests at a time; None where nothing is asked of a service. Not in `Plan.to_dict`."""


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
    many chunks as those suggest, rather too many where they lie in clusters. ``dense``: no array
    is large, and the figures are for every chunk."""
    totals: Totals
    warnings: tuple[str, ...]
    most_in_flight: int | None = None
    """LIST requests at a time; None on a local file system. For people: not in `to_dict`."""
    copy: dict[str, Any] | None = None
    """With ``copy``: ``chunks``, ``bytes``, ``requests``, ``cost_usd``, ``estimated_s`` of copying, and
    ``server_side``, whether the service does it; left out of the plain data otherwise."""
    listing: dict[str, Any] | None = None
    """Where the keys come from, where the sources are not listed: ``date``, ``age_s``, ``files``,
    ``rows``; left out of the plain data otherwise."""

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain data, ready for `json.dumps`."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        del plain["most_in_flight"]
        for name in ("copy", "listing"):
            if plain[name] is None:
                del plain[name]
        for array in plain["arrays"]:
            del array["list_cost_usd"], array["most_in_flight"]
        return plain


@dataclass(frozen=True)
class InFlight:
    """LIST requests in flight that memory has room for: at the beginning and, if more help, at most."""

    begin: int
    most: int

    @classmethod
    def of(cls, estimates: Sequence[Mapping[str, Any]], concurrency: int | str) -> InFlight:
        """Return what the core says in its estimates; what was asked for where there are none."""
        for estimate in estimates:
            return cls(**estimate["in_flight"])
        if isinstance(concurrency, int):
            return cls(concurrency, concurrency)
        from refreeze import _refreeze

        return cls(_refreeze.FIRST_CONCURRENCY, _refreeze.MOST_CONCURRENCY)

    def rounds(self, requests: int) -> int:
        """Return how many times in a row requests are waited for, where more in flight help."""
        rounds, at_a_time = 0, self.begin
        while requests > 0 and at_a_time < self.most:
            requests -= at_a_time
            rounds, at_a_time = rounds + 1, min(2 * at_a_time, self.most)
        return rounds + math.ceil(max(requests, 0) / self.most)


def most_in_flight(arrays: Sequence[ArrayPlan], in_flight: int) -> int:
    """Return how many LIST requests are made at a time, by user and service."""
    bounds = [array.most_in_flight for array in arrays]
    return min([in_flight, *(bound for bound in bounds if bound is not None)])


def summed(
    figures: Sequence[tuple[ArrayPlan, Mapping[str, Any], bool]],
    commits: int,
    in_flight: InFlight,
    memory: int,
    *,
    is_remote: bool,
) -> Totals:
    """Return the totals of arrays, each with the core's estimate and whether it is copied."""
    referenced = sum(estimate["chunks_expected"] for _, estimate, copied in figures if not copied)
    requests = sum(array.list_requests for array, _, _ in figures)
    seconds = in_flight.rounds(requests) * _SECONDS_PER_LIST
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


def addressed_names(spec: ArraySpec) -> list[str]:
    """Return the names by which an array's dimensions are addressed in regions."""
    from refreeze import _refreeze

    return _refreeze.addressed_names(spec.dimension_names, len(spec.shape))


def array_plan(spec: ArraySpec, estimate: Mapping[str, Any], in_flight: int) -> ArrayPlan:
    """Return an array with the core's estimate of what is to be listed of it.

    ``in_flight`` is how many LIST requests may be made at a time.
    """
    asked = estimate["usd_per_list"] > 0
    grid = tuple(
        -(-length // chunk) for length, chunk in zip(spec.shape, spec.chunk_shape, strict=True)
    )
    return ArrayPlan(
        path=spec.path,
        shape=spec.shape,
        chunk_shape=spec.chunk_shape,
        grid_shape=grid,
        key_encoding=f"{spec.key_encoding} {spec.separator}",
        region=None,
        chunks_in_region=estimate["chunks_in_region"],
        strategy=estimate["strategy"],
        list_requests=estimate["list_requests"],
        refs_per_manifest=estimate["refs_per_manifest"],
        batches=0 if spec.copied else estimate["batches"],
        list_cost_usd=round(estimate["list_requests"] * estimate["usd_per_list"], 6),
        most_in_flight=min(in_flight, estimate["most_in_flight"] or in_flight) if asked else None,
    )
