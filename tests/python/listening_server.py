"""A web server with room for many that connect at once: what servers and proxies of the tests have in common."""

from __future__ import annotations

from http.server import ThreadingHTTPServer

__all__ = ["ListeningServer"]


class ListeningServer(ThreadingHTTPServer):
    """Its threads end with the process."""

    daemon_threads = True
    request_queue_size = 1024
    """Five by default: more that connect at once would wait for a second SYN, or give up."""
