"""A web server over a folder, with a switch for everything that servers are known to do.

It counts what it was asked, and follows RFC 9110 where no switch says otherwise.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from hashlib import md5
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

from listening_server import ListeningServer

__all__ = ["Asked", "Switches", "WebServer", "serving"]


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    """Decoded, without the query."""
    query: str
    headers: dict[str, str]
    """Names in small letters."""

    @property
    def is_for_chunk(self) -> bool:
        """Whether the last part of the path is a coordinate."""
        return self.path.rpartition("/")[2].replace(".", "").isdigit()


@dataclass
class Switches:
    """What the server does; all of it is off."""

    head: int | None = None
    """Status of every HEAD."""
    absent: int = 404
    """Status of what is not there."""
    absent_get: int | None = None
    """The same for GET alone."""
    throttled: int = 0
    """So many requests for chunks are answered with 429 first."""
    retry_after: str | None = "1"
    failing: int = 0
    """So many requests for chunks are answered with 500 first."""
    no_length: bool = False
    """Neither HEAD nor GET tells a length; bodies are chunked."""
    no_length_of_head: bool = False
    zero_length_of_head: bool = False
    no_time: bool = False
    no_tag: bool = False
    weak_tag: bool = False
    no_range: bool = False
    ignored: frozenset[str] = frozenset()
    """Conditions that are taken for absent: names of headers in small letters."""
    redirect: str | None = None
    """Everything is redirected to this base."""
    listing: bool = False
    """Answers ``?list-type=2``."""
    wanted_header: tuple[str, str] | None = None
    """401 without it."""
    answer: Callable[[Asked], tuple[int, dict[str, str], bytes] | None] | None = None
    """Answers instead; None leaves it alone."""


@dataclass
class WebServer:
    """A folder, its switches and what was asked."""

    root: Path
    switches: Switches = field(default_factory=Switches)
    asked: list[Asked] = field(default_factory=list)
    port: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self.port}"

    def of_chunks(self, *methods: str) -> list[Asked]:
        """Return the requests for chunks."""
        return [one for one in self.asked if one.is_for_chunk and one.method in (methods or _ALL)]

    def controls(self) -> list[Asked]:
        """Return the requests for what cannot exist."""
        return [one for one in self.asked if "cannot-exist" in one.path]


_ALL = ("GET", "HEAD")


@contextmanager
def serving(root: Path, **switches: object) -> Iterator[WebServer]:
    """Run a server until the block ends."""
    server = WebServer(Path(root), Switches(**switches))  # type: ignore[arg-type]

    class Bound(_Handler):
        web = server

    http = ListeningServer(("127.0.0.1", 0), Bound)
    server.port = http.server_address[1]
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    web: WebServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, unquote(parts.path), parts.query, headers)
        on = self.web.switches
        with self.web.lock:
            self.web.asked.append(asked)
            early = self._early(asked, on)
        if early is not None:
            self._send(*early)
            return
        path = self.web.root / asked.path.strip("/")
        if not path.is_file():
            absent = on.absent_get if asked.method == "GET" and on.absent_get else on.absent
            self._send(absent, {}, b"nothing here")
            return
        self._send_file(asked, on, path)

    def _early(self, asked: Asked, on: Switches) -> tuple[int, dict[str, str], bytes] | None:
        """Return what a switch answers, whatever there is."""
        name, value = on.wanted_header or ("host", asked.headers.get("host"))
        early: tuple[int, dict[str, str], bytes] | None = None
        if on.answer is not None and (answer := on.answer(asked)) is not None:
            early = answer
        elif on.redirect is not None:
            early = 302, {"location": on.redirect + self.path}, b""
        elif "list-type=2" in asked.query and on.listing:
            early = 200, {}, b"<?xml version='1.0'?><ListBucketResult></ListBucketResult>"
        elif asked.headers.get(name.lower()) != value:
            early = 401, {}, b"who are you"
        elif on.throttled and asked.is_for_chunk:
            on.throttled -= 1
            wait = {} if on.retry_after is None else {"retry-after": on.retry_after}
            early = 429, wait, b"too fast"
        elif on.failing and asked.is_for_chunk:
            on.failing -= 1
            early = 500, {}, b"oh"
        elif on.head is not None and asked.method == "HEAD":
            early = on.head, {}, b""
        return early

    def _send_file(self, asked: Asked, on: Switches, path: Path) -> None:
        body = path.read_bytes()
        modified = datetime.fromtimestamp(int(path.stat().st_mtime), UTC)
        tag = f'"{md5(body, usedforsecurity=False).hexdigest()}"'
        headers = {"accept-ranges": "bytes"}
        if not on.no_time:
            headers["last-modified"] = format_datetime(modified, usegmt=True)
        if not on.no_tag:
            headers["etag"] = f"W/{tag}" if on.weak_tag else tag
        since = asked.headers.get("if-unmodified-since")
        wanted = asked.headers.get("if-match")
        if wanted is not None and "if-match" not in on.ignored and wanted != headers.get("etag"):
            self._send(412, headers, b"")
            return
        if (
            since is not None
            and wanted is None
            and "if-unmodified-since" not in on.ignored
            and modified > parsedate_to_datetime(since)
        ):
            self._send(412, headers, b"")
            return
        status, whole = 200, len(body)
        if (span := asked.headers.get("range")) and not on.no_range:
            first, _, last = span.removeprefix("bytes=").partition("-")
            if int(first) >= whole:
                self._send(416, headers | {"content-range": f"bytes */{whole}"}, b"")
                return
            end = min(int(last) + 1 if last else whole, whole)
            status, body = 206, body[int(first) : end]
            if not on.no_length:
                headers["content-range"] = f"bytes {first}-{end - 1}/{whole}"
        self._send(status, headers, body)

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        on = self.web.switches
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        head = self.command == "HEAD"
        chunked = on.no_length and status in {200, 206}
        if chunked:
            self.send_header("transfer-encoding", "chunked")
        elif not (head and on.no_length_of_head and status == 200):
            length = 0 if head and on.zero_length_of_head else len(body)
            self.send_header("content-length", str(length))
        self.end_headers()
        if head:
            return
        if chunked:
            if body:
                self.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
            return
        self.wfile.write(body)
