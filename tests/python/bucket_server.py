"""An S3 server in memory with one bucket, which can be told to misbehave and tells what it was asked.

It verifies no signature, so that requests can be looked at, and conditions can be ignored.
"""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from hashlib import md5
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from listening_server import ListeningServer

__all__ = ["Bucket", "Request", "running"]

LONG_AGO = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class Request:
    """A request as it arrived."""

    method: str
    path: str
    """With the query, as it was sent."""
    headers: dict[str, str]
    """Names in small letters."""

    @property
    def is_list(self) -> bool:
        """Whether it lists keys."""
        return "list-type" in self.path


class Bucket:
    """An S3 server in memory, with one bucket, that can be told to misbehave."""

    def __init__(self, name="bucket"):
        self.name = name
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
        self.answers = None
        """Given a request, answers it instead: status, headers and body; None leaves it alone."""
        self.tag = tag
        """Given an object's bytes, returns its ETag."""
        self.requests = []
        """Every request, in order."""
        self.port = 0

    @property
    def url(self):
        """Return the endpoint."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def options(self):
        """Settings that reach the bucket, ready for `--source-option`."""
        return {
            "endpoint": self.url,
            "region": "us-east-1",
            "access_key_id": "x",
            "secret_access_key": "y",
            "allow_http": "true",
        }

    def upload(self, folder, prefix):
        """Put the files of a folder below a prefix."""
        for file in sorted(Path(folder).rglob("*")):
            if file.is_file():
                self.objects[f"{prefix}/{file.relative_to(folder)}"] = file.read_bytes()

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
            if wanted["If-Match"] is not None and (
                old is None or wanted["If-Match"] != self.tag(old)
            ):
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

    def parse_request(self):
        """Look at a request before it is answered."""
        if not super().parse_request():
            return False
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers)
        self.bucket.requests.append(request)
        answer = self.bucket.answers(request) if self.bucket.answers else None
        if answer is None:
            return True
        self.rfile.read(int(headers.get("content-length", 0)))
        status, extra, content = answer
        self.answer(status, content, **extra)
        self.wfile.flush()
        return False

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
        return unquote(urlsplit(self.path).path).removeprefix(f"/{self.bucket.name}").lstrip("/")

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.bucket.put(self.key, body, self.headers)
        if status == 200:
            self.bucket.times[self.key] = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000Z}"
            self.answer(status, ETag=self.bucket.tag(body))
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
        modified = datetime.fromisoformat(self.bucket.times.get(self.key, LONG_AGO))
        headers = {
            "ETag": self.bucket.tag(body),
            "Last_Modified": format_datetime(modified, usegmt=True),
        }
        if self.is_stale(modified, self.bucket.tag(body)):
            self.answer(412, **headers)
            return
        wanted = self.headers.get("Range")
        if wanted is None:
            self.answer(200, body, **headers)
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start = int(first) if first else max(0, len(body) - int(last))
        stop = min(int(last) + 1 if first and last else len(body), len(body))
        part = f"bytes {start}-{stop - 1}/{len(body)}"
        self.answer(206, body[start:stop], Content_Range=part, **headers)

    def is_stale(self, modified, now):
        """Whether a condition of a read does not hold."""
        conditions = {
            name: self.headers.get(name)
            for name in ("If-Unmodified-Since", "If-Match")
            if name not in self.bucket.ignored
        }
        since, match = conditions.get("If-Unmodified-Since"), conditions.get("If-Match")
        if match is not None:
            return match.strip('"') != now.strip('"')
        return since is not None and modified > parsedate_to_datetime(since)

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
                f"<Contents><Key>{escape(key)}</Key><Size>{len(body)}</Size><ETag>{escape(self.bucket.tag(body))}</ETag>"
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
    server = ListeningServer(("127.0.0.1", 0), handler)
    bucket.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield bucket
    finally:
        server.shutdown()
        server.server_close()
