"""``refreeze publish``: its options, and what it says of the ingest that it has published."""

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
    run_job,
    say,
    show_report,
    store_options,
)

if TYPE_CHECKING:
    from refreeze.verbs.report import PublishReport

__all__ = ["publish"]


def publish(
    target: Repository,
    *,
    run: Annotated[
        str | None, typer.Option("--run", help="The run, when several are staged.")
    ] = None,
    rebase: Annotated[
        bool, typer.Option("--rebase", help="Put it on the branch's tip if the branch has moved.")
    ] = False,
    unsafe_target: UnsafeTarget = False,
    target_option: TargetOption = None,
    as_json: Json = False,
    quiet: Quiet = False,
    log_level: Level = LogLevel.WARNING,
    version: Version = False,
) -> None:
    """Publish an ingest that was left staged (ingest --no-publish, or after a conflict)."""
    options = store_options(target_option, "--target-option")

    def job() -> None:
        from refreeze.verbs.publish import publish as run_publish

        report = run_publish(
            target,
            run=run,
            rebase=rebase,
            unsafe_target=unsafe_target,
            target_options=options,
        )
        show_report(report, _print_report, as_json=as_json, quiet=quiet)

    run_job(job, LogLevel.ERROR if quiet else log_level, as_json=as_json)


def _print_report(report: PublishReport) -> None:
    moved = ", on top of its new tip" if report.rebased else ""
    say(f"Published {report.run_id} on branch {report.branch}{moved}.")
    say(f"Snapshot {report.snapshot_id}.")
