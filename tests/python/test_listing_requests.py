"""How many requests a listing by ranks takes, and what odd keys and pages do to it."""

import math
import urllib.parse
import urllib.request

import obstore
import pyarrow as pa
import pytest

import refreeze
from endpoint import array
from refreeze.exceptions import ListingError

# How many LIST requests a listing may take; concurrency is the default.
DENSE = [
    ({}, (100, 1000)),
    ({"encoding": "v2", "separator": "."}, (100_000,)),
    ({"encoding": "v2", "separator": "/"}, (7, 31, 461)),
    ({"separator": "."}, (10, 10, 10, 100)),
]


def _count(endpoint, name, **options):
    endpoint.reset()
    stream = refreeze.list_chunks(endpoint.store(), name, **options)
    found = sum(batch.num_rows for batch in stream)
    asked = endpoint.stats()["list"]
    assert stream.stats.list_requests == asked
    assert stream.stats.chunks == found
    return found, asked


@pytest.mark.parametrize(("settings", "grid"), DENSE)
def test_requests_dense(serve, settings, grid):
    """A dense array takes its pages and at most two more."""
    endpoint = serve(array("a", *grid, **settings))
    found, asked = _count(endpoint, "a")
    assert found == math.prod(grid)
    assert asked <= 1.01 * math.ceil(found / 1000) + 2


@pytest.mark.parametrize(
    ("region", "chunks", "runs"),
    [
        # First coordinates 20 to 39 are two runs of keys, "2".."29" and "3".."39".
        ({"dim_0": slice(20, 40)}, 20_000, 2),
        ({"dim_0": slice(50, 51)}, 1000, 1),
        ({"dim_0": slice(0, 100), "dim_1": slice(0, 1000)}, 100_000, 1),
        ({"dim_0": slice(7, 8), "dim_1": slice(100, 200)}, 100, 10),
        ({"dim_0": slice(99, 100), "dim_1": slice(999, 1000)}, 1, 1),
    ],
)
def test_requests_dense_region(serve, region, chunks, runs):
    """A region takes its own pages and one more for each run of keys."""
    endpoint = serve(array("a", 100, 1000))
    found, asked = _count(endpoint, "a", region=region)
    assert found == chunks
    assert asked <= 1.01 * math.ceil(found / 1000) + 2 + runs


@pytest.mark.parametrize(
    "pattern",
    [
        {"kind": "random", "probability": 0.2, "seed": 3},
        {"kind": "first_half"},
        {"kind": "every", "step": 10},
        {"kind": "block", "from": [100, 200], "to": [300, 600]},
        {"kind": "lattice", "steps": [7, 3]},
    ],
    ids=lambda pattern: pattern["kind"],
)
def test_requests_sparse(serve, pattern):
    """A sparse array takes at most a tenth more than its pages, and two for each in flight."""
    endpoint = serve(array("a", 500, 1000, pattern=pattern))
    found, asked = _count(endpoint, "a", concurrency=8)
    listed = sum(
        len(page) for page in obstore.list(endpoint.store(), "a", chunk_size=100_000)
    )  # metadata is one of them
    assert found == listed - 1
    assert asked <= 1.10 * math.ceil(found / 1000) + 2 * 8


def test_requests_empty(serve):
    """An empty or absent array costs next to nothing, however large its grid is."""
    none = {"kind": "empty"}
    endpoint = serve(
        array("small", 3, pattern=none),
        array("large", 10_000, 10_000, 10_000, pattern=none),
        array("region", 1000, 1000, pattern=none),
    )
    for name in ("small", "large"):
        found, asked = _count(endpoint, name)
        assert found == 0
        assert asked <= 3
    found, asked = _count(endpoint, "region", region={"dim_0": slice(20, 70)})
    assert (found, asked <= 3) == (0, True)


def test_a_huge_grid_with_few_objects(serve):
    """10¹² possible chunks, a thousand there."""
    scatter = {"kind": "scatter", "every": 10**9}
    endpoint = serve(array("a", 10_000, 10_000, 10_000, pattern=scatter))
    found, asked = _count(endpoint, "a")
    assert found == 1000
    assert asked <= 2 * 64
    found, asked = _count(endpoint, "a", region={"dim_0": slice(2000, 4000)})
    assert 190 <= found <= 210
    assert asked <= 2 * 64


def _raw_put(endpoint, key):
    """Put an object under a key of any bytes, which obstore would not."""
    url = f"{endpoint.url}/bucket/{urllib.parse.quote_from_bytes(key)}"
    request = urllib.request.Request(url, data=b"x", method="PUT")  # noqa: S310 (http on loopback)
    urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 (as above)


def test_odd_keys_on_s3(serve, monkeypatch):
    """Keys that are not UTF-8, hold `//` or need escaping are foreign keys like others."""
    endpoint = serve(array("a", 12, 12))
    odd = [
        b"a/c//0",
        b"a/c/1//2",
        b"a//c/0/0",
        b"a/c/3/4/",
        b"a/c/5/&<>\"'",
        b"a/c/7 7/1",
        b"a/c/./1",
    ]
    for key in [*odd, b"a/c/6/\xff\xfe", b"a/\xc3\x28"]:
        _raw_put(endpoint, key)
    stream = refreeze.list_chunks(endpoint.store(), "a")
    assert pa.table(stream).num_rows == 144
    assert stream.stats.warnings == ()
    assert stream.stats.foreign_keys >= 4
    assert stream.stats.foreign_example
    # The stock parser cannot hold such keys, and must not pass over them; asking again is no use.
    monkeypatch.setenv("REFREEZE_PAGE_PARSER", "xml")
    endpoint.reset()
    with pytest.raises(ListingError, match="a/") as raised:
        list(refreeze.list_chunks(endpoint.store(), "a"))
    assert raised.value.hint
    assert endpoint.stats()["list"] == 1


def test_a_marker_of_a_folder_is_not_a_chunk(serve):
    """`c/0/`, as consoles of S3 make it, beside and below chunks."""
    endpoint = serve(array("a", 30), objects=[{"key": f"a/c/{n}/"} for n in range(30)])
    stream = refreeze.list_chunks(endpoint.store(), "a")
    assert pa.table(stream).num_rows == 30
    assert stream.stats.foreign_keys == 30


def test_page_parser(serve, monkeypatch):
    """The stock parser gives the same rows; an unknown value is an error that says so."""
    endpoint = serve(array("a", 40, 100, size_spread=50), page_size=333)
    own = pa.table(refreeze.list_chunks(endpoint.store(), "a", paths=True))
    monkeypatch.setenv("REFREEZE_PAGE_PARSER", "xml")
    stock = pa.table(refreeze.list_chunks(endpoint.store(), "a", paths=True))
    order = [("path", "ascending")]
    assert own.sort_by(order) == stock.sort_by(order)
    monkeypatch.setenv("REFREEZE_PAGE_PARSER", "nope")
    with pytest.raises(
        (ValueError, refreeze.exceptions.RefreezeError), match="REFREEZE_PAGE_PARSER"
    ):
        list(refreeze.list_chunks(endpoint.store(), "a"))
