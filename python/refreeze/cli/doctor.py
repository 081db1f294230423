"""``refreeze doctor``: what works here and what does not, as a table to paste into an issue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from refreeze.cli.console import (
    Ended,
    Json,
    Level,
    LogLevel,
    Quiet,
    SourceOption,
    TargetOption,
    Version,
    run_job,
    say,
    show_report,
    store_options,
)
from refreeze.shown import shown

if TYPE_CHECKING:
    from refreeze.verbs.doctor_report import DoctorReport

__all__ = ["doctor"]

_PROBLEM = 1


def doctor(
    source: Annotated[
        str | None,
        typer.Argument(metavar="[SOURCE]", help="A Zarr store, or an Icechunk repository alone."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[TARGET]", help="An Icechunk repository, or where one is to be created."
        ),
    ] = None,
    *,
    source_option: SourceOption = None,
    target_option: TargetOption = None,
    as_json: Json = False,
    quiet: Quiet = False,
    log_level: Level = LogLevel.WARNING,
    version: Version = False,
) -> None:
    """Examine versions, settings (names only), a source, a target, clocks and locks.

    A target gets one small object, which is deleted again. The exit code is 1 if there is a
    problem.
    """
    source_options = store_options(source_option, "--source-option")
    target_options = store_options(target_option, "--target-option")

    def job() -> None:
        from refreeze.verbs.doctor import doctor as examine

        report = examine(
            source, target, source_options=source_options, target_options=target_options
        )
        show_report(report, _print_report, as_json=as_json, quiet=quiet)
        if not report.ok:
            raise Ended(_PROBLEM)

    run_job(job, LogLevel.ERROR if quiet else log_level, as_json=as_json)


def _print_report(report: DoctorReport) -> None:
    say("versions")
    for name, version in report.versions.items():
        say(f"  {name:<20} {version or 'not installed'}")
    say("settings, by name")
    for where, names in report.settings.items():
        say(f"  {where:<20} {', '.join(shown(name) for name in names) or 'none'}")
    places = {"source": report.source, "target": report.target}
    subject = ""
    for check in report.checks:
        if check.subject == "versions" and check.state == "ok":
            continue
        if check.subject != subject:
            subject = check.subject
            place = places.get(subject)
            say(f"checks: {subject}" + (f" {shown(place)}" if place else ""))
        say(f"  {check.name:<20} {check.state:<8} {shown(check.found)}")
        if check.hint:
            say(f"  {'':<20} {'':<8} {shown(check.hint)}")
    problems = sum(check.state == "problem" for check in report.checks)
    say("no problem found" if not problems else f"problems: {problems}")
