"""The verbs ``status`` and ``publish``: what a repository knows of ingests, and publishing one."""

from __future__ import annotations

from typing import Annotated

import typer

from refreeze.cli.console import (
    Json,
    Level,
    LogLevel,
    Quiet,
    TargetOption,
    UnsafeTarget,
    Version,
    count,
    print_json,
    run_job,
    say,
    store_options,
)
from refreeze.runtime.command import begin_result

__all__ = ["publish", "status"]

Target = Annotated[str, typer.Argument(metavar="TARGET", help="An Icechunk repository.")]


def status(
    target: Target,
    *,
    target_option: TargetOption = None,
    as_json: Json = False,
    quiet: Quiet = False,
    log_level: Level = LogLevel.WARNING,
    version: Version = False,
) -> None:
    """Show the ingests of a repository: unfinished, staged and published ones."""
    options = store_options(target_option, "--target-option")

    def job() -> None:
        from refreeze.verbs.runs import status as read

        report = read(target, target_options=options)
        begin_result()
        if as_json:
            print_json(report.to_dict())
            return
        if not report.runs:
            say(f"No ingests in {target}.")
        for run in report.runs:
            batches = f"{run.batches_done:,}/{count(run.batches_total, 'batch', 'batches')}"
            locked = ", at work" if run.locked else ""
            # Without a plan nobody knows how many batches there were, or which branch was meant.
            lost = run.state == "unfinished" and not run.batches_total
            done = "plan expired, begins anew" if lost else f"{batches}  branch {run.branch}"
            say(
                f"{run.run_id}  {run.state}{locked}  {done}  {run.last_commit_at[:19]}  {run.source}"
            )

    run_job(job, LogLevel.ERROR if quiet else log_level, as_json=as_json)


def publish(
    target: Target,
    *,
    run: Annotated[
        str | None, typer.Option("--run", help="The run, when several are staged.")
    ] = None,
    rebase: Annotated[
        bool, typer.Option("--rebase", help="Put it on the branch's tip if that has moved.")
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
        from refreeze.verbs.runs import publish as run_publish

        report = run_publish(
            target,
            run=run,
            rebase=rebase,
            unsafe_target=unsafe_target,
            target_options=options,
        )
        begin_result()
        if as_json:
            print_json(report.to_dict())
            return
        moved = ", on the tip that it has now" if report.rebased else ""
        say(f"Published {report.run_id} on branch {report.branch}{moved}.")
        say(f"Snapshot {report.snapshot_id}.")

    run_job(job, LogLevel.ERROR if quiet else log_level, as_json=as_json)
