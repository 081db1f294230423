"""A web server with room for many that connect at once: what servers and proxies of the tests have in common."""

from __future__ import annotations

import sys
from http.server import ThreadingHTTPServer
from typing import Any

__all__ = ["ListeningServer"]


class ListeningServer(ThreadingHTTPServer):
    """Its threads end with the process."""

    daemon_threads = True
    request_queue_size = 1024
    """Five by default: more that connect at once would wait for a second SYN, or give up."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up: some are killed, and others give up."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)
