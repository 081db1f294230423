"""``refreeze coverage``: which chunks there are, as text, JSON, a picture or a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refreeze.cli.console import (
    Concurrency,
    Group,
    Json,
    Level,
    LogLevel,
    MaxRequests,
    Probe,
    Quiet,
    SourceOption,
    TargetOption,
    Version,
    Yes,
    run_job,
    say,
    show_report,
    store_options,
)
from refreeze.planning.options import DEFAULT_CONCURRENCY

if TYPE_CHECKING:
    from refreeze.verbs.coverage_report import Coverage

__all__ = ["coverage", "print_coverage"]

_FORMATS = (".png", ".svg", ".html", ".parquet", ".csv")
_COLORS = ("present", "size", "age")


def coverage(
    place: Annotated[
        str,
        typer.Argument(metavar="SOURCE|TARGET", help="A Zarr store or an Icechunk repository."),
    ],
    arrays: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ARRAY]...", help="Arrays to look at, globs allowed; all if none."),
    ] = None,
    *,
    group: Group = None,
    branch: Annotated[str, typer.Option(help="Branch of a repository.")] = "main",
    output: Annotated[
        Path | None,
        typer.Option(help="Write a picture (.png, .svg, .html) or a table (.parquet, .csv)."),
    ] = None,
    dims: Annotated[
        str | None,
        typer.Option(
            metavar="DIM,DIM", help="Dimensions of the picture, the horizontal one first."
        ),
    ] = None,
    color: Annotated[
        str, typer.Option(help="What colours mean: present, size or age.")
    ] = "present",
    concurrency: Concurrency = DEFAULT_CONCURRENCY,
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
    """Show which chunks exist, and what is missing as ranges of labels."""
    if output is not None and output.suffix not in _FORMATS:
        raise typer.BadParameter(
            f"{output.name} ends in none of {', '.join(_FORMATS)}", param_hint="--output"
        )
    if color not in _COLORS:
        raise typer.BadParameter(f"known: {', '.join(_COLORS)}", param_hint="--color")
    sources = store_options(source_option, "--source-option")
    targets = store_options(target_option, "--target-option")

    def job() -> None:
        from refreeze.verbs.coverage import coverage as look

        report = look(
            place,
            arrays,
            group=group,
            branch=branch,
            dims=None if dims is None else [name.strip() for name in dims.split(",")],
            concurrency=concurrency,
            probe=probe,
            yes=yes,
            max_requests_per_second=max_requests_per_second,
            source_options=sources,
            target_options=targets,
        )
        if output is not None:
            report.save(output, color=color)
        print_coverage(report, as_json=as_json, quiet=quiet)
        if output is not None and not as_json:
            say(f"Written to {output}.")

    run_job(job, LogLevel.ERROR if quiet else log_level, as_json=as_json)


def print_coverage(report: Any, *, as_json: bool, quiet: bool, written: bool = False) -> None:
    """Print a coverage as text or as JSON; if asked for with what is written."""

    def print_lines(report: Coverage) -> None:
        for line in report.lines(written=written):
            say(line)

    show_report(report, print_lines, as_json=as_json, quiet=quiet)
