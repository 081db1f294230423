"""`verify`: a fresh listing of sources compared with what a repository says of them."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refreeze.metadata.region import bounds_of
from refreeze.planning.option_checks import check_options
from refreeze.planning.options import (
    DEFAULT_CONCURRENCY,
    DEFAULT_MAX_DOCUMENT,
    DEFAULT_MEMORY,
    IngestOptions,
    sample_size,
)
from refreeze.verbs.report import peak_rss_bytes
from refreeze.verbs.tables import check_format, write_table

if TYPE_CHECKING:
    import os

    from refreeze.metadata.region import Region
    from refreeze.planning.target_arrays import Target
    from refreeze.planning.verify import ToCompare
    from refreeze.stores.resolve import Options
    from refreeze.verbs.opened import Opened

__all__ = ["VerifyReport", "compared", "verify"]

_EXAMPLES = 5
"""Differences of each kind that a report shows."""
_OF_REFERENCES = ("location", "length", "last_modified", "e_tag")
_OF_SAMPLES = ("bytes", "unreadable")


@dataclass(frozen=True)
class VerifyReport:
    """The result of `refreeze.verify`. Times in seconds."""

    equal: bool
    """Whether nothing differs."""
    checked: int
    """Chunks compared: those with a reference, those with an object, and copied ones."""
    missing_in_target: int
    """Chunks of the source without a reference."""
    missing_in_source: int
    """References to chunks that the source does not have."""
    changed: int
    """References to another object, or to one of another length or time; copied chunks of other
    values."""
    sampled: int
    """References read both ways."""
    sample_mismatches: int
    """Of those, the ones that have other bytes, or cannot be read."""
    stale: int
    """Of those, the ones whose object has changed since it was referenced, so that Icechunk refuses
    to read it: `refreeze.sync` fixes that."""
    metadata_differences: int
    """Fields and attributes that differ, and arrays and groups that one side does not have."""
    kinds: dict[str, int]
    """Differences by kind."""
    examples: tuple[dict[str, Any], ...]
    """Some of each kind: array, coordinates, kind, and what source and target say."""
    source: str
    sources: tuple[str, ...]
    target: str
    branch: str
    snapshot_id: str
    """What was compared with."""
    list_requests: int
    keys_listed: int
    elapsed_s: float
    peak_rss_bytes: int
    output: str | None
    """The file that holds every difference."""
    warnings: tuple[str, ...]
    listing: dict[str, Any] | None = None
    """Where the keys come from, as in `IngestReport`."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, ready for `json.dumps`."""
        lists = ("examples", "sources", "warnings")
        report = asdict(self) | {name: list(getattr(self, name)) for name in lists}
        if self.listing is None:
            del report["listing"]
        return report


def verify(
    source: Any,
    target: Any,
    *,
    group: str | None = None,
    target_group: str | None = None,
    arrays: Iterable[str] | None = None,
    skip_variables: Iterable[str] | None = None,
    loadable_variables: Iterable[str] | None = None,
    branch: str = "main",
    region: Region | None = None,
    sample: int = 0,
    output: str | os.PathLike[str] | None = None,
    memory: str | int = DEFAULT_MEMORY,
    max_document: str | int = DEFAULT_MAX_DOCUMENT,
    concurrency: int | str = DEFAULT_CONCURRENCY,
    listing: Any = None,
    listing_columns: Mapping[str, str] | None = None,
    listing_options: Options | None = None,
    sample_listing: int = 0,
    probe: bool = False,
    yes: bool = False,
    max_requests_per_second: float | None = None,
    source_options: Options | None = None,
    target_options: Options | None = None,
    executor: Any = None,
    client: Any = None,
    workers: int | None = None,
    wait_for_workers: float = 60,
    progress: Callable[[dict[str, Any]], object] | None = None,
) -> VerifyReport:
    """List sources again and compare them with a repository, reference by reference.

    For every chunk it compares whether object and reference exist, whether the reference leads to
    this source's object for this chunk, its length and its last-modified time. For every array it
    compares shape, data type, codecs, chunks, fill value, dimension names and attributes, and for
    copied arrays the values. It never writes to the target.

    Parameters
    ----------
    source
        As for `refreeze.ingest`; of several sources (concatenated or merged) all that are to be
        compared. References to other sources are left alone.
    target
        The repository, as for `refreeze.ingest`.
    group, target_group, arrays, skip_variables, loadable_variables, branch
        As for `refreeze.ingest`. Arrays of the target that are in no source are differences,
        unless they are not selected or lead to other sources.
    region
        Slices by dimension name, in elements of the source: only these are compared.
    sample
        Also read this many random references, spread over arrays and manifests, from the source and
        through Icechunk, and compare their bytes.
    output
        A file for every difference: ``.parquet``, ``.csv`` or ``.arrow``. Columns: ``array``,
        ``coordinates``, ``kind``, ``source``, ``target``, all but the first and third as JSON.
    memory
        Bound on everything that grows with the work, as for `refreeze.ingest`.
    max_document, concurrency, probe, yes, max_requests_per_second
        As for `refreeze.ingest`, and so are ``listing``, ``listing_columns``, ``listing_options`` and
        ``sample_listing``.
    source_options, target_options, progress
        As for `refreeze.ingest`.
    executor, client, workers, wait_for_workers
        As for `refreeze.ingest`: others list and compare. They keep some examples of differences
        and count the rest, so ``output`` is not available.

    Returns
    -------
    VerifyReport
        Counts by kind, and examples.

    Raises
    ------
    TypeError, ValueError
        An argument has a wrong type or value.
    refreeze.exceptions.RegionError
        A region that does not align, is empty, or names a dimension that no array has.
    refreeze.exceptions.SourceNotFoundError
        Nothing is at the source, or a selected group or array is not in it.
    refreeze.exceptions.TargetNotFoundError
        There is no repository, no such branch, or none of the arrays in it.
    refreeze.exceptions.MismatchError
        The target was ingested from another source.
    refreeze.exceptions.ListingError
        A listing that failed or cannot be trusted.
    refreeze.exceptions.TargetError
        The target cannot be read, or ``output`` cannot be written.
    refreeze.exceptions.AccessError
        Credentials or permissions were refused.

    Examples
    --------
    >>> refreeze.verify("air.zarr", "air.icechunk", sample=100).equal  # doctest: +SKIP
    True
    """
    given = locals()
    from refreeze.verbs.opened import opened

    started = time.monotonic()
    check_options(given)
    file = None if output is None else Path(output)
    if file is not None:
        check_format(file)
        if not (executor is client is workers is None):
            raise ValueError("output needs one process: leave out workers, client and executor")
    wanted = sample_size(sample)
    options = IngestOptions.of(given)
    both = opened(source, target, given, bounds_of(region), options)
    return compared(both, sample=wanted, file=file, progress=progress, started=started)


def compared(
    both: Opened,
    *,
    sample: int = 0,
    file: Path | None = None,
    progress: Callable[[dict[str, Any]], object] | None,
    started: float,
) -> VerifyReport:
    """Compare sources whose metadata was read with a target that was opened.

    Memory and requests in flight are bounded as its options say.
    """
    from refreeze import _refreeze
    from refreeze.distributed.choice import crew_at_work
    from refreeze.planning.probing import check_requests
    from refreeze.planning.verify import planned_verify

    stores, target, options = both.stores, both.target, both.options
    plan = planned_verify(stores, target, both.bounds, both.selection)
    report = partial(_report, plan=plan, both=both, started=started)
    check_requests(plan.arrays, stores)
    if both.crew is not None:
        with crew_at_work(both.crew, both.places):
            found = _by_crew(both.crew, plan, target, sample=sample, progress=progress)
        return report(found)
    comparison = _refreeze.verify(
        [(store.source.store, store.source.path) for store in stores],
        both.location,
        source_urls=[store.url for store in stores],
        arrays=plan.arrays,
        compared=plan.compared,
        options=IngestOptions(
            branch=target.branch,
            mode="update",
            skip_empty_chunks=True,
            memory=options.memory,
            concurrency=options.concurrency,
            requests_per_second=options.requests_per_second,
        ),
        snapshot_id=target.snapshot_id,
        sample=sample,
        progress=progress,
    )
    rows = _Rows(comparison, plan)
    if file is None:
        for _ in rows:
            pass
    else:
        write_table(comparison.schema, rows, file)
    return report(rows.found, file=file)


def _by_crew(
    crew: Any,
    plan: ToCompare,
    target: Target,
    *,
    sample: int,
    progress: Callable[[dict[str, Any]], object] | None,
) -> dict[str, Any]:
    """Have a crew compare; return the figures in the form of the core's."""
    from refreeze.distributed.comparison import results_of
    from refreeze.planning.verify_units import core_plan, summed, units

    document = core_plan(plan, branch=target.branch, snapshot_id=target.snapshot_id)
    cut = units(plan, crew.count(), sample)
    found = summed(results_of(crew, document, cut, progress), plan, _EXAMPLES)
    plan.settle({one["path"]: one["elsewhere"] for one in found["arrays"]})
    return found


def _report(
    found: dict[str, Any],
    *,
    plan: ToCompare,
    both: Opened,
    started: float,
    file: Path | None = None,
) -> VerifyReport:
    from refreeze.planning.dispatch import listing_report

    kinds, examples = _counted(found, plan)
    return VerifyReport(
        equal=not kinds,
        checked=found["checked"] + plan.checked,
        missing_in_target=kinds["missing_in_target"],
        missing_in_source=kinds["missing_in_source"],
        changed=sum(kinds[kind] for kind in (*_OF_REFERENCES, "values")),
        sampled=found["sampled"],
        sample_mismatches=sum(kinds[kind] for kind in _OF_SAMPLES),
        stale=kinds["stale"],
        metadata_differences=sum(one.kind != "values" for one in plan.differences),
        kinds=dict(sorted(kinds.items())),
        examples=tuple(examples),
        source=both.stores[0].url,
        sources=tuple(store.url for store in both.stores),
        target=both.location.url,
        branch=both.target.branch,
        snapshot_id=both.target.snapshot_id,
        list_requests=found["list_requests"],
        keys_listed=found["keys_listed"],
        elapsed_s=round(time.monotonic() - started, 3),
        peak_rss_bytes=peak_rss_bytes(),
        output=None if file is None else str(file),
        warnings=tuple(dict.fromkeys((*plan.warnings, *found["warnings"]))),
        listing=listing_report(both.stores),
    )


class _Rows:
    """The differences that the core finds, and then those of metadata and copied chunks."""

    def __init__(self, comparison: Any, plan: ToCompare) -> None:
        self._comparison = comparison
        self._plan = plan
        self.found: dict[str, Any] = {}
        """The report of the core."""

    def __iter__(self) -> Iterator[Any]:
        yield from self._comparison
        self.found = json.loads(self._comparison.report())
        self._plan.settle({one["path"]: one["elsewhere"] for one in self.found["arrays"]})
        if self._plan.differences:
            found = [one.to_dict() for one in self._plan.differences]
            yield _batch(found).with_schema(self._comparison.schema)


def _batch(differences: list[dict[str, Any]]) -> Any:
    from arro3.core import Array, DataType, RecordBatch

    def text(name: str) -> Any:
        values = [one[name] for one in differences]
        if name in {"coordinates", "source", "target"}:
            values = [None if value is None else json.dumps(value) for value in values]
        return Array(values, DataType.string())

    columns = {name: text(name) for name in ("array", "coordinates", "kind", "source", "target")}
    return RecordBatch.from_pydict(columns)


def _counted(found: dict[str, Any], plan: ToCompare) -> tuple[Counter[str], list[dict[str, Any]]]:
    kinds: Counter[str] = Counter()
    for array in found["arrays"]:
        kinds.update(array["kinds"])
    examples = list(found["examples"])
    for one in plan.differences:
        kinds[one.kind] += 1
        if kinds[one.kind] <= _EXAMPLES:
            examples.append(one.to_dict())
    return kinds, examples
