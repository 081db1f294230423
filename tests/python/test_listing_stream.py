"""The stream of `list_chunks`: its schema, consumers, errors, statistics, threads and interruptions."""

import itertools
import json
import signal
import subprocess
import sys
import textwrap
import threading
import time

import obstore
import pyarrow as pa
import pytest
import zarr
from obstore.store import LocalStore, MemoryStore

import refreeze
from endpoint import array
from refreeze.exceptions import AccessError, ListingError, SourceNotFoundError
from scenarios import PROMPTLY


def document_v3(shape, chunks, encoding=None, **fields):
    fields |= {"zarr_format": 3, "node_type": "array", "shape": shape, "data_type": "uint8"}
    fields["chunk_grid"] = {"name": "regular", "configuration": {"chunk_shape": chunks}}
    fields["chunk_key_encoding"] = encoding or {"name": "default"}
    fields |= {"fill_value": 0, "codecs": [{"name": "bytes"}]}
    return "zarr.json", json.dumps(fields).encode()


def putter(store, path):
    return lambda key, data: obstore.put(store, f"{path}/{key}" if path else key, data)


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
