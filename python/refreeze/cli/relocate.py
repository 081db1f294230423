"""``refreeze relocate``: its options, and what it says of the container that it has moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from refreeze.cli.console import (
    Json,
    Level,
    LogLevel,
    Quiet,
    Repository,
    SourceOption,
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
    from refreeze.verbs.report import RelocateReport

__all__ = ["relocate"]


def relocate(
    target: Repository,
    *,
    from_: Annotated[
        str,
        typer.Option(
            "--from", metavar="PREFIX", help="Stored prefix of the container; status shows them."
        ),
    ],
    to: Annotated[
        str, typer.Option("--to", metavar="PREFIX", help="URL or path where its objects are now.")
    ],
    sample: Annotated[
        int, typer.Option("--sample", metavar="N", min=1, help="References read at the new place.")
    ] = 20,
    unsafe_target: UnsafeTarget = False,
    source_option: SourceOption = None,
    target_option: TargetOption = None,
    as_json: Json = False,
    quiet: Quiet = False,
    log_level: Level = LogLevel.WARNING,
    version: Version = False,
) -> None:
    """Follow a source that has moved: change its virtual chunk container after reading a sample."""
    options = store_options(target_option, "--target-option")
    new_options = store_options(source_option, "--source-option")

    def job() -> None:
        from refreeze.verbs.relocate import relocate as move

        report = move(
            target,
            from_,
            to,
            sample=sample,
            unsafe_target=unsafe_target,
            source_options=new_options,
            target_options=options,
        )
        show_report(report, _print_report, as_json=as_json, quiet=quiet)

    run_job(job, LogLevel.ERROR if quiet else log_level, as_json=as_json)


def _print_report(report: RelocateReport) -> None:
    say(f"Moved container {report.container} from {report.from_prefix} to {report.to_prefix}.")
    say(
        f"{count(report.sampled, 'reference')} of {report.references:,} read at the new place; "
        "no manifest was changed."
    )
