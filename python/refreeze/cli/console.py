"""What all verbs of the command line share: running a job, exit codes, errors, common options.

Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from refreeze import __version__
from refreeze.exceptions import RefreezeError
from refreeze.planning.options import requests_in_flight
from refreeze.runtime import command
from refreeze.shown import ShownFormatter, one_line, redacted, shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = [
    "IN_FLIGHT",
    "USAGE",
    "Array",
    "ChecksumForm",
    "Concurrency",
    "EmptyChunks",
    "Ended",
    "Group",
    "Json",
    "Level",
    "ListingColumns",
    "ListingFiles",
    "ListingOption",
    "Load",
    "LogLevel",
    "MaxDocument",
    "MaxRequests",
    "Probe",
    "Quiet",
    "RegionOption",
    "Repository",
    "SampleListing",
    "Skip",
    "SourceOption",
    "TargetOption",
    "Terminated",
    "UnsafeTarget",
    "Version",
    "Yes",
    "count",
    "fail",
    "in_flight",
    "listing_arguments",
    "loadable",
    "one_or_several",
    "print_json",
    "run_job",
    "say",
    "show_report",
    "show_warnings",
    "sources_and_target",
    "store_options",
]

FAILED = 1
USAGE = 2
INTERRUPTED = 130
TERMINATED = 143


class LogLevel(StrEnum):
    """Levels of ``--log-level``."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class EmptyChunks(StrEnum):
    """What to do with objects of zero bytes under chunk keys."""

    ERROR = "error"
    SKIP = "skip"


class ChecksumForm(StrEnum):
    """How readers notice that an object has changed."""

    LAST_MODIFIED = "last-modified"
    ETAG = "etag"
    NONE = "none"


class Ended(BaseException):
    """Carries an exit code past Typer, which has a code of its own for interruptions."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Terminated(BaseException):
    """SIGTERM arrived."""


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"refreeze {__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr unless it fails.")]
Level = Annotated[LogLevel, typer.Option("--log-level", help="Messages to show on stderr.")]
IN_FLIGHT = "auto|<int>"


def in_flight(text: str) -> int | str:
    """Read a number or a word; what is neither is wrong usage before anything is looked at."""
    try:
        return requests_in_flight(int(text) if text.isdecimal() else text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Concurrency = Annotated[
    Any,
    typer.Option(
        parser=in_flight,
        metavar=IN_FLIGHT,
        help="LIST requests in flight; auto begins with 64 and finds how many help.",
    ),
]
Repository = Annotated[str, typer.Argument(metavar="TARGET", help="An Icechunk repository.")]
Group = Annotated[str | None, typer.Option(help="Group of the source to take.")]
Array = Annotated[
    list[str] | None,
    typer.Option("--array", help="Take only this array (repeatable, globs)."),
]
MaxDocument = Annotated[str, typer.Option(help="Largest metadata document to read, such as 64MB.")]
Skip = Annotated[
    list[str] | None,
    typer.Option("--skip-variable", "--skip", help="Leave this array out (repeatable, globs)."),
]
RegionOption = Annotated[
    list[str] | None,
    typer.Option(
        "--region",
        metavar="DIM=START:STOP",
        help="Elements along a dimension, on chunk boundaries (repeatable).",
    ),
]
Load = Annotated[
    list[str] | None,
    typer.Option(
        "--loadable-variable",
        "--load",
        help="Copy this array's chunks instead of referencing them (repeatable, globs; "
        "'none' for no array). Default: one-dimensional dimension coordinates.",
    ),
]
SourceOption = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Setting of the source's store (repeatable)."),
]
TargetOption = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Setting of the target's store (repeatable)."),
]

ListingFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--listing",
        metavar="FILE|URL",
        help="Take the keys from an inventory's manifest or a table, not from LIST requests "
        "(repeatable).",
    ),
]
ListingColumns = Annotated[
    str | None,
    typer.Option(metavar="key=NAME,...", help="What the columns of the listing are called."),
]
ListingOption = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Setting of the listing's store (repeatable)."),
]
SampleListing = Annotated[
    int, typer.Option(metavar="N", help="Compare N pages of the listing with LIST requests.")
]
Probe = Annotated[
    bool,
    typer.Option("--probe", help="Request every predicted key from a web server, one by one."),
]
Yes = Annotated[
    bool,
    typer.Option(
        "--yes",
        help="Agree to more than a million requests, to 403 for missing chunks, and to the use of a "
        "web server that answers listings as an S3 endpoint.",
    ),
]
MaxRequests = Annotated[
    float | None,
    typer.Option(
        "--max-requests-per-second",
        metavar="N",
        help="Limit of requests a second to the sources, for all workers together.",
    ),
]

UnsafeTarget = Annotated[
    bool,
    typer.Option("--unsafe-target", help="Accept a target that may lose concurrent commits."),
]


def run_job(
    job: Callable[[], None],
    level: LogLevel,
    *,
    as_json: bool,
    after_interruption: Callable[[], str] = lambda: "run the same command again",
) -> None:
    """Run a job; whatever it raises becomes a message and an exit code.

    Before it prints its result it calls `refreeze.runtime.command.begin_result`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(ShownFormatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=level.value.upper(), handlers=[handler])
    logging.captureWarnings(capture=True)
    command.begin(after_interruption)
    try:
        with _sigterm_raises():
            job()
    except (KeyboardInterrupt, Terminated) as stop:
        raise _stopped(stop, after_interruption, as_json=as_json) from None
    except RefreezeError as error:
        fail(type(error).__name__, error.message, error.hint, as_json=as_json)
        raise Ended(FAILED) from None
    except (NotImplementedError, TypeError, ValueError) as error:
        # Wrong arguments; anything that is wrong with data is a RefreezeError.
        logging.getLogger("refreeze").debug("wrong usage", exc_info=True)
        hint = "see refreeze --help"
        fail("UsageError", str(error), hint, as_json=as_json)
        raise Ended(USAGE) from None
    except Exception as error:
        if isinstance(error, OSError) and command.printing():
            # Standard output takes no more; `command.run` knows what that means.
            raise
        logging.getLogger("refreeze").debug("internal error", exc_info=True)
        message = f"internal error: {type(error).__name__}: {one_line(error)}"
        hint = "run again with --log-level debug and report what it shows"
        fail("InternalError", message, hint, as_json=as_json)
        raise Ended(FAILED) from None


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Do so where the process is not the command's own: there `command.run` listens to signals."""

    def terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _stopped(stop: BaseException, hint: Callable[[], str], *, as_json: bool) -> Ended:
    """Say in one line that a signal has ended the job, unless `command.run` says it."""
    terminated = isinstance(stop, Terminated)
    word = "terminated" if terminated else "interrupted"
    if not command.stopping():
        print(f"error: {word}: {hint()}", file=sys.stderr)
        if as_json:
            _print_error(type(stop).__name__, word, hint())
    return Ended(TERMINATED if terminated else INTERRUPTED)


def fail(kind: str, message: str, hint: str | None, *, as_json: bool) -> None:
    """Say what is wrong: lines on stderr, and with ``--json`` a document on stdout."""
    command.begin_result()
    message = shown(message)
    hint = None if hint is None else shown(hint)
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    if as_json:
        _print_error(kind, message, hint)


def _print_error(kind: str, message: str, hint: str | None) -> None:
    print_json({"error": {"type": kind, "message": message, "hint": hint}})


def print_json(document: Mapping[str, object]) -> None:
    """Print the one document that ``--json`` promises, without secrets."""
    print(json.dumps(redacted(document)))


def say(text: str, *, end: str = "\n") -> None:
    """Print a result, which may be of several lines, without secrets."""
    print(redacted(text), end=end)


def store_options(pairs: list[str] | None, option: str) -> dict[str, str]:
    """Read ``KEY=VALUE`` pairs."""
    options = {}
    for pair in pairs or []:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            # The text may be a secret that was given wrongly: it is not repeated.
            raise typer.BadParameter("expected KEY=VALUE", param_hint=option)
        options[key] = value
    return options


def listing_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that say where keys come from, as the verbs of Python take them."""
    columns = None
    if given["listing_columns"] is not None:
        pairs = [pair.partition("=") for pair in given["listing_columns"].split(",")]
        columns = {role.strip(): column.strip() for role, _, column in pairs}
        if not all(columns.values()):
            raise ValueError("--listing-columns: expected key=NAME,size=NAME,…")
    options = store_options(given["listing_option"], "--listing-option")
    return {
        "listing": given["listing"] or None,
        "listing_columns": columns,
        "listing_options": options or None,
        "sample_listing": given["sample_listing"],
    }


def sources_and_target(paths: list[str]) -> tuple[list[str], str]:
    """Split the paths of a command that takes SOURCE... and TARGET."""
    if len(paths) < 2:  # noqa: PLR2004 SOURCE and TARGET
        raise typer.BadParameter("give a SOURCE and a TARGET", param_hint="SOURCE TARGET")
    return paths[:-1], paths[-1]


def loadable(names: list[str] | None) -> list[str] | None:
    """Return the arrays of ``--load`` as `refreeze.ingest` and its like take them."""
    if not names:
        return None
    return [name for name in names if name != "none"]


def one_or_several(sources: list[str]) -> str | list[str]:
    """Return sources as `refreeze.ingest` and its like take them."""
    return sources[0] if len(sources) == 1 else sources


def show_warnings(warnings: Iterable[str], *, quiet: bool) -> None:
    """Print warnings to standard error."""
    if not quiet:
        for warning in warnings:
            print(f"warning: {shown(warning)}", file=sys.stderr)


def show_report(
    report: Any, print_text: Callable[[Any], None], *, as_json: bool, quiet: bool
) -> None:
    """End a command: its warnings on standard error, then its report as JSON or as text."""
    command.begin_result()
    show_warnings(getattr(report, "warnings", ()), quiet=quiet)
    if as_json:
        print_json(report.to_dict())
    else:
        print_text(report)


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Write a number with its noun, in the plural where it belongs."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
