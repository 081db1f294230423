"""Turns what a user names as source and target into stores, and says how it may be shown.

URLs become obstore stores here, for zarr-python and the core alike, so that environment and
options mean the same to both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from refreeze.exceptions import ListingError, SourceNotFoundError, TargetError
from refreeze.shown import remember
from refreeze.stores.buckets import BUCKET_SCHEMES, bucket_of_url, open_bucket
from refreeze.stores.kinds import kind_of
from refreeze.stores.mistakes import FIRST_BYTES, check_slashes, what_file
from refreeze.stores.web_store import WebStore, is_web

if TYPE_CHECKING:
    from refreeze.stores.buckets import Bucket
    from refreeze.stores.listings import ListingInfo
    from refreeze.stores.mistakes import Kind
    from refreeze.stores.web_store import Probing

__all__ = [
    "BucketTarget",
    "LocalTarget",
    "NotInThisVersionError",
    "RepositoryTarget",
    "Source",
    "container_prefix",
    "resolve_source",
    "resolve_target",
    "shown_url",
    "store_source",
    "without_credentials",
]

Options = Mapping[str, Any]

_SIGNATURES = re.compile(
    r"(?i)(?:^|[&;])(?:x-amz-(?:signature|security-token|credential)"
    r"|x-goog-(?:signature|credential)|sig|signature|token|access_token|awsaccesskeyid"
    r"|googleaccessid)=([^&;]*)"
)
"""Parameters that make a URL a signed one."""


class NotInThisVersionError(NotImplementedError):
    """Something that refreeze's interface names and this version does not do."""


@dataclass(frozen=True)
class Source:
    """A Zarr store, group or array: a path in an obstore store, or on a web server."""

    url: str
    """For messages, reports and commits; holds no credentials."""
    store: Any = field(repr=False)
    path: str
    """Key prefix in the store, without slashes at its ends."""
    notes: tuple[str, ...] = ()
    """What readers of references have to know of the store's settings, for warnings."""
    listing: ListingInfo | None = None
    """What its keys come from, where it is not listed."""

    @property
    def name(self) -> str:
        """Last component of the URL, the name of a source that is a single array."""
        return self.url.rstrip("/").rpartition("/")[2]


@dataclass(frozen=True)
class LocalTarget:
    """A repository in a folder."""

    path: str
    kind: str = "local"

    @property
    def url(self) -> str:
        """The folder, for messages."""
        return self.path


@dataclass(frozen=True)
class BucketTarget:
    """A repository under a prefix of a bucket; ``store`` is obstore's."""

    url: str
    store: Any = field(repr=False)
    path: str
    notes: tuple[str, ...] = ()
    """What readers of the repository have to know of the store's settings, for warnings."""
    kind: str = "bucket"


@dataclass(frozen=True)
class RepositoryTarget:
    """An ``icechunk.Repository``, handed over by its serialised state."""

    url: str
    state: bytes = field(repr=False)
    fresh: bool = False
    """Whether the repository was created just now, without a look at conditional writes."""
    kind: str = "repository"


def resolve_source(
    source: Any, options: Options | None = None, probing: Probing | None = None
) -> Source:
    """Find the store behind a source.

    Parameters
    ----------
    source
        URL or local path; ``(registry, url)`` with an obspec registry; or ``(store, path)`` with
        an obstore store.
    probing
        What may be asked of a web server that cannot be listed.
    options
        object_store settings (``endpoint``, ``region``, ``skip_signature`` …) that take
        precedence over the environment. Only for URLs.

    Raises
    ------
    SourceNotFoundError
        A local path is absent or a file.
    TypeError, ValueError
        The source or an option is not what it should be.
    """
    if isinstance(source, str | os.PathLike):
        return _source_from_url(os.fspath(source), options, probing)
    if isinstance(source, tuple) and len(source) == 2:  # noqa: PLR2004 a pair
        first, second = source
        if options:
            raise TypeError("source options need a source given by its URL, not by a store")
        if not isinstance(second, str | os.PathLike):
            raise TypeError("a source given as a pair is (registry, url) or (store, path)")
        if hasattr(first, "resolve"):
            url = os.fspath(second)
            url = url if "://" in url else Path(url).absolute().as_uri()
            shown_url(url)  # what is secret in it is known from here on
            store, path = first.resolve(url)
            path = str(path).strip("/")
            if kind_of(store) == "HTTPStore":
                return _web_source(store, path, probing)
            return _checked(Source(shown_url(url), store, path))
        return store_source(first, os.fspath(second), probing)
    raise TypeError(
        f"source must be a URL, a path, (registry, url) or (store, path), not {type(source).__name__}"
    )


def store_source(store: Any, path: str, probing: Probing | None = None) -> Source:
    """Find the source at a path in an obstore store."""
    path = path.strip("/")
    if kind_of(store) == "HTTPStore":
        return _web_source(store, path, probing)
    return _checked(Source(_store_url(store, path), store, path))


def _web_source(store: Any, path: str, probing: Probing | None) -> Source:
    """Take over an obstore ``HTTPStore``."""
    server, prefix = WebStore.of_obstore(store, probing)
    whole = "/".join(part for part in (prefix, unquote(path)) if part)
    return Source(f"{server.base}/{whole}", server, whole, server.notes)


def _source_from_url(url: str, options: Options | None, probing: Probing | None) -> Source:
    if bucket := _bucket(url):
        store, notes = open_bucket(bucket, options, "source")
        return Source(bucket.url, store, bucket.path, notes)
    if is_web(url):
        return _source_on_the_web(url, options, probing)
    scheme = _scheme(url)
    check_slashes(url, "source")
    from obstore.store import LocalStore

    if options:
        raise ValueError(f"source options are for object stores; {shown_url(url)} is a local path")
    root = Path(_local_path(url, scheme)).absolute()
    if not root.exists():
        raise SourceNotFoundError(f"there is nothing at {root}", "check the path")
    return _checked(Source(str(root), LocalStore(root) if root.is_dir() else None, ""), root)


def _checked(source: Source, root: Path | None = None) -> Source:
    """Refuse a local file, which is a mistake that is often made with NetCDF."""
    if root is None and kind_of(source.store) == "LocalStore":
        root = Path(source.store.prefix or "/") / source.path
    if root is not None and root.is_file():
        raise _kind_of(root).error(str(root))
    return source


def _kind_of(file: Path) -> Kind:
    """Return what kind of file it is; one that cannot be read is just a file."""
    try:
        with file.open("rb") as opened:
            return what_file(opened.read(FIRST_BYTES))
    except OSError:
        return what_file(b"")


def container_prefix(prefix: str) -> str:
    """Return a container's prefix as a repository stores it: a local path is a URL there."""
    if "://" in prefix:
        return prefix
    return f"file://{Path(_local_path(prefix, '')).absolute()}/"


def resolve_target(target: Any, options: Options | None = None, *, create: bool = False) -> Any:
    """Find the place of a repository.

    Parameters
    ----------
    target
        URL or local path, ``icechunk.Storage`` or ``icechunk.Repository``.
    options
        object_store settings that take precedence over the environment. Only for URLs.
    create
        Create a repository in an ``icechunk.Storage`` that holds none.

    Returns
    -------
    LocalTarget, BucketTarget or RepositoryTarget
    """
    if isinstance(target, str | os.PathLike):
        url = os.fspath(target)
        if bucket := _bucket(url):
            store, notes = open_bucket(bucket, options, "target")
            return BucketTarget(bucket.url, store, bucket.path, notes)
        scheme = _scheme(url)
        check_slashes(url, "target")
        if options:
            raise ValueError(
                f"target options are for object stores; {shown_url(url)} is a local path"
            )
        folder = Path(_local_path(url, scheme)).absolute()
        if folder.is_file():
            raise TargetError(f"{folder} is a file", "use a folder as the target")
        return LocalTarget(str(folder))
    if options:
        raise TypeError("target options need a target given by its URL")
    import icechunk

    if isinstance(target, icechunk.Storage | icechunk.Repository):
        from refreeze.stores.icechunk_storage import LocalFolder, take_over

        taken = take_over(target, create=create)
        if isinstance(taken, LocalFolder):
            return LocalTarget(taken.path)
        return RepositoryTarget(taken.url, taken.state, taken.fresh)
    raise TypeError(
        "target must be a URL, a path, an icechunk.Storage or an icechunk.Repository, "
        f"not {type(target).__name__}"
    )


def _source_on_the_web(url: str, options: Options | None, probing: Probing | None) -> Source:
    """Use a web server as an object store if it is one and the user agrees, otherwise as it is."""
    from refreeze.stores.web import as_bucket, endpoint_settings

    shown = shown_url(url)
    # What is wrong with the URL is said before anybody is asked.
    WebStore.of_url(url, None, probing)
    place = as_bucket(url, options)
    settings = endpoint_settings(url)
    if place is not None and probing is not None and probing.yes:
        bucket = bucket_of_url(place)
        assert bucket is not None  # noqa: S101 an s3:// URL
        store, notes = open_bucket(bucket, settings | dict(options or {}), "source")
        used = f"{shown} is an object store: used as {place}, endpoint={settings['endpoint']}"
        return Source(bucket.url, store, bucket.path, (used, *notes))
    server, path = WebStore.of_url(url, options, probing)
    if place is None:
        return Source(shown, server, path, server.notes)
    given = " ".join(f"--source-option {name}={value}" for name, value in settings.items())
    if probing is not None and probing.probe:
        cheaper = f"{shown} answers listings, which take far fewer requests: {place} {given}"
        return Source(shown, server, path, (cheaper, *server.notes))
    raise ListingError(
        f"{shown} is an object store that answers listings, and is used as one when you say so",
        f"agree with --yes, or give it as {place} {given}",
    )


def _scheme(url: str) -> str:
    """Return the scheme of a URL that is none of an object store; a local path has none."""
    scheme, separator, _ = url.partition("://")
    if not separator:
        return ""
    scheme = scheme.lower()
    if is_web(url):
        raise NotInThisVersionError(f"{scheme}:// is not in this version, as a target")
    if scheme != "file":
        known = ", ".join(f"{name}://" for name in (*BUCKET_SCHEMES, "file"))
        raise ValueError(f"unknown scheme {scheme}:// (known: {known}, local paths)")
    return scheme


def _local_path(url: str, scheme: str) -> str:
    if not url:
        raise ValueError("an empty path")
    if scheme != "file":
        return os.path.expanduser(url)  # noqa: PTH111 a Path would normalise `//`
    parts = urlsplit(url)
    if parts.netloc not in {"", "localhost"}:
        raise ValueError(
            f"{shown_url(url)}: a file URL needs three slashes and no host (file:///path)"
        )
    return unquote(parts.path)


def _bucket(url: str) -> Bucket | None:
    """Return the bucket of a URL, if it is one of an object store."""
    shown_url(url)  # what is secret in it is known from here on
    bucket = bucket_of_url(url)
    signed = _SIGNATURES.search(url.partition("?")[2])
    if bucket and signed and "sas_key" not in bucket.settings:
        raise ValueError(
            f"{shown_url(url)}: a signed URL is good for one object; give the store's URL, and "
            "credentials as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return bucket


def _store_url(store: Any, path: str) -> str:
    prefix = str(getattr(store, "prefix", None) or "")
    whole = "/".join(part for part in (prefix.rstrip("/"), path) if part)
    kinds = {"S3Store": "s3", "GCSStore": "gs", "AzureStore": "az"}
    if scheme := kinds.get(kind_of(store)):
        config = store.config
        names = ("bucket", "aws_bucket", "google_bucket", "container_name", "azure_container_name")
        bucket = next((config[name] for name in names if config.get(name)), "")
        return f"{scheme}://{bucket}/{whole.lstrip('/')}"
    return whole or "/"


def shown_url(url: str) -> str:
    """Return a URL as it may be shown: without user name, password and signature."""
    stripped = without_credentials(url)
    if urlsplit(stripped).scheme == "file":
        return unquote(urlsplit(stripped).path)
    return stripped


def without_credentials(url: str) -> str:
    """Return a URL without user name, password and signature, which are not shown from now on."""
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        # Brackets that hold no address. Whoever opens it says so.
        return url
    user, at, host = parts.netloc.rpartition("@")
    signatures = _SIGNATURES.findall(parts.query)
    if not at and not signatures:
        return url
    password = user.partition(":")[2]
    remember([password, unquote(password), *signatures, *map(unquote, signatures)])
    return parts._replace(netloc=host, query="" if signatures else parts.query).geturl()
