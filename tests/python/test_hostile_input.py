"""Stores and servers that mean harm: bounded memory and time, a typed error or the right result, nothing outside the target.

What single documents, links and pages may hold otherwise is in `test_mutated_documents.py`, `test_dangling_links.py`,
`test_local_trees.py`, `test_unreadable_arrays.py` and the Rust tests of pages.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pytest
import zarr
from obstore.store import S3Store

import refreeze
from endpoint import array
from refreeze.exceptions import RefreezeError, UnsupportedArrayError
from scenarios import cli, flags, local_repository, stamp, write_store


def listing(*keys, head="", size=8):
    """Return a page of a listing."""
    contents = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        f"<Size>{size}</Size><ETag>&quot;x&quot;</ETag></Contents>"
        for key in keys
    )
    return (
        f'<?xml version="1.0"?>{head}<ListBucketResult><IsTruncated>false</IsTruncated>'
        f"{contents}</ListBucketResult>"
    ).encode()


def answered(bucket, source, page):
    """Serve a store whose listings are `page`, whatever is asked for."""
    bucket.upload(source, "air.zarr")
    bucket.answers = lambda request: (
        (200, {"Content_Type": "application/xml"}, page) if request.is_list else None
    )


def ingest(bucket, target):
    """Ingest one array, whose metadata is read without listing."""
    backoff = {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=9)}
    store = S3Store(
        "bucket",
        endpoint=bucket.url,
        region="x",
        skip_signature=True,
        client_options={"allow_http": True},
        retry_config={"max_retries": 3, "backoff": {**backoff, "base": 2}},
    )
    return refreeze.ingest((store, "air.zarr/air"), target)


BOMB = "<!DOCTYPE z [" + '<!ENTITY a0 "lol">' + "".join(
    f'<!ENTITY a{level} "{f"&a{level - 1};" * 10}">' for level in range(1, 12)
) + "]>"  # fmt: skip
PAGES = {
    "an entity bomb": listing("air.zarr/air/c/0/0&a11;", head=BOMB),
    "an external entity": listing(
        "&file;", head='<!DOCTYPE z [<!ENTITY file SYSTEM "file:///etc/passwd">]>'
    ),
    "a key of a megabyte": listing("air.zarr/air/c/0/0", "air.zarr/air/c/0/" + "9" * (1 << 20)),
    "keys that climb": listing("air.zarr/air/../../../etc/passwd", "air.zarr/air/c/../c/0/0"),
    "absolute keys": listing("/etc/passwd", "/air.zarr/air/c/0/0"),
    "keys of another array": listing("air.zarr/time/c/0", "other/c/0/0"),
    "a size that no file has": listing("air.zarr/air/c/0/0", size=10**40),
    "a negative size": listing("air.zarr/air/c/0/0", size=-1),
    "elements in elements": b"<ListBucketResult>" + b"<a>" * 200_000,
    "no end": b"<ListBucketResult><Contents><Key>" + b"a" * (1 << 20),
    "bytes": bytes(range(256)) * 100,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_pages(bucket, source, tmp_path, page):
    """What a listing may hold: an error, or chunks that are in the grid and below the array, and nothing else."""
    answered(bucket, source, page)
    target = tmp_path / "place" / "repository"
    target.parent.mkdir()
    before = stamp(source)
    try:
        report = ingest(bucket, target)
    except RefreezeError as error:
        assert len(str(error)) < 10_000  # noqa: PT017 either may happen
    else:
        assert report.references_written <= 1
        locations = local_repository(target).readonly_session("main").all_virtual_chunk_locations()
        assert all(one.endswith("/air.zarr/air/c/0/0") for one in locations), locations
    assert {child.name for child in target.parent.iterdir()} <= {"repository"}
    assert stamp(source) == before


PAGE_WITHOUT_END = """
import http.server, sys, threading
import refreeze
from refreeze.exceptions import RefreezeError, UnsupportedArrayError

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        if "list-type" in self.path or sys.argv[1] == "document":
            self.send_header("content-length", str(1 << 30))
            self.end_headers()
            try:
                for _ in range(1 << 10):
                    self.wfile.write(b"<ListBucketResult>" if sys.argv[1] == "xml" else b" " * (1 << 20))
            except OSError:
                pass
            return
        body = open(sys.argv[2], "rb").read()
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
options = dict(endpoint=f"http://127.0.0.1:{server.server_port}", region="x", access_key_id="x",
               secret_access_key="y", allow_http="true")
try:
    refreeze.ingest("s3://bucket/air", sys.argv[3], source_options=options)
except RefreezeError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("what", ["page", "document"])
def test_a_gigabyte(source, tmp_path, what):
    """A page or a document that claims and sends a gigabyte is given up long before, with little memory."""
    words = [what, str(source / "air/zarr.json"), str(tmp_path / "target")]
    # Not `ru_maxrss`, which begins with that of the process that starts this one.
    peak = "next(line.split()[1] for line in open('/proc/self/status') if 'VmHWM' in line)"
    measured = PAGE_WITHOUT_END + f"print({peak})\n"
    done = subprocess.run(
        [sys.executable, "-c", measured, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    said, *_, peak = done.stdout.splitlines() or [done.stderr, "0"]
    assert "Error" in said, done
    assert 0 < int(peak) << 10 < 700 << 20, done


def test_many_foreign_keys(serve, tmp_path):
    """Thirty thousand keys among the chunks that are none cost a request for each page, and one warning."""
    endpoint = serve(array("air", 4, 4), {"prefix": "air/c/1x", "grid": [100, 300]})
    report = refreeze.ingest(
        "s3://bucket/air",
        tmp_path / "t",
        source_options=endpoint.options,
        checksum="none",
        no_read_check=True,
    )
    assert report.references_written == 16
    assert report.keys_listed > 30_000
    assert len(report.warnings) == 1
    assert report.list_requests < 60


@pytest.mark.timeout(120)
def test_a_thousand_nested_groups(tmp_path, request):
    """A path of a thousand groups: ingested, compared and synced, without an end of the stack."""
    root = tmp_path / "deep"
    request.addfinalizer(lambda: subprocess.run(["rm", "-rf", str(root)], check=True))  # noqa: S607 no recursion
    folder = root
    for depth in range(1_000):
        folder.mkdir()
        (folder / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
        if depth in {10, 300}:
            data = zarr.create_array(folder / "data", shape=(4,), chunks=(2,), dtype="i4")
            data[:] = np.arange(4)
        folder /= "g"
    target = tmp_path / "t"
    report = refreeze.ingest(root, target)
    assert report.references_written == 4
    assert refreeze.verify(root, target).equal
    assert refreeze.sync(root, target).snapshot_id is None


def test_a_location_that_is_too_long(tmp_path):
    """Icechunk refers to keys of at most 1,024 bytes: the array is named, and the message is short."""
    root = tmp_path / "deep"
    folder = root
    for _ in range(700):
        folder.mkdir()
        (folder / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
        folder /= "g"
    zarr.create_array(folder, shape=(4,), chunks=(2,), dtype="i4")[:] = np.arange(4)
    with pytest.raises(UnsupportedArrayError, match="location") as raised:
        refreeze.ingest(root, tmp_path / "t")
    assert len(str(raised.value)) < 3_000


@pytest.mark.timeout(120)
def test_thousands_of_groups(tmp_path):
    """Side by side they cost time in proportion, and no recursion."""
    root = tmp_path / "wide"
    write_store(root)
    for number in range(3_000):
        folder = root / f"g{number}"
        folder.mkdir()
        (folder / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    report = refreeze.ingest(root, tmp_path / "t")
    assert report.references_written == 5
    nodes = local_repository(tmp_path / "t").readonly_session("main").store
    assert len(list(zarr.open_group(nodes, mode="r").group_keys())) == 3_001


@dataclass(frozen=True)
class Document:
    """A change of the document of an array, as text."""

    old: str
    new: str


DOCUMENTS = {
    "a name twice": Document('"shape":', '"shape": [2, 2], "shape":'),
    "not a number": Document('"fill_value": 0', '"fill_value": NaN'),
    "a huge integer": Document('"fill_value": 0', f'"fill_value": {"9" * 5_000}'),
    "a huge shape": Document('"attributes": {', f'"attributes": {{"n": {"9" * 5_000}, '),
    "a lone surrogate": Document('"attributes": {', '"attributes": {"name": "\\ud800", '),
    "a lone surrogate as name": Document('"attributes": {', '"attributes": {"\\udfff": 1, '),
    "arrays in arrays": Document(
        '"attributes": {', '"attributes": {"deep": ' + "[" * 5_000 + "]" * 5_000 + ", "
    ),
    "an infinite exponent": Document('"attributes": {', '"attributes": {"e": 1e999999, '),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("change", DOCUMENTS.values(), ids=DOCUMENTS)
def test_documents(source, tmp_path, capsys, change):
    """An ingest that is right, or an error of its own class; on the command line never a traceback."""
    document = source / "air/zarr.json"
    content = json.loads(document.read_text())
    content["attributes"] = {"a": 1}
    text = json.dumps(content)
    assert change.old in text
    document.write_text(text.replace(change.old, change.new))
    target = tmp_path / "t"
    outcome = cli(capsys, "ingest", source, target, "--json")
    assert outcome.code in {0, 1}, outcome
    assert "Traceback" not in outcome.err
    if outcome.code:
        assert outcome.document["error"]["type"] not in {"InternalError", "UsageError"}, outcome.err
        assert len(outcome.err) < 3_000
    else:
        assert refreeze.verify(source, target).equal


def test_links_out_of_the_store(source, tmp_path):
    """A link to a folder elsewhere is followed as the file system does; nothing is written where it leads."""
    elsewhere = write_store(tmp_path / "elsewhere", offset=100)
    (source / "linked").symlink_to(elsewhere / "air", target_is_directory=True)
    before = stamp(elsewhere)
    target = tmp_path / "t"
    refreeze.ingest(source, target)
    assert refreeze.verify(source, target).equal
    assert stamp(elsewhere) == before


@pytest.mark.timeout(60)
@pytest.mark.parametrize("place", ["loop", "nested/loop", "air/loop", "air/c/loop"])
def test_links_in_circles(source, tmp_path, place):
    """A link to a folder above itself is met once, not for ever."""
    (source / place).symlink_to(source, target_is_directory=True)
    target = tmp_path / "t"
    try:
        report = refreeze.ingest(source, target)
    except RefreezeError as error:
        assert "loop" in str(error)  # noqa: PT017 either may happen
    else:
        assert report.references_written == 5


def test_plain_http_is_asked_for(bucket, source, tmp_path, capsys):
    """Without allow_http no request is made to an endpoint without encryption, and the error names the setting."""
    bucket.upload(source, "air.zarr")
    options = {name: value for name, value in bucket.options.items() if name != "allow_http"}
    outcome = cli(
        capsys, "ingest", "s3://bucket/air.zarr", tmp_path / "t", *flags("--source-option", options)
    )
    assert outcome.code in {1, 2}
    assert "allow_http" in outcome.err
    assert not bucket.requests
    target = cli(capsys, "ingest", source, "s3://bucket/t", *flags("--target-option", options))
    assert target.code in {1, 2}
    assert "allow_http" in target.err
    assert not bucket.requests
