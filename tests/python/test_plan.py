"""`plan`: its document, its checks, and figures that hold for dense stores."""

import json
import math

import pytest
import zarr
from obstore.store import LocalStore, MemoryStore

import refreeze
from endpoint import array
from refreeze.exceptions import ListingError, RegionError, SourceNotFoundError

ARRAY_KEYS = {"path", "shape", "chunk_shape", "grid_shape", "key_encoding", "region"} | {
    "chunks_in_region",
    "strategy",
    "list_requests",
    "refs_per_manifest",
    "batches",
}
TOTAL_KEYS = {"chunks_in_region", "list_requests", "list_cost_usd", "estimated_s", "commits"} | {
    "manifests",
    "manifest_bytes",
    "peak_memory_bytes",
}


@pytest.fixture
def source(tmp_path):
    """Write arrays of several layouts and a coordinate in one chunk."""
    root = zarr.create_group(tmp_path / "s.zarr")
    names = ("time", "x")
    for name, shape in (("air", (12, 4)), ("other", (12, 8))):
        options = {"chunks": (2, 2), "dtype": "u1", "dimension_names": names}
        root.create_array(name, shape=shape, **options)[:] = 1
    root.create_array("time", shape=(12,), chunks=(12,), dtype="i8", dimension_names=names[:1])[
        :
    ] = 1
    root.create_array("level", shape=(3,), chunks=(1,), dtype="u1", dimension_names=("z",))[:] = 1
    scalar = root.create_array("scalar", shape=(), dtype="u1")
    scalar[...] = 1
    return tmp_path / "s.zarr"


def by_path(plan):
    return {array.path: array for array in plan.arrays}


def test_document(source, tmp_path):
    """The contract's keys; nothing is written."""
    plan = refreeze.plan(source, tmp_path / "target")
    document = plan.to_dict()
    assert set(document) == {"arrays", "estimate", "totals", "warnings"}
    assert all(set(array) == ARRAY_KEYS for array in document["arrays"])
    assert set(document["totals"]) == TOTAL_KEYS
    assert document["estimate"] in {"dense", "sampled"}
    assert json.loads(json.dumps(document)) == document
    assert not (tmp_path / "target").exists()
    air = by_path(plan)["/air"]
    assert (air.grid_shape, air.chunks_in_region, air.region) == ((6, 2), 12, None)
    assert air.key_encoding == "default /"
    assert by_path(plan)["/scalar"].strategy == "head"
    assert plan.totals.list_cost_usd == 0
    with pytest.raises(AttributeError):
        plan.estimate = "x"


def test_region(source):
    """Arrays without the dimension are taken whole, as are copied coordinates chunked otherwise."""
    arrays = by_path(refreeze.plan(source, region={"time": slice(4, 8)}))
    assert arrays["/air"].chunks_in_region == 4
    assert arrays["/air"].region == {"time": (4, 8)}
    assert arrays["/other"].chunks_in_region == 8
    assert (arrays["/level"].chunks_in_region, arrays["/level"].region) == (3, None)
    assert arrays["/time"].chunks_in_region == 1
    with pytest.raises(RegionError, match="/air"):
        refreeze.plan(source, region={"time": slice(1, 8)})
    with pytest.raises(RegionError, match="lat") as raised:
        refreeze.plan(source, region={"lat": slice(0, 8)})
    assert "time, x, z" in str(raised.value)
    with pytest.raises(RegionError, match="no dimension"):
        refreeze.plan(source, region={})
    with pytest.raises(TypeError, match="slice"):
        refreeze.plan(source, region={"time": 4})


def test_selection_and_options(source):
    """The same as an ingest's."""
    assert set(by_path(refreeze.plan(source, arrays=["a*"]))) == {"/air"}
    assert "/air" not in by_path(refreeze.plan(source, skip_variables=["air"]))
    plan = refreeze.plan(source, max_refs_per_commit=5, refs_per_manifest=4)
    assert by_path(plan)["/air"].batches == 3
    assert by_path(plan)["/air"].refs_per_manifest <= 4
    for bad in ({"max_refs_per_commit": 0}, {"refs_per_manifest": 10**9}, {"concurrency": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            refreeze.plan(source, **bad)
    with pytest.raises(TypeError, match="concurrency"):
        refreeze.plan(source, concurrency="many")
    with pytest.raises(SourceNotFoundError):
        refreeze.plan(source / "nope")


def test_strategies(source, serve):
    """By store."""
    memory = MemoryStore()
    zarr.create_array(
        zarr.storage.ObjectStore(memory), name="a", shape=(4,), chunks=(2,), dtype="u1"
    )
    endpoint = serve(array("a", 4))
    sources = {
        "folder-walk": (LocalStore(source), "air"),
        "given-list": (memory, "a"),
        "ranked-pages": (endpoint.store(), "a"),
    }
    for strategy, given in sources.items():
        (planned,) = refreeze.plan(given).arrays
        assert planned.strategy == strategy


def test_figures_hold_on_a_local_store(source, tmp_path):
    """What is planned for a dense store is what its ingest takes."""
    plan = refreeze.plan(source)
    for planned in plan.arrays:
        stream = refreeze.list_chunks(LocalStore(source), planned.path)
        assert sum(batch.num_rows for batch in stream) == planned.chunks_in_region
        assert stream.stats.list_requests == planned.list_requests, planned.path
    report = refreeze.ingest(source, tmp_path / "target")
    assert report.list_requests == plan.totals.list_requests
    assert report.manifests_written == plan.totals.manifests
    assert report.commits == plan.totals.commits
    assert {a.path: a.chunks_in_region for a in report.arrays} == {
        a.path: a.chunks_in_region for a in plan.arrays
    }


@pytest.mark.parametrize(
    "region", [None, {"dim_0": slice(7, 12)}, {"dim_0": slice(3, 30), "dim_1": slice(100, 950)}]
)
def test_figures_hold_on_s3(serve, tmp_path, region):
    """A dense listing takes two requests more at most, to prove that nothing follows."""
    endpoint = serve(array("a", 40, 1000))
    plan = refreeze.plan((endpoint.store(), ""), region=region)
    (planned,) = plan.arrays
    stream = refreeze.list_chunks(endpoint.store(), "a", region=region)
    assert sum(batch.num_rows for batch in stream) == planned.chunks_in_region
    assert planned.list_requests <= stream.stats.list_requests
    # A region of many runs is listed by more, since pages in parallel do not meet at their ends.
    more = 2 if region is None or len(region) == 1 else planned.list_requests
    assert stream.stats.list_requests <= planned.list_requests + more
    assert plan.totals.list_cost_usd == pytest.approx(planned.list_requests * 5e-6)
    if region is None:
        report = refreeze.ingest((endpoint.store(), ""), tmp_path / "target")
        assert report.references_written == 40_000
        assert abs(report.list_requests - plan.totals.list_requests) <= 2
        assert report.manifests_written == plan.totals.manifests
        assert 0.5 < report.manifest_bytes / plan.totals.manifest_bytes < 2


def test_a_billion_chunks(serve):
    """A few LIST requests, however large the grid."""
    endpoint = serve(array("a", 1000, 1000, 1000), array("b", 10**9))
    refreeze.plan((endpoint.store(), ""), arrays=["b"], region={"dim_0": slice(0, 900)})
    reading = endpoint.stats()["list"]
    endpoint.reset()
    plan = refreeze.plan((endpoint.store(), ""), region={"dim_0": slice(17, 903)})
    assert endpoint.stats()["list"] <= reading + 8
    assert plan.estimate == "sampled"
    assert by_path(plan)["/a"].chunks_in_region == 886_000_000
    assert by_path(plan)["/a"].list_requests >= math.ceil(886_000_000 / 1000)
    assert by_path(plan)["/b"].chunks_in_region == 886


@pytest.mark.parametrize(
    ("pattern", "chunks", "over"),
    [
        ({"kind": "empty"}, 0, 1.0),
        ({"kind": "random", "probability": 0.3, "seed": 1}, 300_000, 1.2),
        ({"kind": "first_half"}, 500_000, 2.0),
        ({"kind": "every", "step": 10}, 100_000, 1.2),
        ({"kind": "scatter", "every": 10_000}, 100, 1.0),
    ],
    ids=str,
)
def test_sparse_arrays(serve, pattern, chunks, over):
    """Figures are for the chunks that a few pages suggest, not for those there is room for."""
    endpoint = serve(array("a", 1000, 1000, pattern=pattern))
    plan = refreeze.plan((endpoint.store(), ""), max_refs_per_commit=1000)
    (planned,) = plan.arrays
    assert plan.estimate == "sampled"
    assert planned.chunks_in_region == plan.totals.chunks_in_region == 1_000_000
    assert planned.strategy == "ranked-pages"
    pages = math.ceil(chunks / 1000)
    assert 0.98 * pages <= planned.batches <= max(1, math.ceil(over * pages))
    assert max(1, 0.98 * pages) <= planned.list_requests <= max(1, math.ceil(over * pages))
    assert plan.totals.commits == 1 + planned.batches
    assert plan.totals.manifests <= max(chunks * over, 0)


def test_requests_are_bounded(serve):
    """At most eight for an array, 64 for all of them, none for small ones."""
    names = [f"a{number}" for number in range(20)]
    endpoint = serve(*(array(name, 100, 100) for name in names), array("small", 10, 100))
    refreeze.plan((endpoint.store(), ""), arrays=["small"])
    reading = endpoint.stats()["list"]
    for chosen, most in ((["small"], 0), (["a1", "small"], 8), (["a*"], 64)):
        endpoint.reset()
        plan = refreeze.plan((endpoint.store(), ""), arrays=chosen)
        assert (plan.estimate == "dense") == (most == 0)
        assert endpoint.stats()["list"] - reading <= most
        assert sum(planned.list_requests for planned in plan.arrays) >= len(plan.arrays)


def test_a_store_in_memory_is_looked_at_once_an_array(monkeypatch):
    """Large arrays are counted by one listing of each, whatever the number of batches."""
    memory = MemoryStore()
    group = zarr.create_group(zarr.storage.ObjectStore(memory))
    for name in "abc":
        group.create_array(name, shape=(2000,), chunks=(1,), dtype="u1")[::2] = 1
    lists = []
    original = MemoryStore.list
    monkeypatch.setattr(
        MemoryStore, "list", lambda *args, **kw: lists.append(args) or original(*args, **kw)
    )
    plan = refreeze.plan((memory, ""), max_refs_per_commit=1)
    assert [planned.batches for planned in plan.arrays] == [1000] * 3
    assert len(lists) == 3


def test_a_source_that_cannot_be_listed(serve):
    """The listing's own errors."""
    endpoint = serve(array("a", 100, 100))
    refreeze.plan((endpoint.store(), ""))
    endpoint.fail(internal_error=1.0)
    with pytest.raises(ListingError, match="a/"):
        refreeze.plan((endpoint.store(retries=1), "a"))
