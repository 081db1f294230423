"""``refreeze write-region``: its options, and where it says that files went."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from refreeze.cli.console import (
    Json,
    Level,
    LogLevel,
    Quiet,
    SourceOption,
    TargetOption,
    Version,
    count,
    run_job,
    say,
    show_report,
    store_options,
)
from refreeze.cli.create_template import Branch, DropVariables, TargetGroup, Variables
from refreeze.cli.progress import FilesDisplay
from refreeze.planning.options import DEFAULT_MEMORY

if TYPE_CHECKING:
    from refreeze.writer.report import WriteReport

__all__ = ["write_region"]


def write_region(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE... TARGET",
            help="Files (NetCDF, HDF5, GRIB, Zarr), and the repository made by create-template.",
        ),
    ],
    *,
    region: Annotated[
        list[str] | None,
        typer.Option(
            "--region",
            metavar="DIM=START:STOP,...",
            help="Where the data belongs, in elements [default: found by the labels] (repeatable).",
        ),
    ] = None,
    references: Annotated[
        bool, typer.Option("--references", help="Refer to the files' chunks; copy nothing.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(help="Processes that share the files; still one commit.")
    ] = None,
    dask: Annotated[
        str | None, typer.Option("--dask", metavar="ADDRESS", help="Let a Dask cluster write.")
    ] = None,
    scheduler_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="The same, by its scheduler file.")
    ] = None,
    retries_on_missing: Annotated[
        int,
        typer.Option(help="How many times to retry values that are missing before the commit."),
    ] = 0,
    missing_check_vars: Annotated[
        str, typer.Option(metavar="all|none|NAME,...", help="Variables to check for that.")
    ] = "all",
    cast: Annotated[
        bool, typer.Option("--cast", help="Allow type conversions that may lose precision.")
    ] = False,
    packing_range_exceeded_action: Annotated[
        str, typer.Option(help="Values out of a packed range: error, clip or nan.")
    ] = "error",
    variables: Variables = None,
    drop_variables: DropVariables = None,
    group: TargetGroup = None,
    branch: Branch = "main",
    message: Annotated[str | None, typer.Option(help="Message of the commit.")] = None,
    memory: Annotated[
        str, typer.Option(help="Bound on the values that are held at a time.")
    ] = DEFAULT_MEMORY,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Find and check the regions; write nothing.")
    ] = False,
    source_option: SourceOption = None,
    target_option: TargetOption = None,
    as_json: Json = False,
    quiet: Quiet = False,
    log_level: Level = LogLevel.WARNING,
    version: Version = False,
) -> None:
    """Write files into their place in a template: one commit, even if others write at the same time."""
    if len(paths) < 2:  # noqa: PLR2004 FILE and TARGET
        raise typer.BadParameter("give a FILE and a TARGET", param_hint="FILE TARGET")
    sources = store_options(source_option, "--source-option")
    targets = store_options(target_option, "--target-option")
    display = FilesDisplay(sys.stderr, quiet=quiet)

    def job() -> None:
        from refreeze.distributed.dask_crew import cluster
        from refreeze.writer.write_region import write_region as write

        with display, cluster(dask, scheduler_file) as client:
            report = write(
                paths[:-1],
                paths[-1],
                region=region,
                references=references,
                workers=workers,
                client=client,
                retries_on_missing=retries_on_missing,
                missing_check_vars=missing_check_vars,
                cast=cast,
                packing_range_exceeded_action=packing_range_exceeded_action,
                variables=variables,
                drop_variables=drop_variables,
                group=group,
                branch=branch,
                message=message,
                memory=memory,
                dry_run=dry_run,
                progress=display,
                source_options=sources,
                target_options=targets,
            )
        show_report(report, print_regions, as_json=as_json, quiet=quiet)

    def print_regions(report: WriteReport) -> None:
        for each in report.regions:
            place = ", ".join(f"{dim}={a}:{b}" for dim, (a, b) in each["region"].items())
            say(f"{each['file']}  {place}")
        if not dry_run:
            say(
                f"{count(report.files, 'file')} written to {report.target}, snapshot "
                f"{report.snapshot_id}."
            )

    run_job(
        job,
        LogLevel.ERROR if quiet else log_level,
        as_json=as_json,
        after_interruption=lambda: "nothing was committed; run the same command again",
    )
