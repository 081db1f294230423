"""Web servers that cannot be listed: their settings, and what a user allows to be asked of them.

The core sends the requests; which keys it asks for follows from metadata. Servers that are object
stores behind another name are told apart in `refreeze.stores.web`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from refreeze.shown import remember
from refreeze.stores.s3_settings import CLIENT_SETTINGS, check_value, text_of

if TYPE_CHECKING:
    from refreeze._refreeze import OpenedSource
    from refreeze.stores.resolve import Options

__all__ = ["WEB_SCHEMES", "Probing", "WebStore", "is_web"]

WEB_SCHEMES = frozenset({"http", "https"})

_HEADER = "header."
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header's name (RFC 9110, 5.6.2)."""
_OF_READERS = ("allow_invalid_certificates", "disable_system_certificates", "proxy_url")
"""What readers need too, and the stored configuration does not hold."""
_OFF = {"", "0", "false", "off", "no", "n"}


def is_web(url: str) -> bool:
    """Whether a URL is one of a web server."""
    scheme, separator, _ = url.partition("://")
    return bool(separator) and scheme.lower() in WEB_SCHEMES


@dataclass(frozen=True)
class Probing:
    """What a user allows to be asked of a server that cannot be listed."""

    probe: bool = False
    """Every predicted key may be asked for."""
    yes: bool = False
    """Agrees to more than a million requests, to taking 403 for absence, and to using a server that
    answers listings as an S3 endpoint."""
    max_requests_per_second: float | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Probing:
        """Take it from options by their names; those that are not given have their defaults."""
        return cls(**{name: options[name] for name in cls.__dataclass_fields__ if name in options})

    def shared_by(self, workers: int) -> Probing:
        """Return what each of several workers may do."""
        most = self.max_requests_per_second
        if most is None:
            return self
        return Probing(self.probe, self.yes, most / max(1, workers))


class WebStore:
    """A web server: what obstore's stores are elsewhere. Paths in it are not percent-encoded.

    Parameters
    ----------
    base
        Scheme, host and port, such as ``https://example.org``.
    headers
        Sent to this host alone; neither stored nor shown.
    client
        Settings of the HTTP client, in object_store's names.
    root_certificate
        Certificates in PEM form that are trusted too.
    probing
        What may be asked.
    """

    prefix = None
    """Stores have one; paths here are whole."""

    def __init__(
        self,
        base: str,
        *,
        headers: Mapping[str, str] | None = None,
        client: Mapping[str, str] | None = None,
        root_certificate: bytes | None = None,
        probing: Probing | None = None,
    ) -> None:
        self.base = base
        self.probing = probing or Probing()
        self._headers = dict(headers or {})
        self._client = dict(client or {})
        self._root_certificate = root_certificate
        remember(part for value in self._headers.values() for part in (value, *value.split()[1:]))

    @classmethod
    def of_url(
        cls, url: str, options: Options | None, probing: Probing | None
    ) -> tuple[WebStore, str]:
        """Return the server of a URL, and the path on it.

        Raises
        ------
        ValueError
            The URL has a query or a fragment, or an option is not known.
        """
        base, path, user = _parts(url)
        headers, client = _settings(options)
        if user and "authorization" not in {name.lower() for name in headers}:
            headers["authorization"] = user
        return cls(base, headers=headers, client=client, probing=probing), path

    @classmethod
    def of_obstore(cls, store: Any, probing: Probing | None) -> tuple[WebStore, str]:
        """Return the server of an obstore ``HTTPStore``, and the path that the store begins at."""
        base, path, user = _parts(str(store.url))
        given = dict(store.client_options or {})
        headers = {
            str(name): value.decode("latin-1") if isinstance(value, bytes) else str(value)
            for name, value in dict(given.pop("default_headers", None) or {}).items()
        }
        if user:
            headers["authorization"] = user
        certificate = given.pop("root_certificate", None)
        if isinstance(certificate, str):
            certificate = certificate.encode()
        client = {str(name).lower(): text_of(value) for name, value in given.items()}
        store = cls(
            base, headers=headers, client=client, root_certificate=certificate, probing=probing
        )
        return store, path

    @cached_property
    def opened(self) -> OpenedSource:
        """The server, as the core knows it; what it learns of it is kept here."""
        from refreeze import _refreeze

        return _refreeze.open_web(
            self.base,
            headers=list(self._headers.items()),
            client=self._client,
            root_certificate=self._root_certificate,
            probe=self.probing.probe,
            yes=self.probing.yes,
            max_requests_per_second=self.probing.max_requests_per_second,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What readers of references have to know of the settings."""
        needed = [f"header {name}" for name in self._headers]
        needed += [name for name in _OF_READERS if self._client.get(name, "").lower() not in _OFF]
        if self._root_certificate:
            needed.append("root_certificate")
        if not needed:
            return ()
        what = "readers of the references need settings of the source that are not stored"
        return (f"{what}: {', '.join(needed)}",)

    def __repr__(self) -> str:
        return f"WebStore({self.base!r})"


def _parts(url: str) -> tuple[str, str, str]:
    """Return scheme, host and port; the path, decoded; and what to send of user and password."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    shown = f"{parts.scheme}://{host}{parts.path}"
    if not host:
        raise ValueError(f"{shown} names no host")
    if parts.query or parts.fragment:
        raise ValueError(
            f"{shown}: a URL's query or fragment (? or #) cannot be part of a store's URL; a signed "
            "URL is good for one object"
        )
    authorization = ""
    if at:
        remember([unquote(user.partition(":")[2])])
        encoded = base64.b64encode(unquote(user).encode()).decode()
        authorization = f"Basic {encoded}"
    return f"{parts.scheme.lower()}://{host.lower()}", unquote(parts.path).strip("/"), authorization


def _settings(options: Options | None) -> tuple[dict[str, str], dict[str, str]]:
    """Divide options into headers and settings of the client."""
    headers, client = {}, {}
    # Before anything can go wrong: what goes wrong may be told with the values.
    for key, value in (options or {}).items():
        if key.lower().startswith(_HEADER):
            remember([text_of(value)])
    for key, value in (options or {}).items():
        name = key.lower()
        if name.startswith(_HEADER):
            header = key[len(_HEADER) :]
            if not _TOKEN.fullmatch(header):
                raise ValueError(f"source option {key}: not the name of a header")
            check_value(f"source option {key}", name, text_of(value))
            headers[header] = text_of(value)
        elif name in CLIENT_SETTINGS:
            client[name] = text_of(value)
        elif name not in {"skip_signature", "allow_http"}:
            raise ValueError(
                f"source option {key}: not a setting of a web server (known: header.NAME, timeout, "
                "connect_timeout, proxy_url, …)"
            )
    # The URL says it.
    client.pop("allow_http", None)
    return headers, client
