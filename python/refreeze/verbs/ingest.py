"""`ingest`: Zarr stores into an Icechunk repository, as virtual references."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, overload

from refreeze.metadata.chunk_codec import check_chunk
from refreeze.planning.option_checks import check_options
from refreeze.planning.options import (
    DEFAULT_CONCURRENCY,
    DEFAULT_MAX_DOCUMENT,
    DEFAULT_MEMORY,
    IngestArguments,
)
from refreeze.verbs.report import ArrayReport, IngestReport, peak_rss_bytes

if TYPE_CHECKING:
    from refreeze.metadata.region import Region
    from refreeze.stores.resolve import Options
    from refreeze.verbs.plan_figures import Plan

__all__ = ["ingest"]

_log = logging.getLogger("refreeze")


@overload
def ingest(source: Any, target: Any, *, dry_run: Literal[True], **options: Any) -> Plan: ...
@overload
def ingest(
    source: Any,
    target: Any,
    *,
    group: str | None = None,
    target_group: str | None = None,
    arrays: Iterable[str] | None = None,
    skip_variables: Iterable[str] | None = None,
    loadable_variables: Iterable[str] | None = None,
    branch: str = "main",
    mode: str = "create",
    append_dim: str | None = None,
    concat_dim: str | None = None,
    region: Region | None = None,
    dry_run: Literal[False] = False,
    format: str = "icechunk",
    record_size: int = 100_000,
    empty_chunks: str = "error",
    checksum: str = "last-modified",
    locations: str = "relative",
    memory: str | int = DEFAULT_MEMORY,
    max_refs_per_commit: int | None = None,
    refs_per_manifest: int | None = None,
    max_document: str | int = DEFAULT_MAX_DOCUMENT,
    concurrency: int | str = DEFAULT_CONCURRENCY,
    message: str | None = None,
    no_publish: bool = False,
    restart: bool = False,
    expect_complete: bool = False,
    expect_count: int | None = None,
    unsafe_target: bool = False,
    no_read_check: bool = False,
    copy: bool = False,
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
) -> IngestReport: ...
@overload
def ingest(source: Any, target: Any, *, dry_run: bool, **options: Any) -> IngestReport | Plan: ...
def ingest(  # type: ignore[misc]  # only the second form names the options
    source: Any,
    target: Any,
    *,
    group: str | None = None,
    target_group: str | None = None,
    arrays: Iterable[str] | None = None,
    skip_variables: Iterable[str] | None = None,
    loadable_variables: Iterable[str] | None = None,
    branch: str = "main",
    mode: str = "create",
    append_dim: str | None = None,
    concat_dim: str | None = None,
    region: Region | None = None,
    dry_run: bool = False,
    format: str = "icechunk",  # noqa: A002 the name of the option
    record_size: int = 100_000,
    empty_chunks: str = "error",
    checksum: str = "last-modified",
    locations: str = "relative",
    memory: str | int = DEFAULT_MEMORY,
    max_refs_per_commit: int | None = None,
    refs_per_manifest: int | None = None,
    max_document: str | int = DEFAULT_MAX_DOCUMENT,
    concurrency: int | str = DEFAULT_CONCURRENCY,
    message: str | None = None,
    no_publish: bool = False,
    restart: bool = False,
    expect_complete: bool = False,
    expect_count: int | None = None,
    unsafe_target: bool = False,
    no_read_check: bool = False,
    copy: bool = False,
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
) -> IngestReport | Plan:
    """Ingest Zarr stores, groups or arrays into an Icechunk repository without copying chunks.

    Groups, arrays and attributes are recreated as Zarr version 3. Every chunk becomes a virtual
    reference with the object's size and last-modified time; one-dimensional dimension coordinates
    are copied, byte for byte. Everything is committed where readers do not see it (on a staging
    branch, unless an append or update fits one commit) and published in one step: readers of
    ``branch`` see the state before or the state after. If the ingest is stopped for any reason, the
    same call resumes it.

    Parameters
    ----------
    source
        Root of a Zarr version 2 or 3 store, a group, or one array (which lands under its own
        name): a local path, a URL (of a web server with ``probe``); ``(registry, url)`` with an
        ``ObjectStoreRegistry``; or ``(store, path)`` with an obstore store. Also a list of such:
        with ``concat_dim`` they are joined along it; otherwise they are merged into one group.
    target
        An Icechunk repository: a local path, ``file://`` or ``s3://`` URL,
        ``icechunk.Storage`` or ``icechunk.Repository``. It is created if it does not exist.
    group
        Group of the source to take as the root.
    target_group
        Group of the target to ingest into; it and its parents are created as needed.
    arrays, skip_variables
        Names or paths of the arrays to take or to leave out; globs are allowed.
    loadable_variables
        Names or paths of arrays whose chunks are copied as native chunks instead of referenced.
        None means one-dimensional dimension coordinates; an empty list, none at all.
    branch
        Branch to publish on.
    mode
        ``"create"``: the arrays must not exist in the target. ``"append"``: the target grows along
        ``append_dim`` or ``concat_dim``; only what is new is listed, plus a last chunk that was
        ragged. ``"overwrite"``: the target group (or the selected arrays) is replaced, and the old
        state stays in history. ``"update"``: the references of a region are made equal to the
        source.
    append_dim
        With mode append: the dimension along which the recorded source has grown.
    concat_dim
        Dimension along which several sources follow each other; with mode append, along which
        other sources follow what the target holds. All have the same arrays.
    region
        Slices by dimension name, in elements of the source, such as ``{"time": slice(0, 240)}``.
        With create and overwrite the part that is taken; with update the part that is compared;
        with append it may bound what is appended. Each begins on a chunk (shard) boundary of every
        array, and ends on one or at the array's end; coordinates need not.
    dry_run
        Return the `Plan` of what would be listed, and write nothing.
    format, record_size
        ``"icechunk"``, or ``"kerchunk-parquet"``: a reference store that fsspec, Kerchunk and
        VirtualiZarr read, with so many references in a file.
    empty_chunks
        ``"error"`` refuses an object of zero bytes under a chunk's key, ``"skip"`` treats it as a
        missing chunk.
    checksum
        How readers notice that an object has changed: ``"last-modified"``, its time to the second,
        ``"etag"``, or ``"none"`` for sources that never change and whose servers honour neither.
    locations
        ``"relative"`` references name the container and the key within it (``vcc://``);
        ``"absolute"`` ones hold the whole URL, for readers that know no named containers.
    memory
        Bound on everything that grows with the work (pages in flight, references that wait for a
        commit, manifests being built), in bytes or as text such as ``"192MiB"``.
    max_refs_per_commit
        At most this many references in a commit (default: what the memory has room for).
    refs_per_manifest
        References in one manifest (default: at most 250,000, as the memory allows; never more
        than 1,000,000); saved as the repository's manifest splitting for the new arrays.
    max_document
        Bytes that a metadata document of the source may have, or text such as ``"64MB"``; a
        larger one is refused before it is read.
    concurrency
        LIST requests in flight, over all arrays: a number, or ``"auto"``: from 64 on, more (at most
        1,024) as long as that brings more keys a second. Fewer when the service asks for it or the
        memory has no room.
    message
        Message of every commit.
    no_publish
        Leave the ingest on its staging branch, for `refreeze.publish`.
    restart
        Discard an unfinished ingest of these arrays instead of resuming it.
    expect_complete
        Publish only if no chunk is missing.
    expect_count
        Publish only if there are exactly this many references over all arrays.
    unsafe_target
        Accept a target whose store does not honour conditional writes, or a folder on a file system
        without locks. Two writers at a time may then lose commits.
    no_read_check
        Do not read one reference of each array before publishing.
    copy
        Copy the chunks into the repository instead of referring to them, as `refreeze.copy` does,
        before anything is published.
    listing
        Where the keys of the sources come from, instead of LIST requests: the manifest of an S3
        Inventory, a Storage Insights report or an Azure Blob Inventory, or a table of objects
        (Parquet, Arrow, CSV, ORC) with columns ``key``, ``size``, ``last_modified`` and
        optionally ``etag``; a path or URL, several, or an Arrow table. It does not show what
        happened after it was made: a warning says how old it is.
    listing_columns
        The names of its columns, such as ``{"key": "Key"}``, if they are not the usual ones.
    listing_options
        Settings of the store that holds it (default: ``source_options``).
    sample_listing
        Compare this many pages of it with LIST requests; differences that later writes do not
        explain are a `ListingError`.
    probe
        Request every predicted key from a web server, which cannot be listed: one request each.
    yes
        Agree to more than a million such requests, to take the answer 403 for a missing chunk where
        a server gives it for keys that cannot exist, and to use a server that answers listings as an
        S3 endpoint.
    max_requests_per_second
        At most this many requests a second to list the sources (to a web server: of any kind), for
        all workers together.
    source_options, target_options
        Settings of the object stores (``endpoint``, ``region``, ``skip_signature``, …), which
        take precedence over the environment.
    executor
        An executor of `concurrent.futures` (threads, spawned processes, a cluster's) whose workers
        list and write; this process commits what they give back.
    client
        The same with a ``distributed.Client`` of a Dask cluster.
    workers
        The same with this many processes on this machine.
    wait_for_workers
        Seconds to wait for the first worker of an empty cluster.
    progress
        Called with a dictionary of figures, at most ten times a second. The same figures go to
        the logger ``refreeze`` at level INFO with every commit, in the record's attribute
        ``refreeze``.

    Returns
    -------
    IngestReport
        What was written. Running the very same ingest again writes nothing and says so. With
        ``dry_run`` a `Plan`.

    Raises
    ------
    TypeError, ValueError
        An argument has a wrong type, or arguments do not fit together: ``update`` without a region,
        ``append`` without a dimension.
    refreeze.exceptions.RegionError
        A region that does not align, is empty, names a dimension that no array has, or does not
        begin where the target ends.
    refreeze.exceptions.SourceNotFoundError
        Nothing is at the source, or a selected group or array is not in it.
    refreeze.exceptions.UnsupportedArrayError
        An array that cannot be referenced, or an empty chunk.
    refreeze.exceptions.TargetNotFoundError
        There is no array to append to or to update.
    refreeze.exceptions.AlreadyExistsError
        An array exists in the target already, or differs between two sources that are to be merged.
    refreeze.exceptions.MismatchError
        Sources do not fit each other or the target: another shape, data type, codec, chunk shape or
        unit; another source; a source that has shrunk. Or a virtual chunk container in the target
        contradicts the source, or an unfinished ingest of these arrays had other options or another
        source.
    refreeze.exceptions.IncompleteError
        ``expect_complete`` or ``expect_count`` is not met; nothing is published.
    refreeze.exceptions.ListingError
        A listing that failed or cannot be trusted.
    refreeze.exceptions.TargetError
        The target is not an Icechunk repository, is one of spec version 1, cannot be written, or
        does not honour conditional writes.
    refreeze.exceptions.ConflictError
        The branch has moved in the meantime (the ingest stays staged), or another process is
        ingesting into the same folder.
    refreeze.exceptions.AccessError
        Credentials or permissions were refused.

    Examples
    --------
    >>> report = refreeze.ingest("air.zarr", "air.icechunk")  # doctest: +SKIP
    >>> report.references_written  # doctest: +SKIP
    1200

    Append what is new every day, then the next year's store:

    >>> refreeze.ingest("air.zarr", "air.icechunk", mode="append", append_dim="time")  # doctest: +SKIP
    >>> refreeze.ingest("2025.zarr", "air.icechunk", mode="append", concat_dim="time")  # doctest: +SKIP
    """
    given = locals()
    arguments = IngestArguments.of(given)
    started = time.monotonic()
    from refreeze import _refreeze
    from refreeze.distributed.choice import crew_at_work
    from refreeze.planning.preparation import prepared
    from refreeze.planning.probing import check_requests
    from refreeze.runtime.memory import return_large_blocks, share_free_memory
    from refreeze.shown import shown
    from refreeze.stores.resolve import resolve_target
    from refreeze.verbs.ingest_kerchunk import check_format, ingest_kerchunk
    from refreeze.verbs.nothing_new import report_of_nothing
    from refreeze.verbs.opened import crew_for, places_for

    check_options(given)
    check_format(format, record_size, copy=copy)
    crew = crew_for(given)
    return_large_blocks()
    if copy:
        share_free_memory()
    ready = prepared(source, target, arguments, figures_only=dry_run)
    stores, location, options = ready.stores, ready.location, ready.options
    places = places_for(ready.sources, target, given, options)
    if format != "icechunk" and not dry_run:
        return ingest_kerchunk(
            stores,
            resolve_target(target, target_options),
            ready.sources.selection,
            ready.request,
            options,
            record_size=record_size,
            progress=progress,
        )
    planned = ready.planned
    if not dry_run and not planned.nothing_new:
        check_requests(planned.arrays, stores)
    if dry_run:
        from refreeze.verbs.dry_run import plan_of

        return plan_of(planned, stores, options, arguments, target)
    if planned.nothing_new:
        return report_of_nothing(planned, stores, location(), options, started=started)
    with crew_at_work(crew, places):
        report = json.loads(
            _refreeze.ingest(
                [(store.source.store, store.source.path) for store in stores],
                location(),
                source_urls=[store.url for store in stores],
                groups=planned.groups,
                arrays=planned.arrays,
                options=replace(
                    options,
                    base=planned.base,
                    replaced=planned.replaced,
                    # What is copied is published together with it.
                    publish=options.publish and not copy,
                ),
                decoder=check_chunk,
                progress=CommitLog(progress),
                crew=crew,
            )
        )
    if copy:
        from refreeze.verbs.ingest_copy import with_copies

        report = with_copies(
            report, location(), planned, options=options, given=arguments, progress=progress
        )
    if crew is not None and "work_plan" in report:
        crew.document = report.pop("work_plan")
    noted = getattr(location(), "notes", ())
    report["warnings"] = tuple(
        shown(warning)
        for warning in (
            *(*planned.warnings, *noted, *getattr(crew, "warnings", ())),
            *report["warnings"],
        )
    )
    report["arrays"] = tuple(_array_report(array) for array in report["arrays"])
    report["containers"] = tuple(report["containers"])
    return IngestReport(
        sources=tuple(store.url for store in stores),
        mode=mode,
        elapsed_s=round(time.monotonic() - started, 3),
        peak_rss_bytes=peak_rss_bytes(),
        listing=ready.listing,
        **report,
    )


class CommitLog:
    """Passes progress on, and logs every commit."""

    def __init__(self, progress: Callable[[dict[str, Any]], object] | None) -> None:
        self._progress = progress
        self._commits = 0

    def __call__(self, event: dict[str, Any]) -> None:
        """Take an event of the core."""
        if event["commits"] > self._commits:
            self._commits = event["commits"]
            _log.info(
                "commit %d: %d references so far",
                event["commits"],
                event["references_written"],
                extra={"refreeze": dict(event)},
            )
        if self._progress is not None:
            self._progress(event)


def _array_report(array: dict[str, Any]) -> ArrayReport:
    shapes = {name: tuple(array[name]) for name in ("shape", "chunk_shape", "grid_shape")}
    # Those of all arrays together are in the report; `refreeze.sync` has them for each.
    counts = {"added", "changed", "removed"}
    fields = {name: value for name, value in array.items() if name not in counts}
    return ArrayReport(**(fields | shapes))
