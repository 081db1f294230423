"""URLs of object stores, in all their spellings: which service, which bucket, which path in it.

What an ``https://`` URL of such a store means is decided here too. Nothing is asked of a server.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from refreeze.exceptions import AccessError
from refreeze.shown import one_line, remember
from refreeze.stores.cloud_settings import AZURE, GOOGLE, cloud_settings, has_credentials
from refreeze.stores.s3_settings import S3Settings, s3_settings
from refreeze.stores.web_store import is_web

__all__ = ["BUCKET_SCHEMES", "Bucket", "bucket_of_url", "is_bucket", "open_bucket", "said_by_url"]

BUCKET_SCHEMES = {
    "s3": "s3",
    "gs": "gs",
    "gcs": "gs",
    "az": "az",
    "azure": "az",
    "abfs": "az",
    "abfss": "az",
    "adl": "az",
}
"""The scheme that refreeze writes, by every scheme that it reads."""

_AZURE_HOST = re.compile(
    r"^(?P<account>[a-z0-9-]+)(\.z\d+)?\.(blob|dfs)\."
    r"(?P<domain>core\.windows\.net|core\.usgovcloudapi\.net|core\.chinacloudapi\.cn"
    r"|storage\.azure\.net|fabric\.microsoft\.com)$"
)
_AWS_HOST = re.compile(
    r"^(?:(?P<bucket>.+)\.)?s3(?:[.-](?:dualstack\.)?(?P<region>[a-z]{2}(?:-[a-z]+)+-\d))?"
    r"\.amazonaws\.com(?:\.cn)?$"
)
_R2_HOST = re.compile(
    r"^(?:(?P<bucket>[^.]+)\.)?(?P<account>[0-9a-f]{32})(?:\.eu|\.fedramp)?\.r2\.cloudflarestorage\.com$"
)
_GOOGLE_HOST = re.compile(
    r"^(?:(?P<bucket>.+)\.)?storage\.googleapis\.com$|^storage\.cloud\.google\.com$"
)


@dataclass(frozen=True)
class Bucket:
    """A path in a bucket of a service."""

    service: str
    """``s3``, ``gs`` or ``az``: the scheme of its URLs."""
    name: str
    """Of the bucket or container."""
    path: str
    """In the bucket, without slashes at its ends."""
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What the URL says beside that, in object_store's names; a shared access signature too."""
    was_https: str = ""
    """The host, where the URL was an ``https://`` URL."""

    @property
    def url(self) -> str:
        """Without credentials."""
        return f"{self.service}://{self.name}/{self.path}"


def is_bucket(url: str) -> bool:
    """Whether a URL, as refreeze writes it, is one of an object store."""
    return url.partition("://")[0] in BUCKET_SCHEMES and "://" in url


def bucket_of_url(url: str) -> Bucket | None:
    """Find the bucket that a URL leads to; None, if it is no URL of an object store.

    Raises
    ------
    ValueError
        The URL names no bucket, or holds credentials that do not belong into it.
    """
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme == "https":
        return _of_https(url)
    if scheme not in BUCKET_SCHEMES:
        return None
    service = BUCKET_SCHEMES[scheme]
    host, _, path = rest.partition("/")
    if service == "az":
        return _of_azure(url, host, path)
    if not host:
        raise ValueError(f"{url} names no bucket")
    if "@" in host:
        _, _, password = host.rpartition("@")[0].partition(":")
        remember([password])
        raise ValueError(
            "credentials do not belong into a URL; use the environment or the options of the store "
            "(for S3, access_key_id and secret_access_key)"
        )
    return Bucket(service, host, path.strip("/"))


def _of_azure(url: str, host: str, path: str) -> Bucket:
    """``az://container/path``, or with ``container@account.dfs.core.windows.net``."""
    path, _, query = path.partition("?")
    settings = _shared_access(query)
    container, at, account_host = host.rpartition("@")
    if not at:
        container = host
    elif ":" in container:
        remember([container.partition(":")[2]])
        raise ValueError("credentials do not belong into a URL; use AZURE_STORAGE_ACCOUNT_KEY")
    else:
        settings |= _account(account_host)
    if not container:
        raise ValueError(f"{url.partition('?')[0]} names no container")
    return Bucket("az", container, path.strip("/"), settings)


def _account(host: str) -> dict[str, str]:
    """Return what the host of an account says."""
    match = _AZURE_HOST.match(host.lower())
    if not match:
        return {"account_name": host.partition(".")[0]}
    account, domain = match["account"], match["domain"]
    if domain == "fabric.microsoft.com":
        return {"account_name": account, "use_fabric_endpoint": "true"}
    if domain == "core.windows.net":
        return {"account_name": account}
    return {
        "account_name": account,
        "endpoint": f"https://{host.lower().replace('.dfs.', '.blob.')}",
    }


def _shared_access(query: str) -> dict[str, str]:
    """Return the shared access signature that a query is, and remember it as a secret."""
    signature = [value for key, value in parse_qsl(query) if key == "sig"]
    remember([*signature, query] if signature else [])
    return {"sas_key": query} if signature else {}


def _of_https(url: str) -> Bucket | None:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
    except ValueError:
        return None
    if parts.port not in {None, 443} or parts.username:
        return None
    path = unquote(parts.path).strip("/")
    first, _, rest = path.partition("/")
    if _AZURE_HOST.match(host):
        if not first:
            raise ValueError(f"https://{host} names no container")
        settings = _account(host) | _shared_access(parts.query)
        return Bucket("az", first, rest, settings, host)
    found: tuple[str, str | None, dict[str, str]]
    if match := _AWS_HOST.match(host):
        region = {"region": match["region"]} if match["region"] else {}
        found = "s3", match["bucket"], region
    elif match := _GOOGLE_HOST.match(host):
        found = "gs", match["bucket"], {}
    elif match := _R2_HOST.match(host):
        endpoint = f"https://{host.removeprefix((match['bucket'] or '') + '.')}"
        found = "s3", match["bucket"], {"endpoint": endpoint, "region": "auto"}
    else:
        return None
    service, bucket, settings = found
    if not bucket:
        bucket, path = first, rest
    if not bucket:
        raise ValueError(f"https://{host} names no bucket")
    return Bucket(service, bucket, path, settings, host)


def open_bucket(
    bucket: Bucket, options: Mapping[str, Any] | None, side: str
) -> tuple[Any, tuple[str, ...]]:
    """Return the obstore store of a bucket, and what readers have to know of its settings.

    Raises
    ------
    ValueError
        A setting that is not known or cannot be.
    AccessError
        The settings do not make a client.
    """
    from obstore.exceptions import BaseError
    from obstore.store import AzureStore, GCSStore, S3Store

    settings, said = _settings(bucket, options, side)
    makers: dict[str, Any] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
    client = settings.client or None
    variables = {"s3": "AWS_*", "gs": "GOOGLE_*", "az": "AZURE_*"}[bucket.service]
    name = {"s3": "S3", "gs": "Google Cloud Storage", "az": "Azure"}[bucket.service]
    try:
        store = makers[bucket.service](bucket.name, config=settings.config, client_options=client)
    except (BaseError, ValueError) as error:
        message = one_line(error)
        if "onfig" in message and "key" in message.lower() and bucket.service == "s3":
            raise ValueError(f"{side} option: {message}") from None
        raise AccessError(
            f"the {name} settings of the {side} do not make a client: {message}",
            f"check the {variables} environment variables and --{side}-option",
        ) from None
    return store, (*said, *settings.notes)


def said_by_url(
    url: str, options: Mapping[str, Any] | None, used_as: str | None = None
) -> dict[str, Any]:
    """Return options with what a URL says beside them, secrets left out.

    ``used_as`` is the URL that a source has in reports: that of a bucket, where a web server was
    used as an S3 endpoint.
    """
    bucket = bucket_of_url(url)
    if bucket is None:
        as_endpoint = is_web(url) and used_as is not None and is_bucket(used_as)
        if not as_endpoint:
            return dict(options or {})
        # Here alone, because it takes a client that is long to import.
        from refreeze.stores.web import endpoint_settings

        return endpoint_settings(url) | dict(options or {})
    return {
        name: value for name, value in _from_url(bucket, options).items() if name != "sas_key"
    } | dict(options or {})


def _from_url(bucket: Bucket, options: Mapping[str, Any] | None) -> dict[str, str]:
    said = dict(bucket.settings)
    if bucket.was_https and "sas_key" not in said and not _knows_who_asks(bucket.service, options):
        # Whoever gives an address of the web has public data, unless something says otherwise.
        said["skip_signature"] = "true"
    return said


def _settings(
    bucket: Bucket, options: Mapping[str, Any] | None, side: str
) -> tuple[S3Settings, tuple[str, ...]]:
    from_url = _from_url(bucket, options)
    said: tuple[str, ...] = ()
    if bucket.was_https:
        anonymous = "skip_signature" in from_url
        how = ", without credentials (skip_signature=true)" if anonymous else ""
        said = (f"https://{bucket.was_https} is an object store: used as {bucket.url}{how}",)
    if bucket.service == "s3":
        return s3_settings(bucket.name, from_url | dict(options or {}), side), said
    service = GOOGLE if bucket.service == "gs" else AZURE
    return cloud_settings(service, bucket.name, options, from_url, side), said


def _knows_who_asks(service: str, options: Mapping[str, Any] | None) -> bool:
    if service != "s3":
        return has_credentials(GOOGLE if service == "gs" else AZURE, options)
    names = {key.lower().removeprefix("aws_") for key in options or {}}
    who = {"access_key_id", "skip_signature", "role_arn", "web_identity_token_file", "profile"}
    found = {key.lower().removeprefix("aws_") for key in os.environ if key.startswith("AWS_")}
    return bool((names | found) & who)
