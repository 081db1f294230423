"""SIGKILL at any instant: readers see nothing, and the same command ends as if nothing had happened."""

import multiprocessing
import random
import shutil
import signal
import time

import pytest

import refreeze
from endpoint import array
from scenarios import (
    SMALL_COMMITS,
    commits,
    contents,
    local_repository,
    s3_repository,
    start_attempt,
    upload,
    write_series,
    write_store,
)

BATCHES = 26
COMMITS = 25
"""The first has metadata; one batch of ``sparse`` holds nothing, and two share a commit."""
REFERENCES = 86
EMPTY = 24
"""This commit takes the batch with it that holds nothing."""
RANDOM_INSTANTS = 20


class Place:
    """Targets for one source, and what an uninterrupted ingest makes of it."""

    def __init__(self, source, options):
        self.source, self.options = source, SMALL_COMMITS | options
        self.before = {}
        self.expected = {}

    def complete(self):
        """Ingest without interruption into a target like all others, and remember the result."""
        target = self.new()
        repository = self.open(target)
        self.before = self.look(repository, target)
        begun, child = multiprocessing.Pipe(duplex=False)
        process = start_attempt(self.source, self.given(target), self.options, None, child)
        begun.poll(60)
        started = time.monotonic()
        process.join()
        self.took = time.monotonic() - started
        assert process.exitcode == 0
        self.expected = self.look(repository, target)
        assert len(self.expected["commits"]) == len(self.before["commits"]) + COMMITS

    def look(self, repository, target):
        """Return all that readers of main see, in a form that is the same after every ingest."""
        done = []
        for message, arrays in commits(repository):
            # Whichever chunk was listed first is the sample.
            work = [{**addition, "sample": None} for addition in arrays or ()]
            done.append((message, sorted(work, key=lambda addition: addition["array"])))
        tip = repository.lookup_branch("main")
        sizes = sorted(file.num_chunk_refs for file in repository.list_manifest_files(tip))
        return {
            "contents": contents(repository, lambda key: self.read(target, key)),
            "commits": done,
            "manifests": sizes,
        }

    def attempt(self, target, at=None, after=None):
        """Ingest in a process of its own, which is killed; give back whether it was."""
        begun, child = multiprocessing.Pipe(duplex=False)
        process = start_attempt(self.source, self.given(target), self.options, at, child)
        child.close()
        if after is not None:
            begun.poll(60)
            time.sleep(after)
            process.kill()
        process.join()
        begun.close()
        assert process.exitcode in {0, -signal.SIGKILL}
        return process.exitcode != 0

    def assert_unchanged_or_complete(self, target):
        """Check main between attempts; give back the batches that are safe, None when published."""
        repository = self.open(target)
        branches = repository.list_branches()
        seen = self.look(repository, target)
        runs = [run for run in self.status(target) if run.state != "published"]
        if seen == self.expected:
            # The staging branch may be left over: status knows better.
            assert not runs
            return None
        assert seen == self.before
        assert branches == {"main", *(f"refreeze/{run.run_id}" for run in runs)}
        assert len(runs) <= 1
        return runs[0].batches_done if runs else 0

    def assert_same_command_completes(self, target, safe):
        """Run the same command and compare with an uninterrupted run."""
        report = refreeze.ingest(self.source, self.given(target), **self.options)
        repository = self.open(target)
        assert repository.list_branches() == {"main"}
        assert self.look(repository, target) == self.expected
        run, _earlier = self.status(target)
        assert (run.state, run.run_id, run.locked) == ("published", report.run_id, False)
        assert report.published
        assert report.already_published == (safe is None)
        if safe is not None:
            assert report.resumed_batches == safe
            assert report.references_written == REFERENCES

    def status(self, target):
        options = self.options.get("target_options")
        return refreeze.status(self.given(target), target_options=options).runs


class LocalPlace(Place):
    def __init__(self, folder):
        super().__init__(str(write_series(folder / "series.zarr")), {})
        self.folder, self.number = folder, 0
        self.template = folder / "template"
        refreeze.ingest(write_store(folder / "other.zarr"), self.template, target_group="other")
        self.complete()

    def new(self):
        self.number += 1
        target = self.folder / f"repository-{self.number}"
        shutil.copytree(self.template, target)
        return target

    def given(self, target):
        return str(target)

    def open(self, target):
        return local_repository(target)

    def read(self, target, key):
        return (target / key).read_bytes()


class S3Place(Place):
    def __init__(self, folder, server, bucket):
        series = write_series(folder / "series.zarr")
        source = upload(server, bucket, series, "series.zarr")
        stores = {"source_options": server.options, "target_options": server.options}
        super().__init__(source, stores)
        self.server, self.bucket, self.number = server, bucket, 0
        self.other = write_store(folder / "other.zarr")
        self.complete()

    def new(self):
        self.number += 1
        target = f"repository-{self.number}"
        options = {"target_options": self.server.options}
        refreeze.ingest(self.other, self.given(target), target_group="other", **options)
        return target

    def given(self, target):
        return f"s3://{self.bucket}/{target}"

    def open(self, target):
        return s3_repository(self.server, self.bucket, target)

    def read(self, target, key):
        store = self.server.store(self.bucket)
        return bytes(store.get(f"{target}/{key}").bytes())


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    return LocalPlace(tmp_path_factory.mktemp("kill"))


@pytest.mark.parametrize("done", range(1, COMMITS))
def test_killed_after_each_commit(local, done):
    """Killed when so many commits are made, the next attempt resumes with the batch after them."""
    target = local.new()
    assert local.attempt(target, at=("list", done))
    safe = local.assert_unchanged_or_complete(target)
    # The commit with the metadata completes no batch.
    assert safe == done - 1 + (done >= EMPTY)
    local.assert_same_command_completes(target, safe)


@pytest.mark.parametrize(
    ("at", "safe"),
    [
        (("metadata", 0), 0),
        (("commit", 1), 0),
        (("commit", 12), 11),
        (("commit", COMMITS - 1), BATCHES - 2),
        (("check", COMMITS), BATCHES),
        (("publish", COMMITS), BATCHES),
        (("done", COMMITS), None),
    ],
)
def test_killed_in_each_stage(local, at, safe):
    """Before the first commit, while one is written, when all is staged and when all is published."""
    target = local.new()
    assert local.attempt(target, at=at)
    assert local.assert_unchanged_or_complete(target) == safe
    local.assert_same_command_completes(target, safe)


def test_killed_at_random_instants(local):
    """Whenever the kill comes, once or several times in the same run."""
    instants = random.Random(6)  # noqa: S311 instants, not secrets
    killed = attempts = 0
    while killed < RANDOM_INSTANTS:
        target = local.new()
        safe = 0
        for _ in range(instants.choice([1, 1, 2, 4])):
            attempts += 1
            assert attempts < 6 * RANDOM_INSTANTS, "it is too fast to be killed"
            killed += local.attempt(target, after=instants.uniform(0, local.took))
            now = local.assert_unchanged_or_complete(target)
            assert now is None or now >= safe
            if now is None:
                safe = None
                break
            safe = now
        local.assert_same_command_completes(target, safe)


def test_killed_again_and_again(local):
    """A run of which every attempt makes one commit ends like one that was left alone."""
    target = local.new()
    safe = -1
    for _ in range(COMMITS):
        assert local.attempt(target, at=("list", 1))
        now = local.assert_unchanged_or_complete(target)
        assert now > safe
        safe = now
        if safe == BATCHES - 2:
            break
    local.assert_same_command_completes(target, safe)


def test_killed_on_object_storage(tmp_path, s3_bucket):
    """The same with the target, and the source, on an S3 server."""
    place = S3Place(tmp_path, *s3_bucket)
    instants = random.Random(7)  # noqa: S311 as above
    for at in (("list", 1), ("commit", 9), ("publish", COMMITS)):
        target = place.new()
        assert place.attempt(target, at=at)
        place.assert_same_command_completes(target, place.assert_unchanged_or_complete(target))
    for _ in range(3):
        target = place.new()
        place.attempt(target, after=instants.uniform(0, place.took))
        place.assert_same_command_completes(target, place.assert_unchanged_or_complete(target))


@pytest.mark.parametrize("done", [1, 5, 16])
def test_what_is_committed_is_not_listed_again(tmp_path, serve, done):
    """Both attempts together cost as many LIST requests as one that is left alone, or one more.

    What was being listed beside the last commit is listed again: here one request a commit.
    """
    endpoint = serve(array("a", 16, 10), array("b", 7, 10), page_size=10)
    options = {"max_refs_per_commit": 10, "source_options": endpoint.options}
    source = "s3://bucket"
    whole = refreeze.ingest(source, tmp_path / "whole", no_read_check=True, **options)
    endpoint.reset()
    target = str(tmp_path / "killed")
    process = start_attempt(source, target, options, ("list", done), None)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    first = endpoint.stats()["list"]
    endpoint.reset()
    rest = refreeze.ingest(source, target, no_read_check=True, **options)
    assert rest.resumed_batches == done - 1
    # One request in each attempt looks for metadata.
    rest_of_it = endpoint.stats()["list"]
    assert rest_of_it == rest.list_requests + 1
    assert first + rest_of_it <= whole.list_requests + 3
    assert rest.references_written == whole.references_written == 230
    assert rest.commits == whole.commits - done
