"""`ingest` with ``format="kerchunk-parquet"``: which options go with it, and its report.

Writing is the business of `refreeze.export.kerchunk_parquet`.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from refreeze.planning.dispatch import listing_report
from refreeze.shown import shown
from refreeze.verbs.report import ArrayReport, IngestReport, peak_rss_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from refreeze.metadata.selection import Selection
    from refreeze.planning.options import IngestOptions
    from refreeze.planning.request import Request
    from refreeze.planning.source_slice import Store

__all__ = ["FORMATS", "check_format", "ingest_kerchunk"]

FORMATS = ("icechunk", "kerchunk-parquet")
_LEAST_RECORD_SIZE = 1


def check_format(name: Any, record_size: Any, *, copy: bool = False) -> None:
    """Check the format, and what goes with it.

    Raises
    ------
    TypeError, ValueError
        One of them cannot be.
    """
    if name not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {name!r}")
    if isinstance(record_size, bool) or not isinstance(record_size, int):
        raise TypeError(f"record_size is a number, not {record_size!r}")
    if record_size < _LEAST_RECORD_SIZE:
        raise ValueError(f"record_size must be at least {_LEAST_RECORD_SIZE}, not {record_size}")
    if copy and name != "icechunk":
        raise ValueError(f"copy goes with a repository: the format {name} holds references")


def ingest_kerchunk(
    stores: Sequence[Store],
    location: Any,
    selection: Selection,
    request: Request,
    options: IngestOptions,
    *,
    record_size: int,
    progress: Callable[[dict[str, Any]], object] | None,
) -> IngestReport:
    """Write a Kerchunk Parquet reference store.

    Raises
    ------
    ValueError
        Options that only a repository has.
    """
    started = time.monotonic()
    refused = {
        "a mode other than create": request.mode != "create",
        "concat_dim or several sources": request.concat_dim is not None or len(stores) > 1,
        "region": bool(request.region),
        "no_publish": not options.publish,
        "message": options.message is not None,
        "loadable_variables": bool(selection.loadable_variables),
        "branch": options.branch != "main",
        # Kerchunk knows neither times nor tags; its locations are whole URLs in any case.
        "checksum etag": options.checksum == "etag",
    }
    for what, is_given in refused.items():
        if is_given:
            raise ValueError(f"{what} does not go with the format kerchunk-parquet")
    # Its imports are not worth their time where the format is another.
    from refreeze.export.kerchunk_parquet import write_kerchunk_parquet

    (store,) = stores
    outcome = write_kerchunk_parquet(
        store, location, selection, options, record_size=record_size, progress=progress
    )
    arrays = []
    for spec in store.metadata.arrays:
        grid = spec.grid_shape
        references = outcome.arrays[spec.path].references
        arrays.append(
            ArrayReport(
                path=spec.path,
                shape=spec.shape,
                chunk_shape=spec.chunk_shape,
                grid_shape=grid,
                chunks_in_region=math.prod(grid),
                references=references,
                missing=math.prod(grid) - references,
                loaded=False,
            )
        )
    references = sum(written.references for written in outcome.arrays.values())
    noted = (*store.metadata.warnings, *getattr(location, "notes", ()), *outcome.warnings)
    return IngestReport(
        source=store.url,
        sources=(store.url,),
        target=location.url,
        branch="",
        mode="create",
        run_id=outcome.run_id,
        snapshot_id="",
        previous_snapshot_id=None,
        published=True,
        resumed_batches=outcome.resumed,
        commits=0,
        manifests_written=outcome.written,
        manifest_bytes=outcome.file_bytes,
        list_requests=outcome.list_requests,
        keys_listed=outcome.keys_listed,
        references_written=references,
        bytes_referenced=sum(written.bytes for written in outcome.arrays.values()),
        added=references,
        changed=0,
        removed=0,
        elapsed_s=round(time.monotonic() - started, 3),
        peak_rss_bytes=peak_rss_bytes(),
        arrays=tuple(arrays),
        warnings=tuple(shown(text) for text in noted),
        already_published=False,
        container="",
        containers=(),
        listing=listing_report(stores),
    )
