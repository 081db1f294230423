"""The report of an ingest that found nothing new, so that the core was not asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from refreeze.planning.dispatch import listing_report
from refreeze.verbs.report import ArrayReport, IngestReport, peak_rss_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from refreeze.metadata.specs import ArraySpec
    from refreeze.planning.options import IngestOptions
    from refreeze.planning.request import Planned
    from refreeze.planning.source_slice import Store

__all__ = ["report_of_nothing"]

_COUNTS = (
    "resumed_batches",
    "commits",
    "manifests_written",
    "manifest_bytes",
    "list_requests",
    "keys_listed",
    "references_written",
    "bytes_referenced",
    "added",
    "changed",
    "removed",
)


def report_of_nothing(
    planned: Planned,
    stores: Sequence[Store],
    target: str,
    options: IngestOptions,
    *,
    elapsed: float,
) -> IngestReport:
    """Return the report of an ingest that had nothing to list."""
    snapshot = planned.base or ""
    nothing: dict[str, Any] = dict.fromkeys(_COUNTS, 0)
    return IngestReport(
        source=stores[0].url,
        sources=tuple(store.url for store in stores),
        target=target,
        branch=options.branch,
        mode=options.mode,
        run_id="",
        snapshot_id=snapshot,
        previous_snapshot_id=snapshot,
        published=False,
        already_published=True,
        elapsed_s=round(elapsed, 3),
        peak_rss_bytes=peak_rss_bytes(),
        arrays=tuple(_untouched(array) for array in planned.arrays),
        warnings=tuple(planned.warnings),
        container="",
        containers=(),
        listing=listing_report(stores),
        **nothing,
    )


def _untouched(array: ArraySpec) -> ArrayReport:
    sizes = zip(array.shape, array.chunk_shape, strict=True)
    return ArrayReport(
        path=array.path,
        shape=array.shape,
        chunk_shape=array.chunk_shape,
        grid_shape=tuple(-(-length // max(chunk, 1)) for length, chunk in sizes),
        chunks_in_region=0,
        references=0,
        missing=0,
        loaded=array.copied,
    )
