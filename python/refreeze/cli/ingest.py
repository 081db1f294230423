"""``refreeze ingest``: the options of the main verb, and its report for people.

Nothing is decided here that `refreeze.ingest` does not decide for Python users too.
"""

from __future__ import annotations

import shlex
import sys
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Annotated, Any

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
from refreeze.cli.plan_table import print_plan
from refreeze.cli.progress import ProgressDisplay
from refreeze.planning.options import DEFAULT_CONCURRENCY, DEFAULT_MAX_DOCUMENT, DEFAULT_MEMORY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from refreeze.verbs.plan import Plan
    from refreeze.verbs.report import IngestReport

__all__ = ["arguments_of", "carry_out", "ingest", "print_report"]


class LocationForm(StrEnum):
    """How references name their objects."""

    RELATIVE = "relative"
    ABSOLUTE = "absolute"


def ingest(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE... TARGET",
            help="SOURCE: root of a Zarr store, a group or an array; several follow each other "
            "along --concat-dim, or else are merged into one group. TARGET: an Icechunk "
            "repository, created when there is none. Local paths, file:// or s3:// URLs.",
        ),
    ],
    *,
    group: Group = None,
    target_group: Annotated[
        str | None, typer.Option(help="Group of the target to ingest into.")
    ] = None,
    array: Array = None,
    skip: Skip = None,
    load: Load = None,
    branch: Annotated[str, typer.Option(help="Branch to publish on.")] = "main",
    mode: Annotated[
        str,
        typer.Option(
            help="create: the arrays must not exist yet. append: add what is new along --append-dim "
            "or --concat-dim. overwrite: replace what is there. update: list --region again."
        ),
    ] = "create",
    append_dim: Annotated[
        str | None,
        typer.Option(metavar="DIM", help="Append what the recorded source has grown by."),
    ] = None,
    concat_dim: Annotated[
        str | None,
        typer.Option(metavar="DIM", help="Dimension along which sources follow each other."),
    ] = None,
    region: RegionOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be listed, as plan does.")
    ] = False,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="icechunk, or kerchunk-parquet: a reference store for fsspec and Kerchunk.",
        ),
    ] = "icechunk",
    record_size: Annotated[
        int, typer.Option(help="References in a file of a Kerchunk reference store.")
    ] = 100_000,
    empty_chunks: Annotated[
        EmptyChunks, typer.Option(help="What to do with objects of zero bytes under chunk keys.")
    ] = EmptyChunks.ERROR,
    checksum: Annotated[
        ChecksumForm, typer.Option(help="How readers notice that an object has changed.")
    ] = ChecksumForm.LAST_MODIFIED,
    locations: Annotated[
        LocationForm,
        typer.Option(help="References relative to a named container, or absolute URLs."),
    ] = LocationForm.RELATIVE,
    memory: Annotated[
        str, typer.Option(help="Bound on all memory that grows with the work.")
    ] = DEFAULT_MEMORY,
    max_refs_per_commit: Annotated[
        int | None, typer.Option(help="References in a commit [default: by memory].")
    ] = None,
    refs_per_manifest: Annotated[
        int | None, typer.Option(help="References in a manifest [default: by memory].")
    ] = None,
    max_document: MaxDocument = DEFAULT_MAX_DOCUMENT,
    concurrency: Concurrency = DEFAULT_CONCURRENCY,
    message: Annotated[str | None, typer.Option(help="Message of every commit.")] = None,
    no_publish: Annotated[
        bool, typer.Option("--no-publish", help="Leave the result staged, for refreeze publish.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Discard an unfinished ingest of these arrays.")
    ] = False,
    expect_complete: Annotated[
        bool, typer.Option("--expect-complete", help="Publish only if no chunk is missing.")
    ] = False,
    expect_count: Annotated[
        int | None, typer.Option(help="Publish only if there are exactly this many references.")
    ] = None,
    unsafe_target: UnsafeTarget = False,
    no_read_check: Annotated[
        bool, typer.Option("--no-read-check", help="Do not read a reference before publishing.")
    ] = False,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy the chunks instead of referring to them.")
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
    """Write virtual references to the chunks of Zarr stores into an Icechunk repository.

    Metadata is recreated as Zarr version 3, coordinates are copied, all other chunks stay where
    they are. Everything becomes visible on the branch in one step, or not at all.
    """
    given = locals()
    sources, target = sources_and_target(paths)
    carry_out(sources, target, given)


def arguments_of(
    given: Mapping[str, Any], source_options: dict[str, str], target_options: dict[str, str]
) -> dict[str, Any]:
    """Return the options of the command as `refreeze.ingest` takes them."""
    from refreeze.metadata.region import parse_region
    from refreeze.planning.options import IngestArguments

    renamed = {
        "format": given["format_"],
        "arrays": given["array"],
        "skip_variables": given["skip"],
        "loadable_variables": loadable(given["load"]),
        "region": parse_region(given["region"] or []),
        **listing_arguments(given),
        "source_options": source_options,
        "target_options": target_options,
    }
    options = {
        name: renamed[name] if name in renamed else given[name]
        for name in IngestArguments.__dataclass_fields__
    }
    return {n: value.value if isinstance(value, Enum) else value for n, value in options.items()}


def carry_out(sources: list[str], target: str | None, given: Mapping[str, Any]) -> None:
    """Run an ingest, or show what it would take; ``given`` are the options of the command."""
    source_options = store_options(given["source_option"], "--source-option")
    target_options = store_options(given["target_option"], "--target-option")
    quiet, as_json, level = given["quiet"], given["as_json"], given["log_level"]
    dry_run = given["dry_run"]
    display = ProgressDisplay(sys.stderr, quiet=quiet)

    def job() -> None:
        from refreeze.distributed.dask_crew import cluster
        from refreeze.verbs.ingest import ingest as run
        from refreeze.verbs.plan import plan as compute

        source = one_or_several(sources)
        arguments = arguments_of(given, source_options, target_options)
        report: IngestReport | Plan
        with display, cluster(given.get("dask"), given.get("scheduler_file")) as client:
            if dry_run:
                report = compute(source, target, **arguments)
            else:
                report = run(
                    source,
                    target,
                    **arguments,
                    dry_run=False,
                    client=client,
                    workers=given["workers"],
                    wait_for_workers=given["wait_for_workers"],
                    progress=display,
                )
        show_report(report, as_text, as_json=as_json, quiet=quiet)

    def as_text(report: IngestReport | Plan) -> None:
        from refreeze.stores.buckets import said_by_url
        from refreeze.verbs import plan

        if isinstance(report, plan.Plan):
            print_plan(report)
            return
        print_report(
            report,
            given["target_group"],
            said_by_url(sources[0], source_options, report.source),
            said_by_url(target or "", target_options),
        )

    run_job(
        job,
        LogLevel.ERROR if quiet else level,
        as_json=as_json,
        after_interruption=lambda: (
            _NOTHING_PLANNED if dry_run else _AFTER.get(display.stage, _NOTHING_PUBLISHED)
        ),
    )


_NOTHING_PLANNED = "nothing was changed; run the same command again"
_NOTHING_PUBLISHED = "nothing was published; run the same command again to resume"
_AFTER = {
    "publish": "it was being published; run the same command again to see whether it was",
    "done": "everything was published before; there is nothing left to do",
}
"""What to say after an interruption, by the stage in which it came."""


def print_report(
    report: IngestReport,
    target_group: str | None,
    source_options: dict[str, str],
    target_options: dict[str, str],
) -> None:
    """Print what has become of an ingest, for people."""
    from refreeze.cli.snippet import opening_lines

    if not report.run_id:
        say(f"Nothing new: the target stays as it is, in snapshot {report.snapshot_id}.")
        return
    named = ", ".join(report.sources)
    if not report.snapshot_id and report.published:
        say(
            f"Ingested {named} into the reference store {report.target}: "
            f"{count(report.references_written, 'reference')}, "
            f"{count(report.list_requests, 'request')}, {report.elapsed_s:.1f} s."
        )
        say(f'\nOpen it:\n\nxarray.open_dataset({report.target!r}, engine="kerchunk")')
        return
    if not report.published:
        say(
            f"Staged {named} for {report.target}, branch {report.branch}: "
            f"{count(report.references_written, 'reference')}, "
            f"{count(report.commits, 'commit')}, {report.elapsed_s:.1f} s. "
            f"Readers will not see it until you run\n\n    refreeze publish {shlex.quote(report.target)} "
            f"--run {report.run_id}"
        )
        return
    if report.already_published:
        say(f"Nothing to do: the target already holds all of it, in snapshot {report.snapshot_id}.")
    else:
        say(
            f"{_DONE[report.mode]} {named} {_WHERE[report.mode]} {report.target}, branch {report.branch}: "
            f"{count(len(report.arrays), 'array')}, "
            f"{count(report.references_written, 'reference')} "
            f"({report.bytes_referenced:,} bytes {_stay(report)}), "
            f"{count(report.commits, 'commit')}, {report.elapsed_s:.1f} s."
        )
        say(f"Snapshot {report.snapshot_id}.")
        _print_changes(report)
    say("\nOpen it:\n")
    say(
        opening_lines(
            report,
            target_group=target_group,
            source_options=source_options,
            target_options=target_options,
        ),
        end="",
    )


def _stay(report: IngestReport) -> str:
    if report.copied is None:
        return "stay where they are"
    return f"; {count(report.copied['chunks'], 'chunk')} copied"


_DONE = {
    "create": "Ingested",
    "append": "Appended",
    "overwrite": "Ingested",
    "update": "Compared",
}
_WHERE = {"create": "into", "append": "to", "overwrite": "into", "update": "with"}


def _print_changes(report: IngestReport) -> None:
    """Say what has become of what stood there, and how to go back."""
    if report.mode == "update":
        say(
            f"{count(report.added, 'reference')} added, {report.changed:,} changed, "
            f"{report.removed:,} removed."
        )
    if report.mode == "overwrite" and report.previous_snapshot_id:
        say(
            f"The previous state is in snapshot {report.previous_snapshot_id}; to go back, "
            f"with repo as below: repo.reset_branch({report.branch!r}, "
            f"{report.previous_snapshot_id!r})"
        )
