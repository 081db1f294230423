"""Targets that are not safe, that fail half-way, and that two processes want at once."""

import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import formatdate
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import obstore
import pytest

import refreeze
from refreeze.exceptions import (
    AccessError,
    AlreadyExistsError,
    ConflictError,
    TargetError,
)
from scenarios import (
    SMALL_COMMITS,
    contents,
    local_contents,
    run,
    s3_repository,
    start_attempt,
    write_series,
    write_store,
)

LONG_AGO = "2026-01-01T00:00:00.000Z"


class Bucket:
    """An S3 server in memory, with one bucket, that can be told to misbehave."""

    def __init__(self):
        self.objects = {}
        self.times = {}
        """When objects were put, for those that were."""
        self.lock = threading.Lock()
        self.seen = Counter()
        self.ignored = set()
        """Conditions that are taken for absent."""
        self.failing = None
        """Status of every PUT after so many of them."""
        self.meanwhile = None
        """Called once, when the first probe is half-way."""
        self.port = 0

    @property
    def options(self):
        return {
            "endpoint": f"http://127.0.0.1:{self.port}",
            "region": "us-east-1",
            "access_key_id": "x",
            "secret_access_key": "y",
            "allow_http": "true",
        }

    def put(self, key, body, conditions):
        """Return the status of a PUT."""
        if self.meanwhile and "probe" in key and conditions.get("If-Match"):
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        with self.lock:
            self.seen["PUT"] += 1
            if self.failing and self.seen["PUT"] > self.failing[1]:
                return self.failing[0]
            old = self.objects.get(key)
            wanted = {name: conditions.get(name) for name in ("If-Match", "If-None-Match")}
            for name in self.ignored:
                wanted[name] = None
            if wanted["If-None-Match"] == "*" and old is not None:
                return 412
            if wanted["If-Match"] is not None and (old is None or wanted["If-Match"] != tag(old)):
                return 412
            self.objects[key] = body
            return 200


def tag(body):
    return f'"{md5(body, usedforsecurity=False).hexdigest()}"'


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body in one piece: a client waits for neither.
    wbufsize = -1
    disable_nagle_algorithm = True
    bucket: Bucket

    def log_message(self, *arguments):
        """Stay quiet."""

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    @property
    def key(self):
        return unquote(urlsplit(self.path).path).removeprefix("/bucket").lstrip("/")

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.bucket.put(self.key, body, self.headers)
        if status == 200:
            self.bucket.times[self.key] = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000Z}"
            self.answer(status, ETag=tag(body))
        else:
            self.answer(status, b"<Error><Code>Refused</Code></Error>")

    def do_GET(self):
        if not self.key:
            self.list()
            return
        body = self.bucket.objects.get(self.key)
        if body is None:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        headers = {"ETag": tag(body), "Last_Modified": formatdate(usegmt=True)}
        wanted = self.headers.get("Range")
        if wanted is None:
            self.answer(200, body, **headers)
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start = int(first) if first else max(0, len(body) - int(last))
        stop = min(int(last) + 1 if first and last else len(body), len(body))
        part = f"bytes {start}-{stop - 1}/{len(body)}"
        self.answer(206, body[start:stop], Content_Range=part, **headers)

    do_HEAD = do_GET  # noqa: N815 as above

    def do_DELETE(self):
        self.bucket.objects.pop(self.key, None)
        self.answer(204)

    def do_POST(self):
        """Delete many objects."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        for part in body.split("<Key>")[1:]:
            self.bucket.objects.pop(part.partition("</Key>")[0], None)
        self.answer(200, b"<DeleteResult></DeleteResult>")

    def list(self):
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter")
        found, folders = [], set()
        for key, body in sorted(self.bucket.objects.items()):
            if not key.startswith(prefix):
                continue
            head, between, _ = key[len(prefix) :].partition(delimiter or "\0")
            if between:
                folders.add(f"{prefix}{head}{between}")
                continue
            found.append(
                f"<Contents><Key>{escape(key)}</Key><Size>{len(body)}</Size><ETag>{tag(body)}</ETag>"
                f"<LastModified>{self.bucket.times.get(key, LONG_AGO)}</LastModified></Contents>"
            )
        shared = "".join(
            f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>"
            for folder in sorted(folders)
        )
        listing = f"<ListBucketResult><IsTruncated>false</IsTruncated>{''.join(found)}{shared}</ListBucketResult>"
        self.answer(200, listing.encode())


@contextmanager
def running(bucket):
    handler = type("Bound", (Handler,), {"bucket": bucket})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    bucket.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield bucket
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def bucket():
    with running(Bucket()) as bucket:
        yield bucket


@pytest.fixture
def source(tmp_path):
    return write_series(tmp_path / "series.zarr")


@pytest.fixture
def expected(tmp_path, source):
    """Return what an uninterrupted ingest makes of the source."""
    refreeze.ingest(source, tmp_path / "expected.icechunk")
    return local_contents(tmp_path / "expected.icechunk")


def ingest(source, bucket, **options):
    return refreeze.ingest(source, "s3://bucket/x", target_options=bucket.options, **options)


def test_a_safe_store_passes(source, bucket):
    """The server of these tests, when it behaves: nothing of the probe is left."""
    assert ingest(source, bucket).published
    assert bucket.objects
    assert not [key for key in bucket.objects if "probe" in key]


def test_the_real_server_passes(source, s3_bucket):
    """Conditions are honoured by versitygw; an object of the probe is not left behind."""
    server, name = s3_bucket
    refreeze.ingest(source, f"s3://{name}/x", target_options=server.options)
    keys = [item["path"] for page in obstore.list(server.store(name)) for item in page]
    assert keys
    assert not [key for key in keys if "probe" in key]


@pytest.mark.parametrize(
    ("ignored", "said"),
    [
        ({"If-None-Match"}, r"let 8 of 8 writers create the same object \(If-None-Match"),
        ({"If-Match"}, r"replaces an object whose version is another \(If-Match"),
        ({"If-Match", "If-None-Match"}, "If-None-Match"),
    ],
)
def test_a_store_that_ignores_conditions(source, bucket, ignored, said):
    """Commits could be lost: an error that says what the server does, and nothing is left there."""
    bucket.ignored = ignored
    with pytest.raises(TargetError, match=said) as raised:
        ingest(source, bucket)
    assert "--unsafe-target" in raised.value.hint
    assert bucket.objects == {}
    # At one's own risk.
    assert ingest(source, bucket, unsafe_target=True).published
    assert bucket.objects


def test_a_repository_is_not_probed_again(source, bucket):
    """Where there is a repository, nothing is written but the ingest."""
    ingest(source, bucket)
    bucket.ignored = {"If-None-Match"}
    assert ingest(source, bucket, target_group="again").published


def test_what_a_killed_probe_left(source, bucket):
    """Regression: its object made every later attempt fail, since the prefix was not empty."""
    bucket.objects["x/refreeze-probe-0123456789abc"] = b"refreeze asks"
    assert ingest(source, bucket).published
    assert not [key for key in bucket.objects if "probe" in key]


def test_two_processes_that_create_the_repository(source, bucket):
    """Regression: the quicker one took the other's probe for a left-over and removed it."""
    first = []
    bucket.meanwhile = lambda: first.append(ingest(source, bucket, target_group="first"))
    assert ingest(source, bucket, target_group="second").published
    assert first[0].published
    runs = refreeze.status("s3://bucket/x", target_options=bucket.options).runs
    assert [run.state for run in runs] == ["published", "published"]
    assert not [key for key in bucket.objects if "probe" in key]


@pytest.mark.parametrize(
    ("status", "after", "error"),
    [(403, 0, AccessError), (403, 40, AccessError), (507, 97, TargetError)],
)
def test_a_put_that_is_refused(source, bucket, status, after, error):
    """Half-way: a typed error that names the target; when the server is well again, it goes on."""
    bucket.failing = (status, after)
    with pytest.raises(error) as raised:
        ingest(source, bucket, **SMALL_COMMITS)
    assert "Traceback" not in str(raised.value)
    assert raised.value.hint
    bucket.failing = None
    done = 0
    if after:
        (unfinished,) = refreeze.status("s3://bucket/x", target_options=bucket.options).runs
        assert unfinished.state == "unfinished"
        done = unfinished.batches_done
        assert done > 0
    report = ingest(source, bucket, **SMALL_COMMITS)
    assert report.resumed_batches == done
    assert report.published
    assert report.references_written == 86


FULL = """
import resource, sys, refreeze, signal
from refreeze.exceptions import RefreezeError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def fill(event):
    if (event["stage"], event["commits"]) == ("list", 6):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
try:
    refreeze.ingest(sys.argv[1], sys.argv[2], max_refs_per_commit=4, progress=fill)
except RefreezeError as error:
    print(type(error).__name__, error)
"""


def test_a_file_that_cannot_be_written(tmp_path, source, expected):
    """The system refuses to write any more: a TargetError, and the same command goes on later."""
    target = tmp_path / "target.icechunk"
    said = subprocess.run(
        [sys.executable, "-c", FULL, str(source), str(target)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.startswith("TargetError"), said
    assert "File too large" in said
    (unfinished,) = refreeze.status(target).runs
    assert (unfinished.state, unfinished.batches_done) == ("unfinished", 5)
    report = refreeze.ingest(source, target, **SMALL_COMMITS)
    assert report.resumed_batches == 5
    assert local_contents(target) == expected


def test_a_full_disk(tmp_path, source, expected):
    """A file system without room: a TargetError that says so; with room again, it goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=112k", "tmpfs", str(disk)],  # noqa: S607
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        # test_a_file_that_cannot_be_written is the same without rights to mount.
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")
    try:
        target = disk / "target.icechunk"
        with pytest.raises(TargetError, match="No space left") as raised:
            refreeze.ingest(source, target, **SMALL_COMMITS)
        assert raised.value.hint
        subprocess.run(
            ["mount", "-o", "remount,size=8m", str(disk)],  # noqa: S607
            check=True,
        )
        (unfinished,) = refreeze.status(target).runs
        assert unfinished.state == "unfinished"
        report = refreeze.ingest(source, target, **SMALL_COMMITS)
        assert report.resumed_batches == unfinished.batches_done > 0
        assert local_contents(target) == expected
    finally:
        subprocess.run(["umount", str(disk)], check=True)  # noqa: S607


def test_two_processes_and_one_folder(tmp_path, source, expected):
    """The second one gets a ConflictError at once; the first is not disturbed."""
    target = tmp_path / "target.icechunk"
    refused = []

    def second(event):
        if event["commits"] >= 5 and not refused:
            refused.append(run("ingest", source, target))
            refused.append(run("publish", target))

    assert refreeze.ingest(source, target, progress=second, **SMALL_COMMITS).published
    assert [ended.code for ended in refused] == [1, 1]
    for ended in refused:
        assert "another process" in ended.err
        assert "Traceback" not in ended.err
    assert local_contents(target) == expected


def test_two_processes_and_one_bucket(source, s3_bucket, expected):
    """The same arrays at the same time: one is published, whole; the other says that it was not."""
    server, name = s3_bucket
    target, options = f"s3://{name}/x", {"target_options": server.options}
    refreeze.ingest(write_store(source.parent / "o.zarr"), target, target_group="o", **options)
    other = []

    def interfere(event):
        if event["commits"] >= 6 and not other:
            process = start_attempt(str(source), target, options, None, None)
            process.join()
            other.append(process.exitcode)

    with pytest.raises((ConflictError, AlreadyExistsError)) as raised:
        refreeze.ingest(source, target, progress=interfere, **SMALL_COMMITS, **options)
    assert other == [0]
    assert raised.value.hint
    repository = s3_repository(server, name, "x")

    def read(key):
        return bytes(server.store(name, "x").get(key).bytes())

    found = contents(repository, read)
    assert {path: found[path] for path in expected if path != "/"} == {
        path: node for path, node in expected.items() if path != "/"
    }
    assert "/o/air" in found
    # What the loser has done does not come back.
    report = refreeze.ingest(source, target, restart=True, **options)
    assert report.already_published
    assert contents(repository, read) == found
    assert repository.list_branches() == {"main"}


def test_two_processes_and_two_groups_of_one_bucket(source, s3_bucket, expected):
    """Different arrays at the same time: both get there, the slower one by a rebase."""
    server, name = s3_bucket
    target, options = f"s3://{name}/x", {"target_options": server.options}
    # Not both at once create the repository.
    refreeze.ingest(write_store(source.parent / "o.zarr"), target, target_group="o", **options)
    groups = ["one", "two"]
    processes = [
        start_attempt(
            str(source), target, options | SMALL_COMMITS | {"target_group": g}, None, None
        )
        for g in groups
    ]
    for process in processes:
        process.join()
    lost = [process.exitcode for process in processes if process.exitcode]
    staged = [one for one in refreeze.status(target, **options).runs if one.state == "staged"]
    assert len(lost) == len(staged) <= 1
    for one in staged:
        assert refreeze.publish(target, run=one.run_id, rebase=True, **options).rebased
    repository = s3_repository(server, name, "x")
    assert repository.list_branches() == {"main"}
    found = contents(repository, lambda key: bytes(server.store(name, "x").get(key).bytes()))
    for g in groups:
        assert {
            path.removeprefix(f"/{g}"): node
            for path, node in found.items()
            if path.startswith(f"/{g}/")
        } == {path: node for path, node in expected.items() if path != "/"}
    assert "/o/air" in found
