"""``refreeze work`` and ``refreeze commit``: an ingest by batch jobs.

Both read the plan that ``refreeze plan --output`` has written.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from refreeze.cli.console import (
    IN_FLIGHT,
    Json,
    Level,
    LogLevel,
    Quiet,
    SourceOption,
    TargetOption,
    Version,
    count,
    in_flight,
    print_json,
    run_job,
    say,
    show_report,
    store_options,
)
from refreeze.cli.progress import ProgressDisplay
from refreeze.runtime.command import begin_result

__all__ = ["commit", "work"]

PlanFile = Annotated[
    str, typer.Argument(metavar="PLAN", help="What refreeze plan --output has written.")
]


def work(
    plan: PlanFile,
    *,
    part: Annotated[
        str, typer.Option(metavar="I/N", help="Which part of the plan, from 0/N to N-1/N.")
    ],
    memory: Annotated[
        str | None, typer.Option(help="Bound on all memory that grows [default: the plan's].")
    ] = None,
    concurrency: Annotated[
        Any,
        typer.Option(
            parser=in_flight,
            metavar=IN_FLIGHT,
            help="LIST requests in flight [default: a share of auto].",
        ),
    ] = None,
    source_option: SourceOption = None,
    target_option: TargetOption = None,
    as_json: Json = False,
    quiet: Quiet = False,
    log_level: Level = LogLevel.WARNING,
    version: Version = False,
) -> None:
    """Do a part of an ingest: list its chunks and write their manifests. Nothing is committed.

    Any number of these may run, in any order and repeatedly: what is done is not done twice.
    """
    source_options = store_options(source_option, "--source-option")
    target_options = store_options(target_option, "--target-option")

    def job() -> None:
        from refreeze.verbs.batch_queue import work as run

        report = run(
            plan,
            part,
            memory=memory,
            concurrency=concurrency,
            source_options=source_options,
            target_options=target_options,
        )
        begin_result()
        if as_json:
            print_json(report)
        elif report["over"]:
            say(f"Nothing to do: the run {report['run_id']} was published or discarded.")
        else:
            say(
                f"Part {part} is done: {count(report['units'], 'unit')} with "
                f"{count(report['references'], 'reference')}, ready for refreeze commit."
            )

    run_job(job, LogLevel.ERROR if quiet else log_level, as_json=as_json)


def commit(
    plan: PlanFile,
    *,
    source_option: SourceOption = None,
    target_option: TargetOption = None,
    as_json: Json = False,
    quiet: Quiet = False,
    log_level: Level = LogLevel.WARNING,
    version: Version = False,
) -> None:
    """Commit what the workers of a plan have done, and publish it if all parts are done."""
    source_options = store_options(source_option, "--source-option")
    target_options = store_options(target_option, "--target-option")
    display = ProgressDisplay(sys.stderr, quiet=quiet)

    def job() -> None:
        from refreeze.cli.ingest import print_report
        from refreeze.verbs.batch_queue import commit as run
        from refreeze.work import WorkPlan

        options = WorkPlan.read(plan)
        with display:
            report = run(
                plan,
                source_options=source_options,
                target_options=target_options,
                progress=display,
            )
        show_report(
            report,
            lambda report: print_report(
                report,
                options.ingest.get("target_group"),
                options.source_options | source_options,
                options.target_options | target_options,
            ),
            as_json=as_json,
            quiet=quiet,
        )

    run_job(job, LogLevel.ERROR if quiet else log_level, as_json=as_json)
