"""``refreeze status``: the ingests that a repository knows of, a line each."""

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
    Version,
    count,
    run_job,
    say,
    show_report,
    store_options,
)

if TYPE_CHECKING:
    from refreeze.verbs.report import StatusReport

__all__ = ["status"]


def status(
    target: Repository,
    *,
    coverage: Annotated[
        bool,
        typer.Option(
            "--coverage",
            help="Show what is written instead, as ranges of labels; partly written chunks count.",
        ),
    ] = False,
    target_option: TargetOption = None,
    as_json: Json = False,
    quiet: Quiet = False,
    log_level: Level = LogLevel.WARNING,
    version: Version = False,
) -> None:
    """Show the ingests of a repository: unfinished, staged and published ones."""
    options = store_options(target_option, "--target-option")

    def job() -> None:
        if coverage:
            _show_coverage(target, options, as_json=as_json, quiet=quiet)
            return
        from refreeze.verbs.status import status as read

        report = read(target, target_options=options)
        show_report(
            report, lambda report: _print_report(report, target), as_json=as_json, quiet=quiet
        )

    run_job(job, LogLevel.ERROR if quiet else log_level, as_json=as_json)


def _print_report(report: StatusReport, target: str) -> None:
    if not report.runs:
        say(f"No ingests in {target}.")
    for run in report.runs:
        batches = f"{run.batches_done:,}/{count(run.batches_total, 'batch', 'batches')}"
        locked = ", at work" if run.locked else ""
        # Without a plan nobody knows how many batches there were, or which branch was meant.
        lost = run.state == "unfinished" and not run.batches_total
        done = "plan expired, begins anew" if lost else f"{batches}  branch {run.branch}"
        say(f"{run.run_id}  {run.state}{locked}  {done}  {run.last_commit_at[:19]}  {run.source}")
    for container in report.containers:
        say(f"container {container.name or '(no name)'}  {container.url_prefix}")


def _show_coverage(target: str, options: dict[str, str], *, as_json: bool, quiet: bool) -> None:
    from refreeze.cli.coverage import print_coverage
    from refreeze.exceptions import TargetNotFoundError
    from refreeze.verbs.coverage import coverage as look
    from refreeze.verbs.coverage import repository_place

    if repository_place(target, options) is None:
        raise TargetNotFoundError(f"there is no Icechunk repository at {target}", "check the path")
    report = look(target, target_options=options)
    print_coverage(report, as_json=as_json, quiet=quiet, written=True)
    if not as_json:
        say("A chunk that is partly written counts as written.")
