"""``refreeze status``: the ingests that a repository knows of, a line each."""

from __future__ import annotations

from refreeze.cli.console import (
    Json,
    Level,
    LogLevel,
    Quiet,
    Repository,
    TargetOption,
    Version,
    count,
    print_json,
    run_job,
    say,
    store_options,
)
from refreeze.runtime.command import begin_result

__all__ = ["status"]


def status(
    target: Repository,
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
        from refreeze.verbs.status import status as read

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
        for container in report.containers:
            say(f"container {container.name or '(no name)'}  {container.url_prefix}")

    run_job(job, LogLevel.ERROR if quiet else log_level, as_json=as_json)
