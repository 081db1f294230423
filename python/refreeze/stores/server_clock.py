"""The clock of an object store's server, by the date of any answer, beside that of this machine.

Signed requests and Icechunk's commits both fail when clocks differ by many minutes. One request,
without credentials; what it is answered does not matter.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from refreeze.stores.cloud_settings import AZURE, GOOGLE, environment_settings
from refreeze.stores.s3_settings import environment_settings as s3_environment
from refreeze.stores.web_store import WebStore

__all__ = ["clock_difference", "endpoint_of"]

_SECONDS = 5


def endpoint_of(store: Any) -> str | None:
    """Return the URL of the server of an obstore store; None for one that has no server."""
    kind = type(store).__name__
    config = dict(getattr(store, "config", None) or {})
    if kind == "S3Store":
        settings = s3_environment() | config
        region = settings.get("region") or settings.get("default_region")
        usual = f"https://s3.{region}.amazonaws.com" if region else "https://s3.amazonaws.com"
        # object_store prefers the narrower one.
        return str(settings.get("endpoint_url_s3") or settings.get("endpoint") or usual)
    if kind == "GCSStore":
        settings = environment_settings(GOOGLE) | config
        return str(settings.get("base_url") or "https://storage.googleapis.com")
    if kind == "AzureStore":
        settings = environment_settings(AZURE) | config
        usual = f"https://{settings.get('account_name', '')}.blob.core.windows.net"
        return str(settings.get("endpoint") or usual)
    return store.base if isinstance(store, WebStore) else None


def clock_difference(endpoint: str) -> float | None:
    """Return by how many seconds the clock here is ahead of a server's; None if it tells no time.

    Servers tell whole seconds: differences below two say nothing.
    """
    # Every ingest asks for an endpoint, few for its time: a client of Python's own takes long to import.
    import http.client
    from email.utils import parsedate_to_datetime

    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname or "", parts.port
        kind = http.client.HTTPConnection if parts.scheme == "http" else http.client.HTTPSConnection
        connection = kind(host, port, timeout=_SECONDS)
        try:
            asked = datetime.now(UTC)
            connection.request("HEAD", "/")
            answer = connection.getresponse()
            answered = datetime.now(UTC)
        finally:
            connection.close()
        there = parsedate_to_datetime(answer.headers.get("Date", ""))
    except (OSError, ValueError, http.client.HTTPException):
        return None
    here = asked + (answered - asked) / 2
    return (here - there.astimezone(UTC)).total_seconds()
