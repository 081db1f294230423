"""A proxy before the S3 server of the tests that gets chosen requests wrong, in any of the ways of `Fault`.

Signatures stay valid, because requests are passed on as they come, their host included.
"""

from __future__ import annotations

import http.client
import os
import socket
import struct
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

from listening_server import ListeningServer

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
    CUT_BY_RESET = auto()
    """The first half of what the content length announces, and the connection is reset."""
    ANSWERED_AND_RESET = auto()
    """The whole answer, and then the connection is reset."""
    UNREACHABLE = auto()
    """The connection is reset, and for a moment new ones are refused; not executed."""
    UNANSWERED = auto()
    """No answer at all, until the client gives up; not executed."""
    TOO_MANY = auto()
    """Status 429, to be asked again after a second; not executed."""
    REPLAYED = auto()
    """Another LIST request's answer, the one before, in the place of this one's."""
    KILLED = auto()
    """Whoever asks is killed; not executed."""
    KILLED_AFTERWARDS = auto()
    """Executed, and then whoever asks is killed."""


NOT_EXECUTED = {
    Fault.ERROR,
    Fault.THROTTLED,
    Fault.REFUSED,
    Fault.MISSING,
    Fault.RESET,
    Fault.UNREACHABLE,
    Fault.UNANSWERED,
    Fault.TOO_MANY,
    Fault.KILLED,
}
NO_ANSWER = {
    Fault.RESET,
    Fault.LOST,
    Fault.UNREACHABLE,
    Fault.UNANSWERED,
    Fault.KILLED,
    Fault.KILLED_AFTERWARDS,
}
"""The connection ends without one."""
OF_CONTENT = {
    Fault.GARBAGE,
    Fault.EMPTY,
    Fault.SHORT,
    Fault.CUT,
    Fault.CUT_BY_RESET,
    Fault.ERROR_DOCUMENT,
    Fault.HTML,
}
"""Of answers that have bytes: those to GET."""
OF_READS = set(Fault) - {
    Fault.ANSWERED_AND_RESET,
    Fault.UNANSWERED,
    Fault.REPLAYED,
    Fault.KILLED,
    Fault.KILLED_AFTERWARDS,
}
"""Each keeps the bytes of one object from a reader that waits."""
REFUSES_S = 0.05
"""For so long new connections are refused."""
ANSWERS = {
    Fault.ERROR: (500, b"<Error><Code>InternalError</Code><Message>broken</Message></Error>"),
    Fault.THROTTLED: (503, b"<Error><Code>SlowDown</Code><Message>slow</Message></Error>"),
    Fault.REFUSED: (403, b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"),
    Fault.MISSING: (404, b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>"),
    Fault.TOO_MANY: (429, b"<Error><Code>SlowDown</Code><Message>slow</Message></Error>"),
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
    kill: Callable[[], None] = lambda: None
    """Kills whoever asks."""
    listed: bytes = b""
    """The answer to the last LIST request."""
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
            self.seen, self.struck, self.listed = [], [], b""

    def listing(self, content: bytes) -> bytes:
        """Remember the answer to a LIST request; return the one before."""
        with self.lock:
            before, self.listed = self.listed, content
        return before

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
        faults = self.server.faults
        fault = faults.strike(request)
        status, headers, content = 0, [("content-type", "application/xml")], b""
        if fault is Fault.KILLED:
            faults.kill()
        if fault not in NOT_EXECUTED:
            status, headers, content = self.execute(body)
        if fault is Fault.KILLED_AFTERWARDS:
            faults.kill()
        if fault in NO_ANSWER:
            self.end(fault)
            return
        if request.listed is not None and status == HTTPStatus.OK:
            before = faults.listing(content)
            content = before if fault is Fault.REPLAYED and before else content
        if fault in ANSWERS:
            status, content = ANSWERS[fault]
        if fault is Fault.TOO_MANY:
            headers = [*headers, ("retry-after", "1")]
        self.write(status, headers, *wrong(fault, content))
        if fault in (Fault.CUT_BY_RESET, Fault.ANSWERED_AND_RESET):
            self.reset()

    def end(self, fault: Fault) -> None:
        """End the connection without an answer."""
        if fault is Fault.UNREACHABLE:
            self.server.refuse()
        if fault is Fault.UNANSWERED:
            # Until the client ends it.
            self.connection.recv(1, socket.MSG_PEEK)
        self.reset()

    def execute(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """Let the server answer: status, headers, bytes."""
        connection = http.client.HTTPConnection(self.server.upstream, timeout=60)
        connection.request(self.command, self.path, body, dict(self.headers.items()))
        answer = connection.getresponse()
        status, headers, content = answer.status, answer.getheaders(), answer.read()
        connection.close()
        if self.server.faults.forgetful:
            headers = [header for header in headers if not is_user_metadata(header[0])]
        return status, headers, content

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
        self.wfile.flush()
        self.close_connection |= missing > 0

    def reset(self) -> None:
        """End the connection as it is."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        os.close(self.connection.detach())
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Proxy(ListeningServer):
    """Listens on a free port."""

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream = upstream
        self.faults = Faults()
        self.ended = False

    def serve_forever(self, poll_interval: float = 0.5) -> None:  # noqa: ARG002 (of the library)
        """Accept connections, but for moments in which they are refused."""
        while not self.ended:
            try:
                request, address = self.socket.accept()
            except OSError:
                # It was closed, by `refuse` or for good.
                self.listen_again()
                continue
            self.process_request(request, address)

    def refuse(self) -> None:
        """Refuse new connections for a moment, if they are not refused already."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def listen_again(self) -> None:
        """Bind the port once more, after a moment."""
        self.socket.close()
        if self.ended:
            return
        time.sleep(REFUSES_S)
        if self.ended:
            return
        self.socket = socket.socket(self.address_family, self.socket_type)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", self.server_port))
        self.server_activate()

    def shutdown(self) -> None:
        """End `serve_forever`."""
        self.ended = True
        self.refuse()


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
        case Fault.CUT | Fault.CUT_BY_RESET:
            return content[:half], len(content) - half
    return content, 0
