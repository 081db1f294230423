"""``refreeze copy``: its options, and what it says of the chunks that it has copied."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refreeze.cli.console import (
    IN_FLIGHT,
    Array,
    Json,
    Level,
    LogLevel,
    Quiet,
    RegionOption,
    Repository,
    SourceOption,
    TargetOption,
    UnsafeTarget,
    Version,
    count,
    in_flight,
    run_job,
    say,
    show_report,
    store_options,
)
from refreeze.cli.progress import ProgressDisplay
from refreeze.planning.options import DEFAULT_CONCURRENCY, DEFAULT_MEMORY

if TYPE_CHECKING:
    from refreeze.verbs.copy import CopyReport

__all__ = ["copy"]


def copy(
    target: Repository,
    *,
    array: Array = None,
    region: RegionOption = None,
    branch: Annotated[str, typer.Option(help="Branch whose references are copied.")] = "main",
    memory: Annotated[
        str, typer.Option(help="Bound on the chunks in memory at a time.")
    ] = DEFAULT_MEMORY,
    max_refs_per_commit: Annotated[
        int | None, typer.Option(help="Chunks in a commit [default: 20,000].")
    ] = None,
    concurrency: Annotated[
        Any, typer.Option(parser=in_flight, metavar=IN_FLIGHT, help="Chunks copied at a time.")
    ] = DEFAULT_CONCURRENCY,
    message: Annotated[str | None, typer.Option(help="Message of every commit.")] = None,
    no_publish: Annotated[
        bool, typer.Option("--no-publish", help="Leave the result staged, for refreeze publish.")
    ] = False,
    unsafe_target: UnsafeTarget = False,
    source_option: SourceOption = None,
    target_option: TargetOption = None,
    as_json: Json = False,
    quiet: Quiet = False,
    log_level: Level = LogLevel.WARNING,
    version: Version = False,
) -> None:
    """Turn references into native chunks, so that the repository no longer needs its sources.

    Within one bucket the service copies, otherwise the bytes go through this process. A chunk that
    has changed since it was referenced is an error; what was copied by then stays staged, and the
    same command resumes it.
    """
    sources = store_options(source_option, "--source-option")
    targets = store_options(target_option, "--target-option")
    display = ProgressDisplay(sys.stderr, quiet=quiet)

    def job() -> None:
        from refreeze.metadata.region import parse_region
        from refreeze.verbs.copy import copy as run

        with display:
            report = run(
                target,
                arrays=array,
                region=parse_region(region or []),
                branch=branch,
                memory=memory,
                max_refs_per_commit=max_refs_per_commit,
                concurrency=concurrency,
                message=message,
                no_publish=no_publish,
                unsafe_target=unsafe_target,
                source_options=sources,
                target_options=targets,
                progress=display,
            )
        show_report(report, _print_report, as_json=as_json, quiet=quiet)

    run_job(job, LogLevel.ERROR if quiet else log_level, as_json=as_json)


def _print_report(report: CopyReport) -> None:
    if report.snapshot_id is None:
        say(f"Nothing to copy: {report.target} has no such references, branch {report.branch}.")
        return
    say(
        f"{'Copied' if report.published else 'Staged'} "
        f"{count(report.chunks_copied, 'chunk')} ({report.bytes_copied:,} bytes, "
        f"{report.server_side:,} by the service itself) into {report.target}, "
        f"{count(report.commits, 'commit')}, {report.elapsed_s:.1f} s."
    )
    if report.published:
        say(f"Snapshot {report.snapshot_id}.")
    else:
        say(
            "Readers will not see it until you run\n\n"
            f"    refreeze publish {shlex.quote(report.target)} --run {report.run_id}"
        )
