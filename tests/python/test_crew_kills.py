"""SIGKILL of workers and coordinators at random instants: whoever comes next ends as if nothing had happened.

``make test-kills`` runs them, `REFREEZE_KILLS` times each; the kills of the suite itself are in `test_crews` and
`test_dask`.
"""

from __future__ import annotations

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import icechunk
import pytest

import refreeze
from crew_processes import coordinate, do_part, killed
from crews_for_tests import SMALL, store_of
from refreeze.exceptions import ConflictError
from refreeze.verbs.batch_queue import begin, commit
from scenarios import s3_repository, upload

if TYPE_CHECKING:
    from s3_server import S3Server

KILLS = int(os.environ.get("REFREEZE_KILLS", "0"))
SEED = int(os.environ.get("REFREEZE_SEED", "20"))
PARTS = 3

pytestmark = pytest.mark.skipif(not KILLS, reason="make test-kills runs them: they take minutes")


class Place:
    """A source and targets beside it, on local disk or in a bucket."""

    def __init__(self, folder: Path, bucket: tuple[S3Server, str] | None) -> None:
        self.folder, self.bucket = folder, bucket
        local = store_of(folder)
        self.source, self.options = str(local), dict[str, Any](SMALL)
        if bucket is not None:
            server, name = bucket
            self.source = upload(server, name, local, "source.zarr")
            self.options |= {"source_options": server.options, "target_options": server.options}

    def target(self, name: str) -> str:
        if self.bucket is not None:
            return f"s3://{self.bucket[1]}/{name}.icechunk"
        return str(self.folder / f"{name}.icechunk")

    def repository(self, target: str) -> icechunk.Repository:
        if self.bucket is None:
            return icechunk.Repository.open(icechunk.local_filesystem_storage(target))
        server, name = self.bucket
        return s3_repository(server, name, target.removeprefix(f"s3://{name}/"))

    def state(self, target: str) -> tuple[set[str], int]:
        """Return the references of main, and how many chunks its logs list."""
        repo = self.repository(target)
        found = set(repo.readonly_session("main").all_virtual_chunk_locations())
        ids = [snapshot.id for snapshot in repo.ancestry(branch="main")]
        if len(ids) < 2:
            return found, 0
        diff = repo.diff(from_snapshot_id=ids[-1], to_snapshot_id=ids[0])
        return found, sum(len(chunks) for chunks in diff.updated_chunks.values())


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    bucket = request.getfixturevalue("s3_bucket") if request.param == "s3" else None
    return Place(tmp_path, bucket)


def test_workers_are_killed_anywhere(place: Place) -> None:
    """Parts of a batch queue die again and again; the result is that of one process."""
    choose = random.Random(SEED)  # noqa: S311
    whole = place.target("whole")
    refreeze.ingest(place.source, whole, **place.options)
    expected = place.state(whole)
    kills = rounds = 0
    while kills < KILLS:
        target, run = place.target(f"t{rounds}"), str(place.folder / f"run{rounds}.json")
        rounds += 1
        begin(place.source, target, run, **place.options)
        empty = place.state(target)
        begun = time.monotonic()
        do_part(run, f"0/{PARTS}", place.options)
        took = time.monotonic() - begun
        for _ in range(6):
            part = f"{choose.randrange(1, PARTS)}/{PARTS}"
            kills += killed(choose.uniform(0, took), do_part, run, part, place.options)
            assert place.state(target) == empty
        for part in range(PARTS):
            do_part(run, f"{part}/{PARTS}", place.options)
        stores = {name: place.options[name] for name in place.options if name.endswith("options")}
        assert commit(run, **stores).published
        assert place.state(target) == expected
        refreeze.gc(target, older_than=0, target_options=stores.get("target_options"))
        assert place.state(target) == expected


def test_coordinators_are_killed_anywhere(place: Place) -> None:
    """The same command again, with others or alone, ends with the result of one process."""
    choose = random.Random(SEED)  # noqa: S311
    whole = place.target("whole")
    begun = time.monotonic()
    coordinate(place.source, whole, place.options)
    took = time.monotonic() - begun
    expected = place.state(whole)
    kills = rounds = 0
    while kills < KILLS:
        target = place.target(f"t{rounds}")
        rounds += 1
        for _ in range(3):
            after = choose.uniform(0, took)
            kills += killed(after, coordinate, place.source, target, place.options)
        if rounds % 2:
            coordinate(place.source, target, place.options)
        else:
            refreeze.ingest(place.source, target, **place.options)
        assert place.state(target) == expected


def test_duplicates_do_not_undo_each_other(place: Place) -> None:
    """All parts are done by two at the same time, and once more; nothing is there twice."""
    target, run = place.target("t"), str(place.folder / "run.json")
    refreeze.ingest(place.source, place.target("whole"), **place.options)
    begin(place.source, target, run, **place.options)
    with ThreadPoolExecutor(4) as executor:
        again = [f"{part}/{PARTS}" for part in range(PARTS)] * 2
        list(executor.map(lambda part: do_part(run, part, place.options), again))
    stores = {name: place.options[name] for name in place.options if name.endswith("options")}
    assert commit(run, **stores).published
    assert place.state(target) == place.state(place.target("whole"))
    left = refreeze.gc(target, older_than=0, target_options=stores.get("target_options"))
    assert left.files == ()


def test_two_coordinators(place: Place) -> None:
    """Of two at the same time one wins, and the other says so or finds it done; nothing is lost."""
    target = place.target("t")
    refreeze.ingest(place.source, place.target("whole"), **place.options)

    def run(_: int) -> bool:
        try:
            with ThreadPoolExecutor(2) as executor:
                refreeze.ingest(place.source, target, executor=executor, **place.options)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(2) as executor:
        assert any(executor.map(run, range(2)))
    assert place.state(target) == place.state(place.target("whole"))
