"""A target that refuses to write in the middle: said plainly, nothing published, resumable."""

import icechunk
import pytest

import refreeze
from fault_proxy import Fault, fault_proxy
from refreeze.exceptions import TargetError
from scenarios import (
    SMALL_COMMITS,
    contents,
    local_contents,
    s3_repository,
    s3_storage,
    state,
    write_series,
)

COMMITS = 9
"""So many are made when the writes begin to fail."""


@pytest.fixture
def source(tmp_path):
    return write_series(tmp_path / "series.zarr")


@pytest.fixture
def expected(tmp_path, source):
    """Return what an uninterrupted ingest makes of the source."""
    refreeze.ingest(source, tmp_path / "expected.icechunk")
    return local_contents(tmp_path / "expected.icechunk")


@pytest.fixture
def place(s3_bucket):
    """Make a repository behind a proxy that can make its server fail."""
    server, bucket = s3_bucket
    icechunk.Repository.create(s3_storage(server, bucket, "repository"))
    with fault_proxy(server) as (seen, faults):
        yield Place(server, bucket, seen, faults)


class Place:
    def __init__(self, server, bucket, seen, faults):
        self.server, self.bucket, self.faults = server, bucket, faults
        self.target = f"s3://{bucket}/repository"
        self.options = {"target_options": seen.options}

    def repository(self):
        return s3_repository(self.server, self.bucket, "repository")

    def contents(self):
        store = self.server.store(self.bucket, "repository")
        return contents(self.repository(), lambda key: bytes(store.get(key).bytes()))

    def fail(self, what, fault=Fault.ERROR, most=None):
        """Refuse to write what lies below a folder of the repository, or one file of it."""

        def chosen(request):
            return request.method == "PUT" and f"repository/{what}" in request.path

        self.faults.begin(chosen, fault, most=most)

    def heal(self):
        assert self.faults.struck
        self.faults.heal()

    def run(self):
        (run,) = refreeze.status(self.target, **self.options).runs
        return run


@pytest.mark.parametrize("what", ["manifests/", "snapshots/", "transactions/", "repo"])
def test_refused_in_the_middle(place, source, expected, what):
    """Whichever file of the tenth commit it is: what was committed before is resumed."""
    before = state(place.repository())["nodes"]

    def interfere(event):
        if (event["stage"], event["commits"]) == ("commit", COMMITS):
            place.fail(what)

    with pytest.raises(TargetError) as raised:
        refreeze.ingest(source, place.target, progress=interfere, **SMALL_COMMITS, **place.options)
    assert "500" in str(raised.value)
    assert place.server.secret_access_key not in str(raised.value)
    place.heal()
    run = place.run()
    assert (run.state, run.batches_done) == ("unfinished", COMMITS - 1)
    assert state(place.repository())["nodes"] == before
    report = refreeze.ingest(source, place.target, **SMALL_COMMITS, **place.options)
    assert (report.run_id, report.resumed_batches) == (run.run_id, COMMITS - 1)
    assert place.contents() == expected
    assert place.repository().list_branches() == {"main"}


def test_refused_when_it_is_published(place, source, expected):
    """The run stays staged, and the same command publishes it without listing anything."""

    def interfere(event):
        if event["stage"] == "publish":
            place.fail("repo")

    with pytest.raises(TargetError, match="publish on branch main"):
        refreeze.ingest(source, place.target, progress=interfere, **SMALL_COMMITS, **place.options)
    place.heal()
    assert place.run().state == "staged"
    report = refreeze.ingest(source, place.target, **place.options)
    assert report.list_requests == 0
    assert place.contents() == expected


@pytest.mark.parametrize("moment", [("commit", COMMITS), ("publish", 25)])
def test_written_and_called_refused(place, source, expected, moment):
    """A write that was made, but whose answer says otherwise, is neither lost nor taken for a stranger's."""

    def interfere(event):
        if (event["stage"], event["commits"]) == moment and not place.faults.struck:
            place.fail("repo", Fault.LOST_ERROR, most=1)

    report = refreeze.ingest(
        source, place.target, progress=interfere, **SMALL_COMMITS, **place.options
    )
    assert len(place.faults.struck) == 1
    assert (report.commits, report.published) == (25, True)
    assert place.contents() == expected
    assert place.repository().list_branches() == {"main"}
