"""HTTP servers as sources: which of them are object stores behind another name.

A server that answers a listing of version 2 can be used as an S3 endpoint; that is asked with one
request, without credentials, and said with the command that does it. Nothing is listed here, and read only what tells a page from a store.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

__all__ = ["as_bucket", "endpoint_settings", "first_bytes"]

_SECONDS = 5
_ENOUGH = 4096


class _Stays(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: who answers elsewhere is another server."""

    def redirect_request(self, *_: object) -> None:
        return None


def endpoint_settings(url: str) -> dict[str, str]:
    """Return the settings with which a server at a URL is used as an S3 endpoint."""
    parts = urlsplit(url)
    endpoint = f"{parts.scheme.lower()}://{parts.netloc.rpartition('@')[2]}"
    plain = {"allow_http": "true"} if parts.scheme.lower() == "http" else {}
    return {"endpoint": endpoint, "skip_signature": "true"} | plain


def _opener(url: str, options: Mapping[str, Any] | None) -> urllib.request.OpenerDirector:
    """Return what asks by the proxy of the options, else by that of the environment."""
    given = {name.lower(): str(value) for name, value in (options or {}).items()}
    handlers: list[Any] = [_Stays]
    if proxy := given.get("proxy_url"):
        direct = _is_excluded(urlsplit(url).hostname or "", given.get("proxy_excludes", ""))
        handlers.append(
            urllib.request.ProxyHandler({} if direct else {"http": proxy, "https": proxy})
        )
    return urllib.request.build_opener(*handlers)


def _is_excluded(host: str, excludes: str) -> bool:
    names = [name.strip().lstrip(".").lower() for name in excludes.split(",")]
    return any(name and (name == "*" or f".{host}".endswith(f".{name}")) for name in names)


def as_bucket(url: str, options: Mapping[str, Any] | None = None) -> str | None:
    """Ask whether an HTTP server lists like an object store.

    Parameters
    ----------
    url
        ``http://`` or ``https://``, of a place below a bucket.
    options
        Settings of the source, of which those of proxies count.

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
        with _opener(url, options).open(asked, timeout=_SECONDS) as answer:
            start = answer.read(_ENOUGH)
    except (OSError, ValueError, urllib.error.HTTPError):
        return None
    if b"<ListBucketResult" not in start:
        return None
    return f"s3://{bucket}/{path}"


def first_bytes(url: str, most: int) -> bytes | None:
    """Read how the answer to a URL begins, without credentials; None where there is none."""
    try:
        parts = urlsplit(url)
        asked = parts._replace(path=quote(unquote(parts.path)), query="", fragment="").geturl()
        with urllib.request.build_opener(_Stays).open(asked, timeout=_SECONDS) as answer:
            return bytes(answer.read(most))
    except (OSError, ValueError, urllib.error.HTTPError):
        return None
