"""A proxy before the S3 server of the tests that gets chosen requests wrong, in any of the ways of `Fault`.

Signatures stay valid, because requests are passed on as they come, their host included.
"""

from __future__ import annotations

import http.client
import os
import socket
import struct
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3_server import S3Server

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}
CONDITIONS = ("if-match", "if-none-match")


class Fault(Enum):
    """What becomes of a request. The server executes it unless it says otherwise."""

    ERROR = auto()
    """Status 500; not executed."""
    THROTTLED = auto()
    """Status 503, SlowDown; not executed."""
    REFUSED = auto()
    """Status 403, AccessDenied; not executed."""
    MISSING = auto()
    """Status 404, NoSuchKey; not executed."""
    RESET = auto()
    """The connection is reset; not executed."""
    LOST = auto()
    """Executed, and then the connection is reset instead of an answer."""
    LOST_ERROR = auto()
    """Executed, and then answered with status 500."""
    ERROR_DOCUMENT = auto()
    """Status 200 and an XML document that tells of an error."""
    HTML = auto()
    """Status 200 and a page of HTML."""
    GARBAGE = auto()
    """The right status and headers, and other bytes of the right length."""
    EMPTY = auto()
    """The right status, and no bytes."""
    SHORT = auto()
    """The first half, with a content length that agrees."""
    CUT = auto()
    """The first half of what the content length announces, and the connection ends."""


NOT_EXECUTED = {Fault.ERROR, Fault.THROTTLED, Fault.REFUSED, Fault.MISSING, Fault.RESET}
ANSWERS = {
    Fault.ERROR: (500, b"<Error><Code>InternalError</Code><Message>broken</Message></Error>"),
    Fault.THROTTLED: (503, b"<Error><Code>SlowDown</Code><Message>slow</Message></Error>"),
    Fault.REFUSED: (403, b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"),
    Fault.MISSING: (404, b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>"),
    Fault.LOST_ERROR: (500, b"<Error><Code>InternalError</Code><Message>broken</Message></Error>"),
    Fault.ERROR_DOCUMENT: (
        200,
        b"<Error><Code>InternalError</Code><Message>broken</Message></Error>",
    ),
    Fault.HTML: (200, b"<!DOCTYPE html><html><body>Please log in</body></html>"),
}


@dataclass(frozen=True)
class Request:
    """A request as the server sees it."""

    method: str
    path: str
    """With the bucket: ``/bucket/a/zarr.json``; decoded."""
    query: str
    conditional: bool
    """Whether it is to be executed only if an object is absent, or as it was."""

    @property
    def listed(self) -> str | None:
        """The prefix of a LIST request; None of any other."""
        query = parse_qs(self.query, keep_blank_values=True)
        return query.get("prefix", [""])[0] if "list-type" in query else None


@dataclass
class Faults:
    """What goes wrong at present, and what did."""

    chosen: Callable[[Request], bool] | None = None
    """Which requests go wrong; None: all are well."""
    fault: Fault = Fault.ERROR
    skip: int = 0
    """So many of the chosen ones are well before the first that is not."""
    most: int | None = None
    """After so many that went wrong all are well again."""
    forgetful: bool = False
    """Whether objects have lost their user metadata when they are read, as behind some gateways."""
    seen: list[Request] = field(default_factory=list)
    struck: list[Request] = field(default_factory=list)
    """Those that went wrong."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def begin(
        self,
        chosen: Callable[[Request], bool],
        fault: Fault = Fault.ERROR,
        *,
        skip: int = 0,
        most: int | None = None,
    ) -> None:
        """Let requests go wrong from now on, and forget what was."""
        with self.lock:
            self.chosen, self.fault, self.skip, self.most = chosen, fault, skip, most
            self.seen, self.struck = [], []

    def heal(self) -> None:
        """Let all go well from now on."""
        with self.lock:
            self.chosen = None

    def strike(self, request: Request) -> Fault | None:
        """Tell what becomes of a request, and remember it."""
        with self.lock:
            self.seen.append(request)
            done = self.most is not None and len(self.struck) >= self.most
            if done or self.chosen is None or not self.chosen(request):
                return None
            if self.skip > 0:
                self.skip -= 1
                return None
            self.struck.append(request)
            return self.fault


@contextmanager
def fault_proxy(server: S3Server) -> Iterator[tuple[S3Server, Faults]]:
    """Yield the server as it is seen through the proxy, and what is to go wrong."""
    with Proxy(server.endpoint.removeprefix("http://")) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield replace(server, endpoint=f"http://127.0.0.1:{proxy.server_port}"), proxy.faults
        finally:
            proxy.shutdown()


class Handler(BaseHTTPRequestHandler):
    """Passes one connection's requests on."""

    server: Proxy
    protocol_version = "HTTP/1.1"
    # An answer in two packets would wait for an acknowledgement.
    wbufsize = -1

    def answer(self) -> None:
        """Answer a request, rightly or wrongly."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        path, _, query = self.path.partition("?")
        conditional = any(name in self.headers for name in CONDITIONS)
        request = Request(self.command, unquote(path), query, conditional)
        fault = self.server.faults.strike(request)
        status, headers, content = 0, [("content-type", "application/xml")], b""
        if fault not in NOT_EXECUTED:
            connection = http.client.HTTPConnection(self.server.upstream, timeout=60)
            connection.request(self.command, self.path, body, dict(self.headers.items()))
            answer = connection.getresponse()
            status, headers, content = answer.status, answer.getheaders(), answer.read()
            connection.close()
            if self.server.faults.forgetful:
                headers = [header for header in headers if not is_user_metadata(header[0])]
        if fault in (Fault.RESET, Fault.LOST):
            self.reset()
            return
        if fault in ANSWERS:
            status, content = ANSWERS[fault]
        self.write(status, headers, *wrong(fault, content))

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 (names of the library)

    def write(
        self, status: int, headers: list[tuple[str, str]], content: bytes, missing: int
    ) -> None:
        """Send an answer, and announce more bytes than there are."""
        self.send_response_only(status)
        lengths = self.command != "HEAD"
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP | ({"content-length"} if lengths else set()):
                self.send_header(name, value)
        if lengths:
            self.send_header("content-length", str(len(content) + missing))
        self.end_headers()
        self.wfile.write(content)
        self.close_connection |= missing > 0

    def reset(self) -> None:
        """End the connection without an answer."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        os.close(self.connection.detach())
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Proxy(ThreadingHTTPServer):
    """Listens on a free port."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream = upstream
        self.faults = Faults()


def is_user_metadata(name: str) -> bool:
    """Whether a header is one of those that clients give to objects."""
    return name.lower().startswith("x-amz-meta-")


def wrong(fault: Fault | None, content: bytes) -> tuple[bytes, int]:
    """Return the bytes that are sent, and how many more are announced."""
    half = len(content) // 2
    match fault:
        case Fault.GARBAGE:
            return bytes(byte ^ 0x5A for byte in content), 0
        case Fault.EMPTY:
            return b"", 0
        case Fault.SHORT:
            return content[:half], 0
        case Fault.CUT:
            return content[:half], len(content) - half
    return content, 0
