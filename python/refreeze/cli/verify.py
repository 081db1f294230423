"""``refreeze verify``: whether a repository says of its sources what they are now."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refreeze.cli.console import (
    Array,
    Concurrency,
    Ended,
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
    from refreeze.verbs.verify import VerifyReport

__all__ = ["verify"]

_DIFFERENT = 1


def verify(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE... TARGET",
            help="As for ingest: the sources that TARGET was made of, or some of them.",
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
    branch: Annotated[str, typer.Option(help="Branch to compare with.")] = "main",
    region: RegionOption = None,
    sample: Annotated[
        int,
        typer.Option(
            metavar="N", help="Also read N random references, from the source and through Icechunk."
        ),
    ] = 0,
    output: Annotated[
        Path | None,
        typer.Option(help="Write every difference: .parquet, .arrow (IPC file) or .csv."),
    ] = None,
    memory: Annotated[
        str, typer.Option(help="Bound on all memory that grows with the work.")
    ] = DEFAULT_MEMORY,
    max_document: MaxDocument = DEFAULT_MAX_DOCUMENT,
    concurrency: Concurrency = DEFAULT_CONCURRENCY,
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
    """List sources again and compare them with a repository, reference by reference.

    Metadata and copied coordinates are compared too. Nothing is written to the target. The exit
    code is 1 if anything differs.
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
        from refreeze.verbs.verify import verify as run

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
                sample=sample,
                output=output,
                memory=memory,
                max_document=max_document,
                concurrency=concurrency,
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
        if not report.equal:
            raise Ended(_DIFFERENT)

    run_job(job, LogLevel.ERROR if quiet else log_level, as_json=as_json)


def _print_report(report: VerifyReport) -> None:
    checked = count(report.checked, "chunk")
    read = f", {count(report.sampled, 'reference')} read both ways" if report.sampled else ""
    if report.equal:
        say(f"Equal: {checked} compared{read}, {report.elapsed_s:.1f} s.")
        return
    say(f"Different: {checked} compared{read}, {report.elapsed_s:.1f} s.")
    for kind, number in report.kinds.items():
        say(f"  {kind}: {number:,}")
        for example in [one for one in report.examples if one["kind"] == kind][:3]:
            at = "" if example["coordinates"] is None else f" {example['coordinates']}"
            sides = ", ".join(
                f"{side} {shown(json.dumps(example[side]))}"
                for side in ("source", "target")
                if example[side] is not None
            )
            say(f"    {shown(example['array'])}{at}: {sides}")
    if report.output is not None:
        say(f"All of them are in {report.output}.")
    elif report.stale or report.changed:
        say("refreeze sync makes the repository equal to its source again.")
