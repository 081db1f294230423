"""``refreeze sync``: a repository made equal to its sources as they are now."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from refreeze.cli.console import (
    Array,
    ChecksumForm,
    Concurrency,
    EmptyChunks,
    Group,
    Json,
    Level,
    ListingColumns,
    ListingFiles,
    ListingOption,
    Load,
    LogLevel,
    MaxDocument,
    MaxRequests,
    Probe,
    Quiet,
    RegionOption,
    SampleListing,
    Skip,
    SourceOption,
    TargetOption,
    UnsafeTarget,
    Version,
    Yes,
    count,
    listing_arguments,
    loadable,
    one_or_several,
    run_job,
    say,
    show_report,
    sources_and_target,
    store_options,
)
from refreeze.cli.crews import Dask, SchedulerFile, WaitForWorkers, Workers
from refreeze.cli.progress import ProgressDisplay
from refreeze.planning.options import DEFAULT_CONCURRENCY, DEFAULT_MAX_DOCUMENT, DEFAULT_MEMORY
from refreeze.shown import shown

if TYPE_CHECKING:
    from refreeze.verbs.sync import SyncReport

__all__ = ["sync"]


class NewArrays(StrEnum):
    """What becomes of arrays that the target does not have."""

    ADD = "add"
    IGNORE = "ignore"
    ERROR = "error"


def sync(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE... TARGET",
            help="As for ingest: the sources that TARGET was made of, or one of them.",
        ),
    ],
    *,
    group: Group = None,
    target_group: Annotated[
        str | None, typer.Option(help="Group of the target that the arrays are in.")
    ] = None,
    array: Array = None,
    skip: Skip = None,
    load: Load = None,
    branch: Annotated[str, typer.Option(help="Branch to publish on.")] = "main",
    region: RegionOption = None,
    new_arrays: Annotated[
        NewArrays, typer.Option(help="Arrays that the target does not have.")
    ] = NewArrays.ERROR,
    remove_arrays: Annotated[
        bool, typer.Option("--remove-arrays", help="Remove arrays that are gone from the source.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare, and write nothing.")] = False,
    empty_chunks: Annotated[
        EmptyChunks, typer.Option(help="What to do with objects of zero bytes under chunk keys.")
    ] = EmptyChunks.ERROR,
    checksum: Annotated[
        ChecksumForm | None,
        typer.Option(help="How readers notice that an object has changed [default: as it is]."),
    ] = None,
    memory: Annotated[
        str, typer.Option(help="Bound on all memory that grows with the work.")
    ] = DEFAULT_MEMORY,
    max_refs_per_commit: Annotated[
        int | None, typer.Option(help="References in a commit [default: by memory].")
    ] = None,
    max_document: MaxDocument = DEFAULT_MAX_DOCUMENT,
    concurrency: Concurrency = DEFAULT_CONCURRENCY,
    message: Annotated[str | None, typer.Option(help="Message of every commit.")] = None,
    no_publish: Annotated[
        bool, typer.Option("--no-publish", help="Leave the result staged, for refreeze publish.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Discard an unfinished run of these arrays.")
    ] = False,
    unsafe_target: UnsafeTarget = False,
    no_read_check: Annotated[
        bool, typer.Option("--no-read-check", help="Do not read a reference before publishing.")
    ] = False,
    workers: Workers = None,
    dask: Dask = None,
    scheduler_file: SchedulerFile = None,
    wait_for_workers: WaitForWorkers = 60,
    listing: ListingFiles = None,
    listing_columns: ListingColumns = None,
    listing_option: ListingOption = None,
    sample_listing: SampleListing = 0,
    probe: Probe = False,
    yes: Yes = False,
    max_requests_per_second: MaxRequests = None,
    source_option: SourceOption = None,
    target_option: TargetOption = None,
    as_json: Json = False,
    quiet: Quiet = False,
    log_level: Level = LogLevel.WARNING,
    version: Version = False,
) -> None:
    """Make a repository equal to its sources as they are now: chunks, coordinates, attributes.

    Only what differs is written, and it becomes visible in one step. If nothing has changed, there
    is no commit.
    """
    sources, target = sources_and_target(paths)
    source_options = store_options(source_option, "--source-option")
    target_options = store_options(target_option, "--target-option")
    listed = listing_arguments(
        {
            "listing": listing,
            "listing_columns": listing_columns,
            "listing_option": listing_option,
            "sample_listing": sample_listing,
        }
    )
    display = ProgressDisplay(sys.stderr, quiet=quiet)

    def job() -> None:
        from refreeze.distributed.dask_crew import cluster
        from refreeze.metadata.region import parse_region
        from refreeze.verbs.sync import sync as run

        with display, cluster(dask, scheduler_file) as client:
            report = run(
                one_or_several(sources),
                target,
                group=group,
                target_group=target_group,
                arrays=array,
                skip_variables=skip,
                loadable_variables=loadable(load),
                branch=branch,
                region=parse_region(region or []),
                new_arrays=new_arrays.value,
                remove_arrays=remove_arrays,
                dry_run=dry_run,
                empty_chunks=empty_chunks.value,
                checksum=None if checksum is None else checksum.value,
                memory=memory,
                max_refs_per_commit=max_refs_per_commit,
                max_document=max_document,
                concurrency=concurrency,
                message=message,
                no_publish=no_publish,
                restart=restart,
                unsafe_target=unsafe_target,
                no_read_check=no_read_check,
                **listed,
                probe=probe,
                yes=yes,
                max_requests_per_second=max_requests_per_second,
                source_options=source_options,
                target_options=target_options,
                client=client,
                workers=workers,
                wait_for_workers=wait_for_workers,
                progress=display,
            )
        show_report(report, _print_report, as_json=as_json, quiet=quiet)

    run_job(job, LogLevel.ERROR if quiet else log_level, as_json=as_json)


def _print_report(report: SyncReport) -> None:
    counts = (
        f"{count(report.added, 'reference')} added, {report.changed:,} changed, "
        f"{report.removed:,} removed"
    )
    if report.dry_run:
        say(f"A sync would find: {counts}. Nothing was written.")
        for one in report.examples:
            at = "" if one["coordinates"] is None else f" {one['coordinates']}"
            say(f"  {one['kind']}: {shown(one['array'])}{at} {shown(json.dumps(one['source']))}")
        return
    if report.snapshot_id is None:
        say(f"Nothing has changed: the target stays as it is, {report.elapsed_s:.1f} s.")
        return
    say(f"{'Synced' if report.published else 'Staged'}: {counts}, {report.elapsed_s:.1f} s.")
    for array in report.arrays:
        if array["added"] or array["changed"] or array["removed"]:
            say(
                f"  {shown(array['path'])}: {array['added']:,} added, {array['changed']:,} "
                f"changed, {array['removed']:,} removed"
            )
    for word, names in (("added", report.new_arrays), ("removed", report.removed_arrays)):
        if names:
            say(f"  {count(len(names), 'array')} {word}: {', '.join(map(shown, names))}")
    say(f"Snapshot {report.snapshot_id}.")
