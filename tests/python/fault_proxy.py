"""A proxy before the S3 server of the tests that answers chosen requests with an error.

Signatures stay valid, because requests are passed on as they come, their host included.
"""

from __future__ import annotations

import http.client
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3_server import S3Server

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}


@dataclass
class Faults:
    """What goes wrong at present, and how often it did."""

    refuses: Callable[[str, str], bool] | None = None
    """Given method and path of a request: whether it is answered with the status 500."""
    applied: bool = False
    """Whether such a request reaches the server all the same."""
    most: int | None = None
    """After so many such requests all goes well again."""
    refused: list[str] = field(default_factory=list)
    """Paths of the requests that were answered so."""

    def strike(self, method: str, path: str) -> bool:
        """Tell whether a request is answered with an error, and count it."""
        done = self.most is not None and len(self.refused) >= self.most
        if done or self.refuses is None or not self.refuses(method, path):
            return False
        self.refused.append(path)
        return True


@contextmanager
def fault_proxy(server: S3Server) -> Iterator[tuple[S3Server, Faults]]:
    """Yield the server as it is seen through the proxy, and what is to go wrong."""
    faults = Faults()
    upstream = server.endpoint.removeprefix("http://")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # An answer in two packets would wait for an acknowledgement.
        wbufsize = -1

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            path = self.path.partition("?")[0]
            refused = faults.strike(self.command, path)
            status, headers, content = 500, [("content-type", "application/xml")], b"<Error/>"
            if not refused or faults.applied:
                connection = http.client.HTTPConnection(upstream, timeout=60)
                connection.request(self.command, self.path, body, dict(self.headers.items()))
                answer = connection.getresponse()
                found = answer.read()
                connection.close()
                if not refused:
                    status, headers, content = answer.status, answer.getheaders(), found
            self.send_response_only(status)
            lengths = self.command != "HEAD"
            for name, value in headers:
                if name.lower() not in HOP_BY_HOP | ({"content-length"} if lengths else set()):
                    self.send_header(name, value)
            if lengths:
                self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.answer)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        proxy.daemon_threads = True
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield replace(server, endpoint=f"http://127.0.0.1:{proxy.server_port}"), faults
        finally:
            proxy.shutdown()
