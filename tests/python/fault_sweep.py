"""Commands whose n-th request goes wrong, for any n and in any way: what the sweep of faults runs and checks.

Source and target of a command are on one S3 server behind `fault_proxy`, which counts requests to both. What becomes of
a repository is compared with an undisturbed run of the same command. Which cases are run is decided elsewhere.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

import refreeze
from fault_proxy import OF_CONTENT, Fault
from refreeze.exceptions import RefreezeError, TargetNotFoundError
from scenarios import IMPORTED, foreign_commit, local_contents, local_repository, stamp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from fault_proxy import Faults, Request
    from s3_server import S3Server

ROWS, PLACES = 2, 4
"""Chunks of the arrays that are referenced."""
KILLS = {Fault.KILLED, Fault.KILLED_AFTERWARDS}
WAYS = sorted(set(Fault) - {Fault.MISSING, Fault.HTML}, key=lambda fault: fault.value)
"""Every way but those that are lies: an object that is said not to be there, and a page of somebody else."""
SHORT_COMMITS = {"max_refs_per_commit": 3}
PATIENCE = {"timeout": "2s"}
"""Setting of stores for answers that never come."""


def days(folder: Path, start: int, stop: int, *, changed: slice = slice(0)) -> Path:
    """Write an archive of days `start` to `stop`; those that have `changed` hold other values."""
    root = zarr.open_group(folder, mode="w", zarr_format=3, attributes={"title": "archive"})
    count = stop - start
    values = np.add.outer(np.arange(start, stop) * 10, np.arange(PLACES)).astype("int32") + 1
    values[changed] += 5000
    for name in ("air", "sea/level"):
        array = root.create_array(
            name,
            shape=values.shape,
            chunks=(ROWS, PLACES),
            dtype="int32",
            fill_value=0,
            compressors=None,
            dimension_names=("time", "x"),
        )
        array[:] = values
    time = root.create_array(
        "time", shape=(count,), chunks=(4,), dtype="int64", dimension_names=("time",)
    )
    time[:] = np.arange(start, stop)
    return folder


@dataclass(frozen=True)
class Command:
    """A command, and what comes before it."""

    verb: str = "ingest"
    options: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] | None = None
    """Options of the ingest that made the target that the command finds; None: there is none."""
    first: tuple[int, int] = (0, 10)
    """Days of the archive then."""
    then: tuple[int, int] = (0, 10)
    """Days of the archive when the command runs."""
    changed: slice = slice(0)
    """Days that are other then."""
    elsewhere: bool = False
    """Whether the command reads another archive than the first."""
    foreign: bool = False
    """Whether somebody else commits in between."""

    @property
    def asks(self) -> bool:
        """Whether it answers a question, and leaves the target as it is."""
        return self.verb == "verify"


COMMANDS = {
    "ingest": Command(options=SHORT_COMMITS, then=(0, 24)),
    "append": Command(
        options={"mode": "append", "append_dim": "time", **SHORT_COMMITS}, before={}, then=(0, 17)
    ),
    "append by concatenation": Command(
        options={"mode": "append", "concat_dim": "time", **SHORT_COMMITS},
        before={},
        then=(10, 18),
        elsewhere=True,
    ),
    "overwrite": Command(
        options={"mode": "overwrite", **SHORT_COMMITS}, before={}, then=(0, 12), changed=slice(12)
    ),
    "update": Command(
        options={"mode": "update", "region": {"time": slice(2, 8)}},
        before={},
        changed=slice(2, 6),
    ),
    "sync": Command(verb="sync", options=SHORT_COMMITS, before={}, then=(0, 17), changed=slice(3)),
    "sync of little": Command(verb="sync", before={}, changed=slice(2)),
    "publish --rebase": Command(
        verb="publish",
        options={"rebase": True},
        before={"no_publish": True, **SHORT_COMMITS},
        foreign=True,
    ),
    "verify": Command(verb="verify", before={}, changed=slice(3)),
    "verify --sample": Command(verb="verify", options={"sample": 6}, before={}),
}
ASSERTED = "Repository::fetch_spec_version_labelled"
"""In Icechunk's debug builds a new repository is looked for once more, and a question that fails is a panic there."""
ANSWER = ("checked", "kinds", "sampled")
"""What two reports of a verify must have in common."""


@dataclass(frozen=True)
class Case:
    """One request of a command goes wrong in one way."""

    number: int
    """Requests before it."""
    fault: Fault


class Sweep:
    """One command on its target, again and again, each time with another fault."""

    def __init__(
        self, server: S3Server, bucket: str, seen: S3Server, faults: Faults, command: Command
    ) -> None:
        self.server, self.bucket, self.faults, self.command = server, bucket, faults, command
        self.stores = dict(seen.options)
        self.folder = server.root / bucket
        self.requests: list[Request] = []
        self.expected: Any = None
        self.answer: Any = None
        """What an undisturbed run says, of a command that asks."""

    def prepare(self, place: Path) -> None:
        """Make what the command finds, and see what it makes of it undisturbed."""
        given, command = (
            {"source_options": self.stores, "target_options": self.stores},
            self.command,
        )
        if command.before is not None:
            self.upload(days(place / "first", *command.first), "archive", 1_700_000_000)
            refreeze.ingest(self.url("archive"), self.url("before"), **command.before, **given)
        if command.verb != "publish":
            then = days(place / "then", *command.then, changed=command.changed)
            self.upload(then, self.source, 1_700_000_500)
        if command.foreign:
            foreign_commit(self.folder / "before")
        self.before = self.found("before") if command.before is not None else None
        self.copy("undisturbed")
        self.faults.begin(lambda _: False)
        self.answer = self.run("undisturbed", Fault.ERROR)
        self.requests = list(self.faults.seen)
        self.expected = self.found("undisturbed")
        assert (self.expected == self.before) == command.asks
        self.remove("undisturbed")

    @property
    def source(self) -> str:
        return "another" if self.command.elsewhere else "archive"

    def url(self, name: str) -> str:
        return f"s3://{self.bucket}/{name}"

    def upload(self, folder: Path, name: str, modified: int) -> None:
        """Make a folder an archive of the server; what differs is as old as it is said."""
        for file in folder.rglob("*"):
            place = self.folder / name / file.relative_to(folder)
            if file.is_file() and not (place.exists() and place.read_bytes() == file.read_bytes()):
                self.server.store(self.bucket).put(
                    str(place.relative_to(self.folder)), file.read_bytes()
                )
                os.utime(place, (modified, modified))

    def copy(self, name: str) -> None:
        if self.command.before is not None:
            shutil.copytree(self.folder / "before", self.folder / name)

    def remove(self, name: str) -> None:
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def found(self, name: str) -> Any:
        """Return what readers of main see, and the history that they see; None without a repository."""
        if not (self.folder / name / "repo").exists():
            return None
        # The server's objects are files.
        repository = local_repository(self.folder / name)
        history = [snapshot.message for snapshot in repository.ancestry(branch="main")]
        # What only asks changes no byte.
        files = stamp(self.folder / name) if self.command.asks else None
        return local_contents(self.folder / name), history, files

    def cases(self) -> Iterator[Case]:
        """Every request and every way that it can go wrong in."""
        listed = 0
        for number, request in enumerate(self.requests):
            listed += request.listed is not None
            for fault in WAYS:
                if fault in OF_CONTENT and request.method != "GET":
                    continue
                if fault is Fault.REPLAYED and (request.listed is None or listed == 1):
                    continue
                yield Case(number, fault)

    def arguments(self, name: str, fault: Fault) -> tuple[str, list[str], dict[str, Any]]:
        """Return verb, positional arguments and options of the command."""
        stores = self.stores | (PATIENCE if fault is Fault.UNANSWERED else {})
        sources = [] if self.command.verb == "publish" else [self.url(self.source)]
        options = {**self.command.options, "target_options": stores}
        if sources:
            options["source_options"] = stores
        return self.command.verb, [*sources, self.url(name)], options

    def run(self, name: str, fault: Fault) -> Any:
        """Run the command, in a process of its own when that is to be killed; return its answer, if it asks.

        Raises
        ------
        RefreezeError
            As the command does.
        """
        verb, places, options = self.arguments(name, fault)
        if fault not in KILLS:
            report = getattr(refreeze, verb)(*places, **options)
            return {key: report.to_dict()[key] for key in ANSWER} if self.command.asks else None
        process = started(verb, places, options)
        self.faults.kill = process.kill
        process.join()
        assert process.exitcode in {0, -signal.SIGKILL}, process.exitcode
        return self.answer

    def described(self, case: Case) -> str:
        """Return which request it is in an undisturbed run."""
        request = self.requests[case.number]
        return f"request {case.number}, {request.method} {request.path}?{request.query}"

    def wrong(self, case: Case) -> str | None:
        """Let a request go wrong; return what should not have become of it, or None."""
        name = f"{case.number}-{case.fault.name}".lower()
        self.copy(name)
        begun = iter(range(case.number))
        self.faults.begin(lambda _: next(begun, None) is None, case.fault, most=1)
        try:
            said = self.outcome(name, case.fault)
            self.faults.heal()
            return said
        finally:
            self.faults.heal()
            self.remove(name)

    def outcome(self, name: str, fault: Fault) -> str | None:
        answer = None
        try:
            answer = self.run(name, fault)
        except RefreezeError as error:
            failure: str | None = f"{type(error).__name__}: {error}"
        except Exception as error:  # noqa: BLE001 whatever it is, it is told
            if ASSERTED not in str(error):
                return f"an error without a type: {error!r}"
            failure = "an assertion of a debug build"
        else:
            failure = "killed" if fault in KILLS else None
        if failure is None:
            return self.differs(name, "it succeeded", answer)
        return self.afterwards(name, failure, fault)

    def afterwards(self, name: str, failure: str, fault: Fault) -> str | None:
        """Return what is wrong with what a failure has left, and with the same command again."""
        self.faults.heal()
        now = self.found(name)
        if fault not in KILLS and now not in (self.before, None) and not self.untouched(now):
            return f"main has moved, and it failed with {failure}"
        if fault in KILLS and not (self.untouched(now) or now == self.expected):
            return "main was left between two states"
        if now == self.expected and not self.command.asks:
            return self.once_more(name)
        try:
            answer = self.run(name, Fault.ERROR)
        except Exception as error:  # noqa: BLE001 as above
            return f"after {failure}: the same command fails with {error!r}"
        return self.differs(name, f"after {failure}: the same command succeeded", answer)

    def once_more(self, name: str) -> str | None:
        """Run a command again that was killed when everything was done; return what is wrong with that."""
        try:
            self.run(name, Fault.ERROR)
        except TargetNotFoundError:
            # Nothing is staged any more.
            if self.command.verb != "publish":
                return "what is there was not found"
        except Exception as error:  # noqa: BLE001 as above
            return f"killed when it was done: the same command fails with {error!r}"
        found = self.found(name)
        # An overwrite is made once more, and stands in the history twice.
        again = self.command.options.get("mode") == "overwrite"
        if found != self.expected and not (again and found[0] == self.expected[0]):
            return "killed when it was done: the same command made another repository"
        return self.left_over(name, "killed when it was done: the same command")

    def left_over(self, name: str, doing: str) -> str | None:
        """Tell what is there beside main and what it shows; None if nothing is."""
        branches = local_repository(self.folder / name).list_branches() - {"main"}
        results = [file.name for file in (self.folder / name / "refreeze").rglob("*")]
        left = [*sorted(branches), *results]
        return f"{doing} left {left}" if left else None

    def untouched(self, now: Any) -> bool:
        """Whether readers see what they saw before: of a new target, nothing."""
        if self.before is not None:
            return bool(now == self.before)
        return now is None or not now[0] or len(now[1]) == 1

    def differs(self, name: str, doing: str, answer: Any) -> str | None:
        if answer != self.answer:
            return f"{doing}, with another answer: {answer}, not {self.answer}"
        found = self.found(name)
        if found == self.expected:
            return self.left_over(name, f"{doing}, and")
        if found is None or found[0] != self.expected[0]:
            return f"{doing}, with another repository"
        return f"{doing}, with another history: {found[1]}, not {self.expected[1]}"


def started(verb: str, places: list[str], options: Mapping[str, Any]) -> BaseProcess:
    """Start a command as a process that is forked from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    process = context.Process(target=carry_out, args=(verb, places, dict(options)), daemon=True)
    process.start()
    return process


def carry_out(verb: str, places: list[str], options: Mapping[str, Any]) -> None:
    """Run a command, in a process of its own."""
    getattr(refreeze, verb)(*places, **options)
