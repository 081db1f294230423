"""HTTP servers as sources: which of them are object stores behind another name.

A server that answers a listing of version 2 can be used as an S3 endpoint; that is asked with one
request, without credentials, and said with the command that does it. Nothing is listed here, and read only what tells a page from a store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

if TYPE_CHECKING:
    from urllib.request import OpenerDirector

__all__ = ["as_bucket", "endpoint_settings", "first_bytes"]

_SECONDS = 5
_ENOUGH = 4096


def _opener() -> OpenerDirector:
    """Return a client that follows no redirection: who answers elsewhere is another server."""
    # Imported here: few ingests ask a server that may be none of an object store.
    from urllib.request import HTTPRedirectHandler, build_opener

    class Stays(HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    return build_opener(Stays)


def endpoint_settings(url: str) -> dict[str, str]:
    """Return the settings with which a server at a URL is used as an S3 endpoint."""
    parts = urlsplit(url)
    endpoint = f"{parts.scheme.lower()}://{parts.netloc.rpartition('@')[2]}"
    plain = {"allow_http": "true"} if parts.scheme.lower() == "http" else {}
    return {"endpoint": endpoint, "skip_signature": "true"} | plain


def as_bucket(url: str) -> str | None:
    """Ask whether an HTTP server lists like an object store.

    Parameters
    ----------
    url
        ``http://`` or ``https://``, of a place below a bucket.

    Returns
    -------
    str or None
        The ``s3://`` form of the URL; None where the server does not list.
    """
    try:
        parts = urlsplit(url)
        endpoint = endpoint_settings(url)["endpoint"]
        bucket, _, path = unquote(parts.path).strip("/").partition("/")
    except ValueError:
        return None
    if not bucket:
        return None
    asked = f"{endpoint}/{quote(bucket)}?list-type=2&max-keys=1"
    try:
        with _opener().open(asked, timeout=_SECONDS) as answer:
            start = answer.read(_ENOUGH)
    except (OSError, ValueError):
        return None
    if b"<ListBucketResult" not in start:
        return None
    return f"s3://{bucket}/{path}"


def first_bytes(url: str, most: int) -> bytes | None:
    """Read how the answer to a URL begins, without credentials; None where there is none."""
    try:
        parts = urlsplit(url)
        asked = parts._replace(path=quote(unquote(parts.path)), query="", fragment="").geturl()
        with _opener().open(asked, timeout=_SECONDS) as answer:
            return bytes(answer.read(most))
    except (OSError, ValueError):
        return None
