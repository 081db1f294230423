"""Servers that do not list as S3 does: the right result, with a warning where a way round was needed, or an error.

Never a listing with chunks missing, twice, or too many; never an ingest of such a one.
"""

import itertools

import icechunk
import pyarrow as pa
import pytest
from obstore.store import S3Store
from zarr.core.sync import sync

import refreeze
from endpoint import BUCKET, array
from refreeze.exceptions import AccessError, ListingError
from scenarios import assert_nothing_published

GRID = (30, 100)
SPARSE = {"kind": "random", "probability": 0.3, "seed": 5}
EVERYWHERE = set(itertools.product(*map(range, GRID)))
REGIONS = {
    "dense": [None, {"dim_0": slice(10, 20), "dim_1": slice(5, 25)}],
    "sparse": [None, {"dim_0": slice(2, 17)}],
}


@pytest.fixture
def endpoint(serve):
    """Serve a dense and a sparse array between others, in pages of 100."""
    return serve(
        array("a", *GRID),
        array("before/x", 300),
        array("dense", *GRID),
        array("sparse", *GRID, pattern=SPARSE),
        array("zz", 300),
        page_size=100,
    )


def listed(store, name, region=None, **options):
    """Return the coordinates of a listing, which must not come twice, and its statistics."""
    stream = refreeze.list_chunks(store, name, region=region, **options)
    found = [tuple(c) for c in pa.table(_batches(stream))["chunk"].to_pylist()]
    assert len(found) == len(set(found))
    return set(found), stream.stats


def _batches(stream):
    """Iterate, so that errors keep their class."""
    schema = pa.schema(stream)
    return pa.Table.from_batches([pa.record_batch(batch) for batch in stream], schema)


def inside(coords, region):
    bounds = [(region or {}).get(f"dim_{axis}", slice(0, n)) for axis, n in enumerate(GRID)]
    return all(part.start <= x < part.stop for x, part in zip(coords, bounds, strict=True))


def outcomes(endpoint, faults, **options):
    """List arrays and regions under these faults, with several seeds; every result must be right.

    Returns for each listing its statistics, or the error.
    """
    endpoint.fail()
    store = endpoint.store()
    there = {"dense": EVERYWHERE, "sparse": listed(store, "sparse")[0]}
    seeds = range(2) if any(isinstance(rate, float) for rate in faults.values()) else [0]
    results = []
    parts = [(name, region) for name, regions in REGIONS.items() for region in regions]
    for (name, region), seed in itertools.product(parts, seeds):
        endpoint.fail(**faults, seed=seed)
        expected = {coords for coords in there[name] if inside(coords, region)}
        try:
            found, stats = listed(store, name, region, **options)
        except ListingError as error:
            results.append(error)
        else:
            assert found == expected, (name, region, seed)
            results.append(stats)
    for error in errors(results):
        assert "dense/" in error.message or "sparse/" in error.message
        assert error.hint
    return results


def errors(results):
    return [result for result in results if isinstance(result, Exception)]


@pytest.mark.parametrize("start_after", ["ignored", "ignored_unless_exists", "empty", "inclusive"])
def test_start_after_not_honoured(endpoint, start_after):
    """A serial listing with a filter, and a warning that says why."""
    results = outcomes(endpoint, {"start_after": start_after})
    assert errors(results) == []
    warned = [any("serial" in warning for warning in stats.warnings) for stats in results]
    assert any(warned)


@pytest.mark.parametrize("start_after", ["ignored", "empty"])
def test_large_leading_coordinates(serve, start_after):
    """They are listed side by side, and no others than those of the region."""
    endpoint = serve(array("a", 5, 8000))
    endpoint.set(log=True)
    endpoint.fail(start_after=start_after)
    region = {"dim_0": slice(1, 4)}
    stream = refreeze.list_chunks(endpoint.store(), "a", region=region)
    found = [tuple(c) for c in pa.table(_batches(stream))["chunk"].to_pylist()]
    assert sorted(found) == list(itertools.product(range(1, 4), range(8000)))
    assert "leading coordinates" in stream.stats.warnings[0]
    listed_below = {request["prefix"] for request in endpoint.log()}
    assert {"a/c/1/", "a/c/2/", "a/c/3/"} <= listed_below
    assert not {"a/c/0/", "a/c/4/"} & listed_below


@pytest.mark.parametrize("rate", [0.3, 1.0])
@pytest.mark.parametrize("grid", [(30, 100), (4, 8000), (9000,)], ids=str)
@pytest.mark.parametrize("pattern", [{"kind": "dense"}, SPARSE], ids=["dense", "sparse"])
def test_short_pages_of_a_listing_by_tokens(serve, grid, pattern, rate):
    """A page that is cut short and called complete: all chunks all the same, or an error."""
    endpoint = serve(array("a", *grid, pattern=pattern))
    store = endpoint.store()
    there = listed(store, "a")[0]
    failed = 0
    for seed in range(4):
        endpoint.fail(start_after="ignored", short_page=rate, short_page_keys=30, seed=seed)
        try:
            assert listed(store, "a")[0] == there
        except ListingError as error:
            failed += 1
            assert "a/" in error.message  # noqa: PT017
    assert failed == 4 or rate < 1


@pytest.mark.parametrize("order", ["descending", "shuffled"])
def test_unordered_keys(endpoint, order):
    """A serial listing with a warning; each chunk once."""
    results = outcomes(endpoint, {"order": order})
    assert errors(results) == []
    assert all(stats.warnings for stats in results)


@pytest.mark.parametrize(
    "faults",
    [
        {"start_after": "ignored", "order": "shuffled"},
        {"start_after": "empty", "order": "descending"},
        {"start_after": "inclusive", "truncated_at_exact_end": True},
        {"order": "descending", "empty_truncated": 0.3},
        {"start_after": "ignored_unless_exists", "cut_body": 0.2, "empty_truncated": 0.2},
        {"ignore_max_keys": True, "truncated_at_exact_end": True, "slow_down": 0.2},
    ],
    ids=str,
)
def test_several_faults(endpoint, faults):
    """Right or refused."""
    outcomes(endpoint, faults)


@pytest.mark.parametrize(
    "faults", [{"ignore_max_keys": True}, {"truncated_at_exact_end": True}], ids=str
)
def test_harmless(endpoint, faults):
    """What the rules allow is no reason for a warning."""
    results = outcomes(endpoint, faults)
    assert errors(results) == []
    assert all(not stats.warnings for stats in results)


@pytest.mark.parametrize("page_size", [3, 7, 100, 999])
def test_small_pages(serve, page_size):
    """A server that caps its pages."""
    endpoint = serve(array("dense", *GRID), page_size=page_size)
    found, stats = listed(endpoint.store(), "dense")
    assert (found, stats.warnings) == (EVERYWHERE, ())


@pytest.mark.parametrize("fault", ["token_loop", "omit_token"])
def test_tokens(endpoint, fault):
    """Tokens that lead nowhere: the pages that can be asked for otherwise, or an error."""
    outcomes(endpoint, {fault: True})


@pytest.mark.parametrize("fault", ["token_loop", "omit_token"])
def test_tokens_of_a_serial_listing(endpoint, fault):
    """Where tokens are the only way, an error."""
    results = outcomes(endpoint, {fault: True, "start_after": "ignored"})
    assert errors(results)


def test_ignored_prefix(endpoint):
    """Keys outside the prefix are an error that shows one."""
    results = outcomes(endpoint, {"ignore_prefix": True})
    assert errors(results)
    assert all("outside" in error.message for error in errors(results))


@pytest.mark.parametrize(
    ("fault", "rate"),
    [
        ("short_page", 0.1),
        ("short_page", 0.5),
        ("empty_truncated", 0.3),
        ("empty_truncated", 1.0),
        ("outside_key", 0.1),
        ("outside_key", 1.0),
    ],
)
def test_wrong_pages(endpoint, fault, rate):
    """Right or refused; what always strikes is refused."""
    results = outcomes(endpoint, {fault: rate, "short_page_keys": 30})
    if rate == 1.0 and fault in {"empty_truncated", "outside_key"}:
        assert len(errors(results)) == len(results)


@pytest.mark.parametrize("rate", [0.2, 1.0])
def test_repeated_pages(endpoint, rate):
    """A page that comes again: right or refused."""
    outcomes(endpoint, {"repeat_page": rate}, concurrency=1)


def test_pages_of_other_requests(endpoint):
    """A page that was sent in answer to another request, which went on from a later key."""
    for _ in range(2):
        outcomes(endpoint, {"repeat_page": 0.2}, concurrency=8)


@pytest.mark.parametrize(
    "fault",
    ["slow_down", "internal_error", "error_body", "truncate_xml", "cut_body", "cut_connection"],
)
def test_failures_that_pass(endpoint, fault):
    """Requests that fail now and then are sent again."""
    results = outcomes(endpoint, {fault: 0.3})
    assert errors(results) == []
    assert sum(stats.retries for stats in results) > 0
    assert all(not stats.warnings for stats in results)


@pytest.mark.parametrize(
    "fault",
    ["slow_down", "internal_error", "error_body", "truncate_xml", "cut_body", "cut_connection"],
)
def test_failures_that_stay(endpoint, fault):
    """After the retries, an error that names the array and says what to do."""
    endpoint.fail(**{fault: 1.0})
    with pytest.raises(ListingError, match=r"dense/.*\(after 4 attempts\)") as raised:
        listed(endpoint.store(retries=3), "dense")
    assert raised.value.hint
    assert endpoint.stats()["list"] >= 4


def test_default_persistence(endpoint):
    """Without settings of the store's own, a bad second is survived."""
    endpoint.fail(slow_down=1.0, limit=4)
    settings = {"allow_http": True}
    store = S3Store(BUCKET, endpoint=endpoint.url, skip_signature=True, client_options=settings)
    found, stats = listed(store, "dense")
    assert found == EVERYWHERE
    assert stats.retries == 4


def test_too_many_requests_at_once(serve):
    """A server that throttles above four at a time gets four at a time before long."""
    endpoint = serve(array("a", 100, 1000), latency_ms=5)
    endpoint.fail(slow_down_above=4)
    found, stats = listed(endpoint.store(retries=30), "a")
    assert len(found) == 100_000
    assert 0 < stats.retries < 400


def test_silence(endpoint):
    """A request that is never answered is given up and sent again."""
    endpoint.fail(stall=1.0, limit=3)
    found, stats = listed(endpoint.store(timeout=2), "dense")
    assert found == EVERYWHERE
    # On a busy machine one that is answered may take too long as well.
    assert stats.retries >= 3


def test_no_access(serve):
    """403 is an `AccessError` at once."""
    # Of so many pages a stream cannot have asked for all before the test refuses access.
    endpoint = serve(array("dense", 1_000_000))
    store = endpoint.store()
    stream = refreeze.list_chunks(store, "dense")
    next(stream)
    endpoint.set(allow=False)
    with pytest.raises(AccessError) as raised:
        list(stream)
    assert raised.value.hint
    with pytest.raises(AccessError):
        refreeze.list_chunks(store, "dense")


@pytest.mark.parametrize(
    "faults",
    [
        {},
        {"start_after": "ignored"},
        {"start_after": "empty"},
        {"order": "shuffled"},
        {"token_loop": True},
        {"omit_token": True},
        {"ignore_prefix": True},
        {"short_page": 0.3, "short_page_keys": 30},
        {"empty_truncated": 0.3},
        {"outside_key": 0.3},
        {"cut_body": 0.2, "error_body": 0.1, "slow_down": 0.1, "truncate_xml": 0.1},
    ],
    ids=str,
)
def test_ingest(serve, tmp_path, faults):
    """The right references, or an error and nothing published."""
    endpoint = serve(array("dense", *GRID), array("sparse", *GRID, pattern=SPARSE), page_size=100)
    there = {name: listed(endpoint.store(), name)[0] for name in ("dense", "sparse")}
    endpoint.fail(**faults)
    target = tmp_path / "target"
    try:
        report = refreeze.ingest((endpoint.store(), ""), target)
    except ListingError:
        assert_nothing_published(target)
        assert not {"start_after", "order", "cut_body"} & faults.keys()
        assert faults
        return
    assert bool(report.warnings) == bool({"start_after", "order", "short_page"} & faults.keys())
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    session = repository.readonly_session("main")

    async def chunks(path):
        return {tuple(coords) async for coords in session.chunk_coordinates(path)}

    for name, expected in there.items():
        assert sync(chunks(f"/{name}")) == expected
