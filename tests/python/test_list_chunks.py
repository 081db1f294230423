"""`list_chunks` against a brute force over everything that is below the array, and as an Arrow stream."""

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import urllib.parse
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import obstore
import pyarrow as pa
import pytest
import zarr
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from obstore.store import LocalStore, MemoryStore

import refreeze
from endpoint import array, run_endpoint
from refreeze.exceptions import AccessError, ListingError, SourceNotFoundError
from scenarios import PROMPTLY

LAYOUTS = [
    ("zarr2", "."),
    ("zarr2", "/"),
    ("default", "/"),
    ("default", "."),
    ("v2", "."),
    ("v2", "/"),
]
STRAYS = [
    "README.txt",
    "c/x",
    "c/-1",
    "c/+1/0",
    "c/00/0",
    "c/0_1/0",
    "c/٣/0",
    "c.0",
    "0",
    "00.0",
    "0.0.0.0.0",
    "9999",
    "9999/0",
    "c/9999/0",
    "c/0/9999/0",
    "c/4294967296",
    "18446744073709551616.0",
    "~",
    "-",
    "zarr.json.bak",
    "sub/zarr.json",
]


@dataclass(frozen=True)
class Case:
    """An array's shape, layout and contents, and the region that is asked for."""

    layout: tuple[str, str]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    present: tuple[tuple[int, ...], ...]
    strays: tuple[str, ...]
    region: dict[str, slice] | None
    box: tuple[tuple[int, int], ...]

    @property
    def grid(self):
        return [-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True)]

    def key(self, coords):
        kind, separator = self.layout
        if kind == "default":
            return separator.join(["c", *map(str, coords)])
        return separator.join(map(str, coords)) or "0"

    @property
    def document(self):
        kind, separator = self.layout
        names = [f"d{axis}" for axis in range(len(self.shape))]
        if kind == "zarr2":
            return document_v2(self.shape, self.chunks, separator)
        encoding = {"name": kind, "configuration": {"separator": separator}}
        return document_v3(self.shape, self.chunks, encoding, dimension_names=names)

    def write(self, put):
        put(*self.document)
        for coords in self.present:
            put(self.key(coords), b"x" * (1 + sum(coords)))
        for stray in self.strays:
            # A file system cannot hold a file where there is a folder.
            with suppress(OSError, obstore.exceptions.BaseError):
                put(stray, b"stray")

    def expected(self, listed, root):
        """Filter a listing of everything as the contract says what a chunk is."""
        keys = {self.key(c): c for c in itertools.product(*map(range, self.grid))}
        if not self.shape:
            keys = {self.key(()): ()}
        found = []
        for item in listed:
            coords = keys.get(item["path"].removeprefix(root))
            if coords is None:
                continue
            if all(a <= x < b for x, (a, b) in zip(coords, self.box, strict=True)):
                found.append((coords, item["size"], item["path"]))
        return sorted(found)


def document_v2(shape, chunks, separator):
    fields = {"zarr_format": 2, "shape": shape, "chunks": chunks, "dtype": "|u1", "order": "C"}
    fields |= {"compressor": None, "filters": None, "fill_value": 0}
    return ".zarray", json.dumps(fields | {"dimension_separator": separator}).encode()


def document_v3(shape, chunks, encoding=None, **fields):
    fields |= {"zarr_format": 3, "node_type": "array", "shape": shape, "data_type": "uint8"}
    fields["chunk_grid"] = {"name": "regular", "configuration": {"chunk_shape": chunks}}
    fields["chunk_key_encoding"] = encoding or {"name": "default"}
    fields |= {"fill_value": 0, "codecs": [{"name": "bytes"}]}
    return "zarr.json", json.dumps(fields).encode()


@st.composite
def cases(draw):
    layout = draw(st.sampled_from(LAYOUTS))
    grid = draw(st.lists(st.sampled_from([0, 1, 2, 3, 9, 12]), max_size=3))
    chunks = tuple(draw(st.integers(1, 4)) for _ in grid)
    ragged = [draw(st.integers(0, c - 1)) if n else 0 for n, c in zip(grid, chunks, strict=True)]
    shape = tuple(n * c - r for n, c, r in zip(grid, chunks, ragged, strict=True))
    possible = list(itertools.product(*map(range, grid)))
    kind = draw(st.sampled_from(["dense", "none", "half", "some"]))
    present = {
        "dense": possible,
        "none": [],
        "half": possible[: len(possible) // 2],
        "some": possible[:: draw(st.integers(2, 11))],
    }[kind]
    region, box = None, [(0, n) for n in grid]
    if grid and 0 not in grid and draw(st.booleans()):
        region = {}
        for axis, n in enumerate(grid):
            if axis == 0 or draw(st.booleans()):
                first = draw(st.integers(0, n - 1))
                last = draw(st.integers(first + 1, n))
                box[axis] = (first, last)
                stop = min(last * chunks[axis], shape[axis])
                name = f"d{axis}" if layout[0] != "zarr2" else f"dim_{axis}"
                region[name] = slice(first * chunks[axis], stop)
    strays = draw(st.lists(st.sampled_from(STRAYS), unique=True, max_size=4))
    return Case(layout, shape, chunks, tuple(present), tuple(strays), region, tuple(box))


def rows(table):
    """Return coordinates, size and key of each row, sorted."""
    columns = [table[name].to_pylist() for name in ("chunk", "size", "path")]
    return sorted((tuple(c), size, path) for c, size, path in zip(*columns, strict=True))


def check(case, store, path):
    """List with `list_chunks` and by brute force; both must agree, statistics too."""
    root = f"{path}/" if path else ""
    stream = refreeze.list_chunks(store, path, region=case.region, paths=True)
    found = rows(pa.table(stream))
    listed = list(itertools.chain.from_iterable(obstore.list(store, path or None)))
    expected = case.expected(listed, root)
    assert found == expected
    assert stream.stats.chunks == len(expected)
    assert stream.stats.keys_listed >= len(expected)
    return stream.stats


def putter(store, path):
    return lambda key, data: obstore.put(store, f"{path}/{key}" if path else key, data)


@given(cases(), st.sampled_from(["", "a", "deep/er/a b"]), st.sampled_from(["", "pre/fix"]))
@settings(max_examples=60)
@example(Case(("v2", "."), (), (), ((),), ("0.0", "c"), None, ()), "a", "")
@example(Case(("default", "/"), (), (), ((),), (), None, ()), "", "pre")
def test_local(tmp_path_factory, case, path, prefix):
    """On a local store, rooted at or above the array."""
    folder = tmp_path_factory.mktemp("store") / prefix
    folder.mkdir(parents=True, exist_ok=True)
    store = LocalStore(folder)
    case.write(putter(store, path))
    check(case, store, path)


@given(cases(), st.sampled_from(["", "a", "deep/er/a b"]))
@settings(max_examples=60)
def test_memory(case, path):
    """On obstore's store in memory."""
    store = MemoryStore()
    case.write(putter(store, path))
    check(case, store, path)


@pytest.fixture(scope="module")
def bucket():
    """Serve an empty bucket of the synthetic endpoint."""
    with run_endpoint(groups=[]) as endpoint:
        yield endpoint, itertools.count()


@given(cases(), st.sampled_from(["", "a", "deep/er/a b"]), st.integers(1, 7))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(Case(("default", "/"), (), (), ((),), ("0", "c/x"), None, ()), "a", 1)
def test_s3(bucket, case, path, page_size):
    """On S3, with small pages and a store that has a prefix; strangers are counted once."""
    endpoint, number = bucket
    endpoint.set(page_size=page_size)
    store = endpoint.store(prefix=f"p{next(number)}")
    case.write(putter(store, path))
    stats = check(case, store, path)
    endpoint.set(page_size=1000)
    assert stats.retries == 0
    assert stats.warnings == ()
    assert stats.foreign_keys <= len(case.strays)


def test_real_server(s3_bucket):
    """On a real S3 server: every layout, dense with a stranger, whole and by region."""
    server, name = s3_bucket
    for number, layout in enumerate(LAYOUTS):
        possible = tuple(itertools.product(range(3), range(12)))
        dim = "dim_0" if layout[0] == "zarr2" else "d0"
        for region, box in ((None, ((0, 3), (0, 12))), ({dim: slice(2, 6)}, ((1, 3), (0, 12)))):
            case = Case(layout, (6, 12), (2, 1), possible, ("README",), region, box)
            path = f"{number}"
            if region is None:
                folder = server.root / name / path
                for key, data in [case.document, *((case.key(c), b"x") for c in possible)]:
                    (folder / key).parent.mkdir(parents=True, exist_ok=True)
                    (folder / key).write_bytes(data)
            stats = check(case, server.store(name), path)
            assert stats.chunks == (36 if region is None else 24)


def test_shards():
    """The chunk of a sharded array is the shard."""
    store = MemoryStore()
    zarr_store = zarr.storage.ObjectStore(store)
    written = zarr.create_array(
        zarr_store, name="a", shape=(8, 8), shards=(4, 8), chunks=(2, 2), dtype="u1"
    )
    written[:] = 1
    assert rows(pa.table(refreeze.list_chunks(store, "a", paths=True))) == [
        ((row, 0), obstore.head(store, f"a/c/{row}/0")["size"], f"a/c/{row}/0") for row in (0, 1)
    ]


def test_schema(serve):
    """Exactly the contract's columns; the ETag as the service gave it, or null."""
    endpoint = serve(array("a", 2, 3), array("plain", 2, etag=False))
    fields = [
        pa.field("chunk", pa.list_(pa.field("item", pa.uint32(), nullable=False), 2), False),
        pa.field("size", pa.uint64(), nullable=False),
        pa.field("last_modified", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("e_tag", pa.string()),
    ]
    stream = refreeze.list_chunks(endpoint.store(), "a")
    assert pa.schema(stream.schema) == pa.schema(stream) == pa.schema(fields)
    table = pa.table(stream)
    assert table.schema == pa.schema(fields)
    listed = {m["path"]: m for m in itertools.chain(*obstore.list(endpoint.store(), "a/c"))}
    for row in table.to_pylist():
        meta = listed[f"a/c/{row['chunk'][0]}/{row['chunk'][1]}"]
        assert row["e_tag"] == meta["e_tag"]
        assert row["last_modified"] == meta["last_modified"]
    with_paths = refreeze.list_chunks(endpoint.store(), "a", paths=True)
    assert pa.schema(with_paths) == pa.schema([*fields, pa.field("path", pa.string(), False)])
    assert pa.table(refreeze.list_chunks(endpoint.store(), "plain"))["e_tag"].null_count == 2


def test_consumers():
    """Other libraries take the stream, which gives everything once and then nothing."""
    store = MemoryStore()
    put = putter(store, "a")
    put(*document_v3([5], [1]))
    for number in range(5):
        put(f"c/{number}", b"12")
    reader = pa.RecordBatchReader.from_stream(refreeze.list_chunks(store, "a"))
    assert sum(batch.num_rows for batch in reader) == 5
    stream = refreeze.list_chunks(store, "a")
    assert iter(stream) is stream
    assert sum(batch.num_rows for batch in stream) == 5
    assert list(stream) == []
    assert pa.table(stream).num_rows == 0
    assert pa.table(stream).schema == pa.schema(stream)
    with pytest.raises(StopIteration):
        next(stream)
    stats = stream.stats
    assert (stats.chunks, stats["chunks"], dict(stats)["retries"]) == (5, 5, 0)


def test_wrong_arguments(tmp_path):
    """Wrong types are named; what is not there is not found."""
    store = MemoryStore()
    putter(store, "a")(*document_v3([5], [1]))
    for bad in (0, -1):
        with pytest.raises(ValueError, match="concurrency"):
            refreeze.list_chunks(store, "a", concurrency=bad)
    for bad in (1.5, "4", True):
        with pytest.raises(TypeError, match="concurrency"):
            refreeze.list_chunks(store, "a", concurrency=bad)
    with pytest.raises(TypeError, match="path"):
        refreeze.list_chunks(store, 5)
    with pytest.raises(TypeError, match="store"):
        refreeze.list_chunks("s3://bucket", "a")
    with pytest.raises(SourceNotFoundError, match="nope"):
        refreeze.list_chunks(store, "nope")
    zarr.create_group(tmp_path / "g")
    with pytest.raises(SourceNotFoundError, match="group"):
        refreeze.list_chunks(LocalStore(tmp_path), "g")


def test_errors_keep_their_class(serve):
    """Iteration raises the class; Arrow carries its name. What came before the error is good."""
    endpoint = serve(array("a", 9000), page_size=10)
    endpoint.fail(order="shuffled", token_loop=True)
    stream = refreeze.list_chunks(endpoint.store(), "a")
    with pytest.raises(ListingError, match="a/") as raised:
        list(stream)
    assert raised.value.hint
    assert list(stream) == []
    with pytest.raises(pa.lib.ArrowException, match="ListingError: "):
        pa.table(refreeze.list_chunks(endpoint.store(), "a"))
    # A stream lists ahead as soon as it is there, but only so far: it meets no fault of before, and
    # has more pages to ask for when access is refused.
    endpoint.fail()
    stream = refreeze.list_chunks(endpoint.store(), "a")
    endpoint.set(allow=False)
    with pytest.raises(AccessError):
        list(stream)


def test_stats_while_it_runs(serve):
    """Statistics are there before, during and after."""
    endpoint = serve(array("a", 50_000))
    stream = refreeze.list_chunks(endpoint.store(), "a", concurrency=2)
    next(stream)
    during = stream.stats
    assert 1000 <= during.chunks < 50_000
    assert sum(batch.num_rows for batch in stream) == 49_000
    assert stream.stats.to_dict() == {
        "list_requests": 50,
        "keys_listed": 50_000,
        "chunks": 50_000,
        "foreign_keys": 0,
        "foreign_example": None,
        "retries": 0,
        "warnings": [],
    }


def _settled(endpoint):
    """Wait until no request comes any more; return how many LISTs there were."""
    before = -1
    while (now := endpoint.stats())["list"] != before or now["in_flight"]:
        before = now["list"]
        time.sleep(0.15)
    return before


def test_back_pressure_and_dropping(serve):
    """A stream that nobody reads asks for a bounded number of pages; a dropped one for none."""
    endpoint = serve(array("a", 1_000_000_000), latency_ms=5)
    stream = refreeze.list_chunks(endpoint.store(), "a", concurrency=8)
    next(stream)
    waiting = _settled(endpoint)
    assert waiting <= 32
    for _ in range(40):
        next(stream)
    assert _settled(endpoint) <= 41 + 32
    del stream
    # The requests that were in flight may arrive late.
    after = _settled(endpoint) + 8
    reader = pa.RecordBatchReader.from_stream(
        refreeze.list_chunks(endpoint.store(), "a", concurrency=8)
    )
    reader.read_next_batch()
    del reader
    assert _settled(endpoint) <= after + 40


def test_other_threads_run_meanwhile(serve):
    """The GIL is free while pages are waited for."""
    endpoint = serve(array("a", 3000), latency_ms=1000)
    ticks = []
    stop = threading.Event()

    def tick():
        while not stop.wait(0.01):
            ticks.append(time.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    ticks.clear()
    pa.table(refreeze.list_chunks(endpoint.store(), "a"))
    stop.set()
    thread.join()
    # Two round trips of a second at least: with the GIL held there would be no tick in them.
    assert len(ticks) >= 5


@pytest.mark.parametrize("consume", ["list(stream)", "pyarrow.table(stream)"])
def test_ctrl_c(serve, consume):
    """Ctrl-C ends a listing within a second, however slow the server is."""
    endpoint = serve(array("a", 100_000), array("z", 10), latency_ms=0)
    script = f"""
        import sys, pyarrow, refreeze
        sys.path.insert(0, "tests/python")
        from endpoint import Endpoint
        stream = refreeze.list_chunks(Endpoint({endpoint.url!r}).store(), "a")
        print("listing", flush=True)
        {consume}
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.readline()
        endpoint.set(latency_ms=60_000)
        time.sleep(0.5)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert time.monotonic() - sent < PROMPTLY
        assert process.returncode != 0
        assert "KeyboardInterrupt" in said


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
    """Keys that are not UTF-8, hold `//` or need escaping are strangers like others."""
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


def _local(folder, shape, chunks, *keys, separator="/"):
    """Write an array's metadata and chunks into a folder."""
    encoding = {"name": "default", "configuration": {"separator": separator}}
    folder.mkdir(parents=True, exist_ok=True)
    for key, data in [document_v3(shape, chunks, encoding), *((key, b"x") for key in keys)]:
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(data)
    return LocalStore(folder.parent)


def test_links_are_followed(tmp_path):
    """Of folders and files, as reads follow them; one that leads nowhere is an error."""
    store = _local(tmp_path / "a", [4, 2], [1, 1], "c/0/0")
    (tmp_path / "else").mkdir()
    (tmp_path / "else/1").write_bytes(b"123")
    chunks = tmp_path / "a/c"
    (chunks / "1").symlink_to(tmp_path / "else")
    (chunks / "2").mkdir()
    (chunks / "2/0").symlink_to(tmp_path / "else/1")
    (chunks / "3").symlink_to(chunks)  # leads back
    found = rows(pa.table(refreeze.list_chunks(store, "a", paths=True)))
    assert [(coords, size) for coords, size, _ in found] == [((0, 0), 1), ((1, 1), 3), ((2, 0), 3)]
    assert [path for _, _, path in found] == ["a/c/0/0", "a/c/1/1", "a/c/2/0"]
    (chunks / "2/1").symlink_to(tmp_path / "gone")
    with pytest.raises(pa.ArrowInvalid, match="a/c/2/1 is a symbolic link that leads nowhere"):
        pa.table(refreeze.list_chunks(store, "a"))


def test_odd_file_names(tmp_path):
    """Names that are not UTF-8, hidden files and pipes are strangers."""
    store = _local(tmp_path / "a", [4], [1], *(f"c/{n}" for n in range(4)))
    folder = os.fsencode(tmp_path / "a/c")
    for name in (b"\xff\xfe", b".0", b"0~", b" 1"):
        with open(os.path.join(folder, name), "wb") as file:  # noqa: PTH123, PTH118 bytes
            file.write(b"x")
    os.mkfifo(tmp_path / "a/c/pipe")
    stream = refreeze.list_chunks(store, "a")
    assert pa.table(stream).num_rows == 4
    assert stream.stats.foreign_keys == 5


AS_NOBODY = """
    import os, sys, refreeze
    from obstore.store import LocalStore
    store = LocalStore(sys.argv[1])
    list(refreeze.list_chunks(store, "a"))  # imports all that only root may read
    os.setgid(65534)
    os.setuid(65534)
    region = {"dim_0": slice(0, 2)} if sys.argv[2] == "part" else None
    try:
        stream = refreeze.list_chunks(store, "a", region=region)
        print(sum(batch.num_rows for batch in stream))
    except refreeze.exceptions.RefreezeError as error:
        print(type(error).__name__, error)
"""


def _as_nobody(folder, part):
    """List in a process without root's rights, to which folders can be closed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(AS_NOBODY), str(folder), part],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_unreadable_folders():
    """`AccessError` for a folder that may not be read, unless it is outside the region."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        _local(folder / "a", [4, 2], [1, 1], *(f"c/{n}/{m}" for n in range(4) for m in range(2)))
        (folder / "a/c/3").chmod(0)
        assert _as_nobody(folder, "part").strip() == "4"
        said = _as_nobody(folder, "whole")
        assert said.startswith("AccessError")
        assert f"{folder}/a/c/3" in said
        assert "hint: " in said


def test_a_large_flat_folder(tmp_path):
    """One folder with many files: read once, and a region of it too."""
    keys = [f"c.{n}.{m}" for n in range(100) for m in range(200)]
    store = _local(tmp_path / "a", [100, 200], [1, 1], *keys, separator=".")
    stream = refreeze.list_chunks(store, "a", region={"dim_0": slice(3, 5)})
    assert sorted(row[0] for batch in stream for row in batch["chunk"].to_pylist()) == sorted(
        [3] * 200 + [4] * 200
    )
    assert stream.stats.list_requests == 1
    assert stream.stats.chunks == 400
    stream = refreeze.list_chunks(store, "a")
    assert sum(batch.num_rows for batch in stream) == 20_000
