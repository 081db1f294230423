"""Two processes that do the same, or different, work on one repository at once, on a server without locks."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import zarr

import refreeze
from fault_proxy import fault_proxy
from refreeze.exceptions import ConflictError
from scenarios import contents, s3_repository, write_store

APPEND = {"mode": "append", "append_dim": "time", "skip_variables": ["deep"]}
UPDATE = {"mode": "update", "region": {"time": slice(0, 2)}, "arrays": ["air"]}
LONG_S = 60


@pytest.fixture
def source(tmp_path):
    return write_store(tmp_path / "source.zarr")


@pytest.fixture
def place(s3_bucket):
    return Place(*s3_bucket)


class Place:
    """A target in a bucket."""

    def __init__(self, server, bucket):
        self.server, self.bucket = server, bucket

    def ingest(self, source, name="target", **options):
        target = f"s3://{self.bucket}/{name}"
        return refreeze.ingest(source, target, target_options=self.server.options, **options)

    def repository(self, name="target"):
        return s3_repository(self.server, self.bucket, name)

    def contents(self, name="target"):
        store = self.server.store(self.bucket, name)
        return contents(self.repository(name), lambda key: bytes(store.get(key).bytes()))

    def runs(self):
        options = {"target_options": self.server.options}
        return refreeze.status(f"s3://{self.bucket}/target", **options).runs

    def at_once(self, *several):
        """Run ingests that know nothing of each other: they begin, and publish, at the same time.

        Return the report of each, or what it raised.
        """
        publishing = sum(not options.get("no_publish", False) for _, options in several)
        met = {
            "metadata": Barrier(len(several), timeout=LONG_S),
            "publish": Barrier(publishing, timeout=LONG_S),
        }

        def meet(event):
            if event["stage"] in met:
                met[event["stage"]].wait()

        with ThreadPoolExecutor(len(several)) as pool:
            started = [
                pool.submit(self.ingest, source, progress=meet, **options)
                for source, options in several
            ]
            return [one.exception() or one.result() for one in started]


def grow(source, stop=12):
    """Append to `air` and `time` of a store."""
    root = zarr.open_group(source, mode="a")
    for name, shape in (("air", (stop, 4)), ("time", (stop,))):
        start = root[name].shape[0]
        root[name].resize(shape)
        root[name][start:] = stop


@pytest.mark.parametrize("commits", [{}, {"max_refs_per_commit": 2}], ids=["one", "several"])
@pytest.mark.parametrize("mode", ["create", "overwrite"])
def test_the_same_ingest(place, source, tmp_path, mode, commits):
    """Regression: the loser failed, and so did its next attempts, for ever. Now both have what they want."""
    place.ingest(write_store(tmp_path / "before.zarr", offset=5), target_group="before")
    reports = place.at_once(*[(source, {"mode": mode, **commits})] * 2)
    winner, loser = sorted(reports, key=lambda report: report.already_published)
    assert (winner.published, winner.already_published) == (True, False)
    assert (loser.published, loser.already_published) == (True, True)
    assert (loser.run_id, loser.snapshot_id) == (winner.run_id, winner.snapshot_id)
    assert any(f"by another run ({winner.run_id})" in text for text in loser.warnings)
    repository = place.repository()
    assert repository.list_branches() == {"main"}
    assert repository.lookup_branch("main") == winner.snapshot_id
    place.ingest(source, "alone")
    found, alone = place.contents(), place.contents("alone")
    assert {path: found[path] for path in ("/air", "/time", "/nested/deep")} == {
        path: alone[path] for path in ("/air", "/time", "/nested/deep")
    }


def test_the_repository_appears_while_it_is_created(place, source, tmp_path):
    """Regression: a repository that another process had finished between two looks was taken for a foreign folder."""
    refreeze.ingest(source, tmp_path / "first")
    begun = "snapshots/1CECHNKREP0F1RSTCMT0"
    place.server.store(place.bucket, "target").put(begun, (tmp_path / "first" / begun).read_bytes())
    listings = 0

    def quicker(request):
        nonlocal listings
        listings += request.listed is not None and request.listed.startswith("target")
        if listings == 2 and request.listed is not None:
            place.ingest(source, target_group="quicker")
        return False

    with fault_proxy(place.server) as (server, faults):
        faults.begin(quicker)
        Place(server, place.bucket).ingest(source, target_group="slower")
    assert {"/quicker/air", "/slower/air"} <= place.contents().keys()


@pytest.mark.parametrize("mode", ["create", "overwrite"])
def test_the_loser_comes_back(place, source, mode):
    """What it has staged meanwhile is removed: it is published, by another run."""
    staged, published = place.at_once(
        (source, {"mode": mode, "no_publish": True}), (source, {"mode": mode})
    )
    assert staged.run_id != published.run_id
    again = place.ingest(source, mode=mode)
    assert (again.published, again.already_published) == (True, True)
    assert (again.commits, again.list_requests) == (0, 0)
    assert (again.run_id, again.snapshot_id) == (published.run_id, published.snapshot_id)
    assert any(f"by another run ({published.run_id})" in text for text in again.warnings)
    assert place.repository().list_branches() == {"main"}
    assert [run.state for run in place.runs()] == ["published"]


@pytest.mark.parametrize(
    ("options", "change"),
    [
        (APPEND, grow),
        ({**APPEND, "max_refs_per_commit": 1}, grow),
        (UPDATE, lambda source: zarr.open_group(source, mode="a")["air"].set_basic_selection(0, 9)),
    ],
    ids=["append", "append in several commits", "update"],
)
def test_the_same_change(place, source, options, change):
    """The loser of two appends or updates finds at the latest when it comes back that nothing is left to be done."""
    place.ingest(source)
    change(source)
    outcomes = place.at_once(*[(source, options)] * 2)
    (winner,) = (one for one in outcomes if getattr(one, "already_published", None) is False)
    outcomes.remove(winner)
    assert isinstance(outcomes[0], ConflictError) or outcomes[0].already_published
    again = place.ingest(source, **options)
    assert (again.commits, again.already_published) == (0, True)
    assert place.repository().lookup_branch("main") == winner.snapshot_id
    # Nothing that is left of it is in the way of what comes.
    grow(source, 16)
    place.ingest(source, **APPEND)
    place.ingest(source, "alone")
    assert place.contents() == place.contents("alone")
    assert place.repository().list_branches() == {"main"}


def test_an_update_during_an_append(place, source):
    """Regression: it was a MismatchError about the mode of the other."""
    place.ingest(source)
    grow(source)
    outcomes = []

    def interfere(event):
        if event["commits"] >= 1 and not outcomes:
            outcomes.append(None)
            with ThreadPoolExecutor(1) as other:
                outcomes.append(other.submit(place.ingest, source, **UPDATE).exception())

    report = place.ingest(source, progress=interfere, max_refs_per_commit=1, **APPEND)
    assert report.published
    assert isinstance(outcomes[-1], ConflictError)
    assert "append" in str(outcomes[-1])
    assert "--restart" in outcomes[-1].hint
    assert place.ingest(source, **UPDATE).already_published


def test_an_update_and_an_append(place, source):
    """One is published, the other is a conflict; coming back it does its work on what there is."""
    place.ingest(source)
    grow(source)
    zarr.open_group(source, mode="a")["air"][0] = 9
    jobs = [(source, UPDATE), (source, APPEND)]
    outcomes = place.at_once(*jobs)
    (lost,) = (n for n, outcome in enumerate(outcomes) if isinstance(outcome, ConflictError))
    assert "--restart" in outcomes[lost].hint
    again = place.ingest(source, **jobs[lost][1])
    assert (again.published, again.already_published) == (True, False)
    place.ingest(source, "alone")
    assert place.contents() == place.contents("alone")
    assert place.repository().list_branches() == {"main"}


@pytest.mark.parametrize("lost", [UPDATE, APPEND], ids=["update", "append"])
def test_a_lost_run_of_another_mode(place, source, lost):
    """Regression: what an update or append had staged in vain stood in the way of the other mode."""
    place.ingest(source)
    grow(source)
    zarr.open_group(source, mode="a")["air"][0] = 9
    other = APPEND if lost is UPDATE else UPDATE
    place.at_once((source, {**lost, "no_publish": True}), (source, other))
    grow(source, 14)
    report = place.ingest(source, **APPEND)
    assert report.published
    if lost is UPDATE:
        assert any("can no longer be published" in text for text in report.warnings)
    place.ingest(source, restart=True, **UPDATE)
    place.ingest(source, "alone")
    assert place.contents() == place.contents("alone")
