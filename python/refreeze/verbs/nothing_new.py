"""What is left of an ingest that found nothing new, so that the core has nothing to list: its report, and tidying up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import ConflictError, RefreezeError
from refreeze.planning.dispatch import listing_report
from refreeze.verbs.report import ArrayReport, IngestReport, peak_rss_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from refreeze.metadata.specs import ArraySpec
    from refreeze.planning.options import IngestOptions
    from refreeze.planning.request import Planned
    from refreeze.planning.source_slice import Store

__all__ = ["removed_leftovers", "report_of_nothing"]

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
    location: Any,
    options: IngestOptions,
    *,
    started: float,
) -> IngestReport:
    """Return the report of an ingest that had nothing to list, after tidying up.

    Parameters
    ----------
    location
        The target as the core takes it.
    started
        When it began, by `time.monotonic`.
    """
    left = removed_leftovers(location, unsafe_target=options.unsafe_target)
    snapshot = planned.base or ""
    nothing: dict[str, Any] = dict.fromkeys(_COUNTS, 0)
    return IngestReport(
        source=stores[0].url,
        sources=tuple(store.url for store in stores),
        target=location.url,
        branch=options.branch,
        mode=options.mode,
        run_id="",
        snapshot_id=snapshot,
        previous_snapshot_id=snapshot,
        published=False,
        already_published=True,
        elapsed_s=round(time.monotonic() - started, 3),
        peak_rss_bytes=peak_rss_bytes(),
        arrays=tuple(_untouched(array) for array in planned.arrays),
        warnings=(*planned.warnings, *left),
        container="",
        containers=(),
        listing=listing_report(stores),
        **nothing,
    )


def removed_leftovers(location: Any, *, unsafe_target: bool) -> tuple[str, ...]:
    """Remove what a process has left in a target that was killed right after it had published.

    The command that was killed finds nothing new when it is run again. Returns a warning where it
    cannot be done.
    """
    from refreeze import _refreeze

    try:
        _refreeze.remove_published(location, unsafe_target=unsafe_target)
    except ConflictError:
        # Another process is at work there; the next one that is alone does it.
        return ()
    except RefreezeError as error:
        return (f"what earlier runs may have left in the target stays there: {error.message}",)
    return ()


def _untouched(array: ArraySpec) -> ArrayReport:
    return ArrayReport(
        path=array.path,
        shape=array.shape,
        chunk_shape=array.chunk_shape,
        grid_shape=array.grid_shape,
        chunks_in_region=0,
        references=0,
        missing=0,
        loaded=array.copied,
    )
