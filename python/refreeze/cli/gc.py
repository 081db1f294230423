"""``refreeze gc``: its options, and what it says of the files that it has removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from refreeze.cli.console import (
    Json,
    Level,
    LogLevel,
    Quiet,
    Repository,
    TargetOption,
    UnsafeTarget,
    Version,
    count,
    run_job,
    say,
    show_report,
    store_options,
)

if TYPE_CHECKING:
    from refreeze.verbs.report import GcReport

__all__ = ["gc"]

_SHOWN = 20
"""Files that are named; ``--json`` names all."""


def gc(
    target: Repository,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what would be removed.")
    ] = False,
    older_than: Annotated[
        str,
        typer.Option(
            metavar="AGE",
            help="Keep newer files, which a worker may be about to commit: 1d, 12h, 30min.",
        ),
    ] = "1d",
    unsafe_target: UnsafeTarget = False,
    target_option: TargetOption = None,
    as_json: Json = False,
    quiet: Quiet = False,
    log_level: Level = LogLevel.WARNING,
    version: Version = False,
) -> None:
    """Remove what killed processes have left: manifests, logs and results that nothing refers to."""
    options = store_options(target_option, "--target-option")

    def job() -> None:
        from refreeze.verbs.gc import gc as run_gc

        report = run_gc(
            target,
            dry_run=dry_run,
            older_than=older_than,
            unsafe_target=unsafe_target,
            target_options=options,
        )
        show_report(report, print_files, as_json=as_json, quiet=quiet)

    def print_files(report: GcReport) -> None:
        for file in report.files[:_SHOWN]:
            say(file)
        if len(report.files) > _SHOWN:
            say(f"... and {count(len(report.files) - _SHOWN, 'more file')}")
        done = "would be removed" if dry_run else "removed"
        say(f"{count(len(report.files), 'file')}, {report.bytes:,} bytes {done}.")

    run_job(job, LogLevel.ERROR if quiet else log_level, as_json=as_json)
