"""`ingest` with ``copy``: what was committed as references is copied before it is published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from refreeze.planning.options import refs_per_commit

if TYPE_CHECKING:
    from collections.abc import Callable

    from refreeze.planning.options import IngestArguments, IngestOptions
    from refreeze.planning.request import Planned

__all__ = ["with_copies"]


def with_copies(
    report: dict[str, Any],
    location: Any,
    planned: Planned,
    *,
    options: IngestOptions,
    given: IngestArguments,
    progress: Callable[[dict[str, Any]], object] | None,
) -> dict[str, Any]:
    """Copy the chunks of an ingest that is staged, or was published before; publish it.

    Returns
    -------
    dict
        The report of the core, with what has become of the ingest.

    Raises
    ------
    MismatchError
        An object has changed since it was listed; the ingest stays staged.
    """
    from refreeze.verbs.copy import copy_run

    staged = not report["published"]
    names = tuple(array.path.strip("/") for array in planned.arrays if not array.copied)
    if not names:
        # Only coordinates, which are copied in any case.
        names = tuple(array.path.strip("/") for array in planned.arrays)
    copied = copy_run(
        location,
        names,
        {},
        branch=f"refreeze/{report['run_id']}" if staged else options.branch,
        run_id=report["run_id"] if staged else None,
        memory=options.memory,
        chunks_per_commit=refs_per_commit(given.max_refs_per_commit),
        concurrency=options.concurrency,
        message=options.message,
        publish=options.publish,
        unsafe_target=options.unsafe_target,
        source_options=given.source_options,
        progress=progress,
    )
    figures = {
        "chunks": copied.chunks_copied,
        "bytes": copied.bytes_copied,
        "server_side": copied.server_side,
    }
    changed = {
        "published": copied.published or report["published"],
        "snapshot_id": copied.snapshot_id or report["snapshot_id"],
        "commits": report["commits"] + copied.commits,
        "warnings": [*report["warnings"], *copied.warnings],
        "copied": figures,
    }
    return report | changed
