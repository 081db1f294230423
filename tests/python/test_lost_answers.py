"""Conditional writes whose answer is lost: what was made is not made twice, and nobody is told that it was not.

Every such write of a command is struck in turn. The server forgets user metadata, by which Icechunk would know its own
writes again.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import zarr

import refreeze
from fault_proxy import Fault, fault_proxy
from scenarios import contents, foreign_commit, s3_repository, write_store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fault_proxy import Request

MANY_COMMITS = {"max_refs_per_commit": 2}


def conditional(request: Request) -> bool:
    """Whether a write has a condition; those of the probe of a new target are struck by a test of their own."""
    return request.method == "PUT" and request.conditional and not probing(request)


def probing(request: Request) -> bool:
    return request.method == "PUT" and "/refreeze-probe-" in request.path


def grow(source):
    """Append to `air` and `time` of a store."""
    root = zarr.open_group(source, mode="a")
    for name, shape in (("air", (12, 4)), ("time", (12,))):
        root[name].resize(shape)
        root[name][6:] = 7


def rewrite(source):
    zarr.open_group(source, mode="a")["air"][:2] = 99


@dataclass(frozen=True)
class Verb:
    """A command, and what comes before it."""

    command: Callable[..., Any] = refreeze.ingest
    options: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] | None = None
    """Options of an ingest that is there already."""
    change: Callable[[Path], None] = lambda _source: None
    """What happens to the source after that."""
    moved: bool = False
    """Whether somebody else commits after that."""

    def prepare(self, place, source):
        """Make what the command finds, as the repository `before`."""
        if self.before is not None:
            refreeze.ingest(source, place.target("before"), **self.before, **place.options)
        self.change(source)
        if self.moved:
            foreign_commit(s3_repository(place.server, place.bucket, "before"))

    def run(self, place, source, name):
        """Run the command on a copy of that; return what it reports."""
        place.copy("before", name)
        sources = [source] if self.command is refreeze.ingest else []
        return self.command(*sources, place.target(name), **self.options, **place.options)


APPEND = {"mode": "append", "append_dim": "time", "skip_variables": ["deep"]}
UPDATE = {"mode": "update", "region": {"time": slice(0, 2)}, "arrays": ["air"]}
STAGED = {"no_publish": True, **MANY_COMMITS}

VERBS = {
    "create": Verb(options=MANY_COMMITS),
    "create on a branch": Verb(options={"branch": "dev"}),
    "stage": Verb(options={"no_publish": True}),
    "append": Verb(options=APPEND, before={}, change=grow),
    "append in several commits": Verb(
        options={**APPEND, "max_refs_per_commit": 1}, before={}, change=grow
    ),
    "stage an append": Verb(options={**APPEND, "no_publish": True}, before={}, change=grow),
    "overwrite": Verb(options={"mode": "overwrite", **MANY_COMMITS}, before={}, change=grow),
    "update": Verb(options=UPDATE, before={}, change=rewrite),
    "publish": Verb(refreeze.publish, before=STAGED),
    "publish on a tip that has moved": Verb(
        refreeze.publish, {"rebase": True}, before=STAGED, moved=True
    ),
}


class Bucket:
    """Repositories with references to one source, on a server that gets requests wrong."""

    def __init__(self, server, bucket, seen, faults):
        self.server, self.bucket, self.faults = server, bucket, faults
        self.options = {"target_options": seen.options}

    def target(self, name):
        return f"s3://{self.bucket}/{name}"

    def copy(self, name, new):
        folder = self.server.root / self.bucket
        if (folder / name).exists():
            shutil.copytree(folder / name, folder / new)

    def found(self, name):
        """Return what a repository holds, and how its history was made."""
        repository = s3_repository(self.server, self.bucket, name)
        store = self.server.store(self.bucket, name)
        branches = {
            branch.partition("/")[0]: branch for branch in sorted(repository.list_branches())
        }
        return {
            branch: (
                contents(repository, lambda key: bytes(store.get(key).bytes()), known),
                [snapshot.message for snapshot in repository.ancestry(branch=known)],
            )
            for branch, known in branches.items()
        } | {
            "snapshots": len(list((self.server.root / self.bucket / name / "snapshots").iterdir()))
        }


@pytest.fixture
def place(s3_bucket):
    server, bucket = s3_bucket
    if server.kind != "versitygw":
        pytest.skip("repositories are copied as versitygw's files")
    with fault_proxy(server) as (seen, faults):
        faults.forgetful = True
        yield Bucket(server, bucket, seen, faults)


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.LOST_ERROR], ids=["reset", "500"])
@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_an_answer_is_lost(place, tmp_path, verb, fault):
    """Whichever it is, the command succeeds, and nothing was made twice or left behind."""
    for expected, found, report in outcomes(place, write_store(tmp_path / "a.zarr"), verb, fault):
        assert found == expected, report
        assert getattr(report, "published", True) != verb.options.get("no_publish", False)
        assert not getattr(report, "already_published", False)


@pytest.mark.parametrize("verb", ["create", "append", "publish on a tip that has moved"])
def test_a_request_is_lost(place, tmp_path, verb):
    """A conditional write that never reached the server is made again."""
    source = write_store(tmp_path / "a.zarr")
    for expected, found, _ in outcomes(place, source, VERBS[verb], Fault.RESET):
        # A session that commits again makes another snapshot; the first is garbage.
        assert found["snapshots"] - expected["snapshots"] in (0, 1)
        assert found | {"snapshots": 0} == expected | {"snapshots": 0}


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.LOST_ERROR, Fault.RESET, Fault.ERROR])
def test_a_new_target_is_probed(place, tmp_path, fault):
    """A lost answer does not condemn a server whose conditional writes are good."""
    source = write_store(tmp_path / "a.zarr")
    for expected, found, _ in outcomes(place, source, VERBS["create"], fault, probing):
        assert found == expected


def outcomes(place, source, verb, fault, struck=conditional):
    """Yield what a repository should hold, what it holds and the report, for each write that is struck."""
    verb.prepare(place, source)
    place.faults.begin(struck, most=0)
    verb.run(place, source, "undisturbed")
    writes = sum(map(struck, place.faults.seen))
    expected = place.found("undisturbed")
    assert writes > 0
    for number in range(writes):
        place.faults.begin(struck, fault, skip=number, most=1)
        report = verb.run(place, source, f"repository-{number}")
        assert len(place.faults.struck) == 1
        yield expected, place.found(f"repository-{number}"), report
