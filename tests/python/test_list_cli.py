"""`refreeze list` and `refreeze plan` on the command line: results, files, exit codes, what goes where."""

import itertools
import json
import os
import signal
import subprocess
import time

import arro3.core as ac
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
import pytest
import zarr

from endpoint import array
from refreeze.cli.list_chunks import _Summary
from scenarios import PROMPTLY, cli, command, flags, run


@pytest.fixture
def source(tmp_path):
    """Write a local array of 6 by 4 in chunks of 2 by 2, one of which is missing."""
    root = zarr.create_group(tmp_path / "s.zarr")
    names = ("time", "x")
    air = root.create_array("air", shape=(6, 4), chunks=(2, 2), dtype="u1", dimension_names=names)
    air[:] = 1
    (tmp_path / "s.zarr/air/c/1/1").unlink()
    (tmp_path / "s.zarr/air/c/2/1").write_bytes(b"x" * 99)
    (tmp_path / "s.zarr/air/c/0/0").write_bytes(b"")
    return tmp_path / "s.zarr/air"


ROWS = [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1)]


def test_summary(source):
    """A few lines for people; nothing on stderr."""
    outcome = run("list", source)
    assert (outcome.code, outcome.err) == (0, "")
    assert "5 chunks of a grid of 3 x 2" in outcome.out
    assert "from 0 to 99 bytes" in outcome.out


def test_json(source, capsys):
    """One document."""
    outcome = cli(capsys, "list", source, "--json")
    document = outcome.document
    assert document["chunks"] == 5
    assert document["grid_shape"] == [3, 2]
    assert (document["smallest"], document["largest"]) == (0, 99)
    assert document["bytes"] == sum(f.stat().st_size for f in source.glob("c/*/*"))
    assert document["stats"]["chunks"] == 5
    assert document["warnings"] == []
    outcome = cli(capsys, "list", source, "--json", "--region", "time=4:6")
    assert outcome.document["chunks"] == 2
    assert outcome.document["smallest"] > 0


def test_sizes_over_many_batches():
    """The least and the greatest of all batches, in whatever order they come."""
    sizes = [[5, 7], [0], [9], [2, 3]]
    batches = [ac.RecordBatch(pa.record_batch({"size": pa.array(n, pa.uint64())})) for n in sizes]
    for order in itertools.permutations(batches):
        summary = _Summary(iter(order))
        summary.read()
        assert (summary.bytes, summary.smallest, summary.largest) == (26, 0, 9)


READERS = {
    ".parquet": pyarrow.parquet.read_table,
    ".csv": pyarrow.csv.read_csv,
    ".arrow": lambda path: pyarrow.ipc.open_file(path).read_all(),
}


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("paths", [False, True])
def test_tables(source, tmp_path, capsys, suffix, paths):
    """Each format reads back; Parquet and CSV have a column a dimension."""
    output = tmp_path / f"out{suffix}"
    outcome = cli(capsys, "list", source, "--output", output, *(["--paths"] if paths else []))
    assert (outcome.code, outcome.err) == (0, "")
    assert str(output) in outcome.out
    table = READERS[suffix](output)
    if suffix == ".arrow":
        coords = [tuple(c) for c in table["chunk"].to_pylist()]
        assert table.schema.field("chunk").type == pa.list_(
            pa.field("item", pa.uint32(), nullable=False), 2
        )
    else:
        coords = list(zip(table["chunk_0"].to_pylist(), table["chunk_1"].to_pylist(), strict=True))
        if suffix == ".parquet":
            assert table.schema.field("chunk_1").type == pa.uint32()
    assert sorted(coords) == ROWS
    tail = ["size", "last_modified", "e_tag", *(["path"] if paths else [])]
    assert table.column_names[-len(tail) :] == tail
    if paths:
        assert sorted(table["path"].to_pylist()) == [f"c/{a}/{b}" for a, b in ROWS]
    assert {file.name for file in tmp_path.iterdir()} == {"s.zarr", output.name}


@pytest.mark.parametrize("suffix", READERS)
def test_tables_of_nothing_and_of_a_scalar(tmp_path, capsys, suffix):
    """No chunks is a table without rows; a scalar has one row without coordinates."""
    zarr.create_array(tmp_path / "none", shape=(4,), chunks=(2,), dtype="u1")
    scalar = zarr.create_array(tmp_path / "scalar", shape=(), dtype="u1", fill_value=0)
    scalar[...] = 1
    for name, rows in (("none", 0), ("scalar", 1)):
        output = tmp_path / f"{name}{suffix}"
        outcome = cli(capsys, "list", tmp_path / name, "--output", output)
        assert (outcome.code, outcome.err) == (0, "")
        assert READERS[suffix](output).num_rows == rows


def test_many_rows(serve, tmp_path, capsys):
    """A table of many batches, replacing an older file."""
    endpoint = serve(array("a", 30, 1000))
    output = tmp_path / "out.parquet"
    output.write_text("old")
    options = flags("--source-option", endpoint.options)
    outcome = cli(capsys, "list", "s3://bucket/a", "--output", output, "--json", *options)
    assert outcome.document["output"] == str(output)
    table = pyarrow.parquet.read_table(output)
    assert table.num_rows == len(set(zip(*table.to_pydict().values(), strict=True))) == 30_000


@pytest.mark.parametrize(
    "arguments",
    [
        ("--output", "x.txt"),
        ("--output", "parquet"),
        ("--region", "time"),
        ("--region", "time=1"),
        ("--region", "time=-:2"),
        ("--region", "time=a:b"),
        ("--region", "time=0:2:1"),
        ("--region", "time=0:2", "--region", "time=2:4"),
        ("--concurrency", "0"),
        ("--concurrency", "many"),
        ("--nope",),
        ("--source-option", "region=x"),
    ],
)
def test_wrong_usage(source, capsys, arguments):
    """Exit 2 and one line that names the option; nothing is written."""
    before = set(source.rglob("*"))
    outcome = cli(capsys, "list", source, *arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("error: ")
    assert len(outcome.err.splitlines()) <= 3
    assert "invalid literal" not in outcome.err
    assert set(source.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("--region", "time=1:4"), "RegionError"),
        (("--region", "lat=0:4"), "RegionError"),
        (("--output", "/nowhere/out.csv"), "TargetError"),
    ],
)
def test_failures(source, capsys, arguments, kind):
    """Exit 1; type, message and hint as JSON."""
    outcome = cli(capsys, "list", source, "--json", *arguments)
    assert outcome.code == 1
    assert outcome.document["error"]["type"] == kind


def test_not_an_array(source, tmp_path, capsys):
    """A group, a file, or nothing instead of an array."""
    for wrong, said in (
        (source.parent, "group"),
        (source / "nope", "nothing"),
        (source / "zarr.json", "file"),
    ):
        outcome = cli(capsys, "list", wrong, "--json")
        assert outcome.code == 1
        assert outcome.document["error"]["type"] == "SourceNotFoundError"
        assert said in outcome.err


def test_unwritable_output(source, tmp_path, capsys):
    """A folder in the way of the file."""
    output = tmp_path / "out.csv"
    output.mkdir()
    outcome = cli(capsys, "list", source, "--output", output)
    assert outcome.code == 1
    assert "out.csv" in outcome.err
    assert len(outcome.err.splitlines()) <= 3
    assert {file.name for file in tmp_path.iterdir()} == {"s.zarr", "out.csv"}


@pytest.mark.parametrize("suffix", READERS)
def test_a_listing_that_fails_half_way(serve, tmp_path, capsys, suffix):
    """The error is the listing's, and neither half a file nor a broken old one is left."""
    endpoint = serve(array("a", 9000))
    output = tmp_path / f"out{suffix}"
    output.write_text("old")
    endpoint.fail(outside_key=1.0, skip=4)
    options = flags("--source-option", endpoint.options)
    outcome = cli(capsys, "list", "s3://bucket/a", "--json", "--output", output, *options)
    assert outcome.code == 1
    error = outcome.document["error"]
    assert error["type"] == "ListingError"
    assert "a/" in error["message"]
    assert error["hint"]
    assert "Traceback" not in outcome.err
    assert len(outcome.err.splitlines()) <= 3
    assert output.read_text() == "old"
    assert list(tmp_path.iterdir()) == [output]
    endpoint.set(allow=False)
    outcome = cli(capsys, "list", "s3://bucket/a", "--json", "--output", output, *options)
    assert outcome.document["error"]["type"] == "AccessError"


def test_warnings(serve, capsys):
    """On stderr, not with --quiet, and in the document."""
    endpoint = serve(array("a", 3000), objects=[{"key": "a/c/1x"}])
    endpoint.fail(start_after="ignored")
    options = flags("--source-option", endpoint.options)
    outcome = cli(capsys, "list", "s3://bucket/a", *options)
    assert outcome.code == 0
    assert "warning: " in outcome.err
    assert "serial" in outcome.err
    assert "array /a: 1 key below it" in outcome.err
    assert "a/c/1x" in outcome.err
    outcome = cli(capsys, "list", "s3://bucket/a", "--quiet", "--json", *options)
    assert (outcome.code, outcome.err) == (0, "")
    assert len(outcome.document["warnings"]) == 2


@pytest.mark.parametrize("verb", ["list", "plan"])
def test_help(verb):
    """Options and an example."""
    outcome = run(verb, "--help")
    assert outcome.code == 0
    assert f"Example: refreeze {verb}" in outcome.out
    assert "--region" in outcome.out


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"]
)
@pytest.mark.parametrize("to_file", [False, True])
def test_interruption(serve, tmp_path, sent, code, to_file):
    """The exit code of the signal, within two seconds, and nothing left behind."""
    endpoint = serve(array("a", 1_000_000))
    words = ["--output", tmp_path / "out.csv"] if to_file else []
    options = flags("--source-option", endpoint.options)
    with subprocess.Popen(
        command("list", "s3://bucket/a", *words, *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while endpoint.stats()["list"] < 5:
            time.sleep(0.01)
        endpoint.set(latency_ms=60_000)
        time.sleep(0.3)
        at = time.monotonic()
        process.send_signal(sent)
        out, err = process.communicate(timeout=20)
        assert time.monotonic() - at < PROMPTLY
    assert process.returncode == code, err
    assert out == ""
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_plan(serve, capsys, tmp_path):
    """A table for people, one document for programs."""
    endpoint = serve(array("a", 1000, 1000, 1000), array("b", 5))
    options = flags("--source-option", endpoint.options)
    outcome = cli(capsys, "plan", "s3://bucket", tmp_path / "t", *options)
    assert (outcome.code, outcome.err) == (0, "")
    assert "1,000 x 1,000 x 1,000" in outcome.out
    assert "1,000,000 LIST requests" not in outcome.err
    assert "As far as a few requests can tell, for up to 1,000,000,005 chunks:" in outcome.out
    outcome = cli(capsys, "plan", "s3://bucket", "--array", "b", *options)
    assert "If every chunk exists: 5 chunks" in outcome.out
    words = ["--array", "a", "--region", "dim_0=0:10", "--json", *options]
    document = cli(capsys, "plan", "s3://bucket", *words).document
    assert [a["path"] for a in document["arrays"]] == ["/a"]
    assert document["arrays"][0]["region"] == {"dim_0": [0, 10]}
    assert document["totals"]["chunks_in_region"] == 10_000_000
    assert json.loads(json.dumps(document)) == document
    for words, code in ((["--region", "lat=0:1"], 1), (["--region", "x"], 2), (["--what"], 2)):
        assert cli(capsys, "plan", "s3://bucket", *words, *options).code == code
    assert cli(capsys, "plan", tmp_path / "nope").code == 1
    assert not (tmp_path / "t").exists()


def test_secrets_stay_out(serve, capsys):
    """Of errors, whatever was given wrongly."""
    endpoint = serve(array("a", 10), allow=False)
    options = endpoint.options | {"secret_access_key": "hunter2", "access_key_id": "me"}
    options["skip_signature"] = "false"
    outcome = cli(capsys, "list", "s3://bucket/a", "--json", *flags("--source-option", options))
    assert outcome.code == 1
    assert outcome.document["error"]["type"] == "AccessError"
    assert "hunter2" not in outcome.out + outcome.err
    assert os.environ.get("AWS_SECRET_ACCESS_KEY") != "hunter2"
