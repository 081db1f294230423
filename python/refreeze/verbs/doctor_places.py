"""Looks at a source and a target as an ingest would: reachable, listed in order, safe to write.

Whatever goes wrong is a finding, with the message and the hint that an ingest would end with. A
target gets one small object, or a folder without a name, that is removed at once.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import ConflictError, RefreezeError, TargetNotFoundError
from refreeze.shown import one_line
from refreeze.stores.kinds import kind_of
from refreeze.stores.resolve import (
    LocalTarget,
    NotInThisVersionError,
    resolve_source,
    resolve_target,
    shown_url,
)
from refreeze.stores.server_clock import clock_difference, endpoint_of
from refreeze.verbs.doctor_report import Check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from refreeze.stores.resolve import Options, Source
    from refreeze.verbs.doctor_report import State

__all__ = ["check_source", "check_target"]

_BUCKETS = ("S3Store", "GCSStore", "AzureStore")
_ROOT_DOCUMENTS = {
    "zarr.json": "a Zarr version 3 node",
    ".zgroup": "a Zarr version 2 group",
    ".zarray": "a Zarr version 2 array",
}
_LARGEST = 64_000_000

_SECONDS_NOTED = 30
_SECONDS_REFUSED = 600
"""Icechunk refuses commits where clocks differ by more."""


def check_source(source: Any, options: Options | None) -> tuple[str, list[Check]]:
    """Look at a source; return how it may be shown, and what was found."""
    try:
        place = resolve_source(source, options)
    except (RefreezeError, NotImplementedError, TypeError, ValueError) as error:
        return _named(source), [_failed("source", "address", error)]
    checks = []
    if kind_of(place.store) in _BUCKETS:
        listed = list(_listing(place))
        checks += listed
        if any(check.state == "problem" for check in listed):
            return place.url, [*checks, *_clock("source", place.store)]
    checks.append(_content(place))
    return place.url, [*checks, *_clock("source", place.store)]


def check_target(target: Any, options: Options | None) -> tuple[str, list[Check]]:
    """Look at a target; return how it may be shown, and what was found."""
    try:
        place = resolve_target(target, options)
    except (RefreezeError, NotImplementedError, TypeError, ValueError) as error:
        return _named(target), [_failed("target", "address", error)]
    checks = [_repository(place)]
    if isinstance(place, LocalTarget):
        checks += _local(place)
    else:
        checks.append(_safe("conditional writes", place, "honoured, by eight writers at once"))
        checks += _clock("target", getattr(place, "store", None))
    return place.url, checks


def _listing(place: Source) -> Iterator[Check]:
    from refreeze import _refreeze

    began = time.monotonic()
    try:
        traits = json.loads(_refreeze.examine_listing(place.store, place.path))
    except RefreezeError as error:
        yield _failed("source", "reachable", error)
        return
    seconds = (time.monotonic() - began) / max(traits["list_requests"], 1)
    if not traits["keys"] and not traits["truncated"]:
        hint = "check the path; `refreeze doctor` of a folder above it shows whether that is there"
        yield Check("source", "reachable", "problem", "answers, and holds no object here", hint)
        return
    yield Check("source", "reachable", "ok", f"{seconds * 1000:.0f} ms a LIST request")
    tokens = "listed by continuation tokens instead, which takes longer"
    order: tuple[State, str] = {
        True: ("ok", "in the order of bytes"),
        False: ("note", f"in an order of its own: {tokens}"),
        None: ("unknown", "fewer than two keys"),
    }[traits["ascending"]]  # type: ignore[assignment] # literals
    yield Check("source", "listing order", *order)
    if traits["never_starts"]:
        yield Check("source", "start-after", "note", f"this service has none: {tokens}")
        return
    start: tuple[State, str] = {
        True: ("ok", "honoured"),
        False: ("note", f"not honoured: {tokens}"),
        None: ("unknown", "fewer than two keys"),
    }[traits["start_after"]]  # type: ignore[assignment] # literals
    yield Check("source", "start-after", *start)


def _content(place: Source) -> Check:
    from refreeze.stores.reading import Reader

    names = [*_ROOT_DOCUMENTS, ".zmetadata"]
    try:
        read = Reader(place).documents(names, limit=_LARGEST)
    except (RefreezeError, TypeError) as error:
        return _failed("source", "content", error)
    found = {name for name, document in zip(names, read, strict=True) if document is not None}
    said = [what for name, what in _ROOT_DOCUMENTS.items() if name in found]
    if not said:
        hint = "check the URL; a Zarr store has zarr.json, .zgroup or .zarray at its root"
        return Check("source", "content", "problem", "no Zarr metadata at the root", hint)
    consolidated = ", with .zmetadata" if ".zmetadata" in found else ""
    return Check("source", "content", "ok", " and ".join(said) + consolidated)


def _repository(place: Any) -> Check:
    from refreeze import _refreeze

    try:
        found = json.loads(_refreeze.status(place))
    except TargetNotFoundError:
        return Check("target", "repository", "ok", "none yet: an ingest creates one")
    except RefreezeError as error:
        return _failed("target", "repository", error)
    runs, containers = len(found["runs"]), len(found["containers"])
    unfinished = sum(run["state"] != "published" for run in found["runs"])
    what = f"there, {runs} known ingests, {unfinished} of them not published, {containers} virtual "
    return Check("target", "repository", "ok", f"{what}chunk containers")


def _local(place: LocalTarget) -> Iterator[Check]:
    folder = Path(place.path)
    exists = folder.is_dir()
    nearest = next(one for one in (folder, *folder.parents) if one.is_dir())
    try:
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(b"refreeze")
            file.flush()
            ahead = time.time() - os.fstat(file.fileno()).st_mtime
    except OSError as error:
        hint = "choose another folder, or change its permissions"
        yield Check("target", "writable", "problem", f"{nearest}: {error.strerror}", hint)
        return
    yield Check("target", "writable", "ok", str(nearest))
    if exists:
        yield _safe("locks", place, "the file system has them")
    else:
        with tempfile.TemporaryDirectory(dir=nearest, prefix="refreeze-probe-") as probe:
            yield _safe("locks", LocalTarget(probe), "the file system has them")
    yield _difference("target", ahead, "the file system's clock")


def _safe(name: str, place: Any, found: str) -> Check:
    from refreeze import _refreeze

    try:
        _refreeze.check_writes(place)
    except ConflictError as error:
        return Check("target", name, "note", f"{found}; {error.message}", error.hint)
    except RefreezeError as error:
        return _failed("target", name, error)
    return Check("target", name, "ok", found)


def _clock(subject: str, store: Any) -> list[Check]:
    endpoint = endpoint_of(store)
    if endpoint is None:
        return []
    ahead = clock_difference(endpoint)
    if ahead is None:
        return [Check(subject, "clock", "unknown", "the server tells no time")]
    return [_difference(subject, ahead, "the server's")]


def _difference(subject: str, ahead: float, whose: str) -> Check:
    seconds = abs(ahead)
    if seconds < 2:  # noqa: PLR2004 what whole seconds can tell
        return Check(subject, "clock", "ok", f"as {whose}, within two seconds")
    found = f"{seconds:.0f} s {'ahead of' if ahead > 0 else 'behind'} {whose}"
    hint = "set the clock of this machine (NTP): signatures and commits need it"
    if seconds < _SECONDS_NOTED:
        return Check(subject, "clock", "ok", found)
    return Check(subject, "clock", "note" if seconds < _SECONDS_REFUSED else "problem", found, hint)


def _failed(subject: str, name: str, error: Exception) -> Check:
    if isinstance(error, RefreezeError):
        return Check(subject, name, "problem", error.message, error.hint)
    state: State = "unknown" if isinstance(error, NotInThisVersionError) else "problem"
    return Check(subject, name, state, one_line(error))


def _named(place: Any) -> str:
    """Return how a place may be shown that could not be resolved."""
    if isinstance(place, str | os.PathLike):
        return shown_url(os.fspath(place))
    return type(place).__name__
