"""What a URL means to an ``ObjectStoreRegistry``: a store, a path in it, and how chunks are named.

VirtualiZarr's references are absolute URLs, so besides the source this keeps what a key has to be
appended to.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from refreeze.stores.kinds import kind_of
from refreeze.stores.resolve import Source, resolve_source, without_credentials
from refreeze.stores.web_store import WebStore

if TYPE_CHECKING:
    from refreeze.stores.web_store import Probing

__all__ = ["Located", "resolve_url"]


@dataclass(frozen=True)
class Located:
    """A source, and the URL of the root of its store."""

    source: Source
    base: str
    """Ends with a slash: a chunk's location is this and its key in the store."""


def resolve_url(url: Any, registry: Any, probing: Probing | None = None) -> Located:
    """Find a URL's store in a registry.

    Parameters
    ----------
    url
        Of the root of a Zarr store, a group or an array; or a local path.
    registry
        An ``ObjectStoreRegistry``.
    probing
        What may be asked of a web server.

    Raises
    ------
    ValueError
        The registry has no store for the URL, or the URL has a query or a fragment.
    SourceNotFoundError
        The URL is that of a local file.
    """
    if not isinstance(url, str | os.PathLike):
        raise TypeError(f"url is a URL or a path, not {type(url).__name__}")
    if not hasattr(registry, "resolve"):
        raise TypeError(
            "registry is an obspec_utils.registry.ObjectStoreRegistry that knows the URL, "
            f"not {type(registry).__name__}"
        )
    text = os.fspath(url)
    uri = text if "://" in text else Path(text).absolute().as_uri()
    if "?" in uri or "#" in uri:
        # Everything from there on would be dropped, and another store read.
        raise ValueError("a URL's query or fragment (? or #) cannot be part of a store's path")
    uri = uri.rstrip("/") if not uri.endswith("://") else uri
    source = resolve_source((registry, uri), probing=probing)
    if isinstance(source.store, WebStore):
        return Located(source, f"{source.store.base}/")
    # References are made of it, and everybody may read those.
    uri = without_credentials(uri)
    if _is_encoded(source):
        # Local paths come as URLs, which write a space as %20; files are called otherwise.
        uri = unquote(uri)
        source = Source(source.url, source.store, unquote(source.path))
    base = uri.removesuffix(source.path) if source.path else uri
    return Located(source, base.rstrip("/") + "/" if base.strip("/") != "file:" else "file:///")


def _is_encoded(source: Source) -> bool:
    """Whether a local path is there only when its percent signs are decoded."""
    if kind_of(source.store) != "LocalStore" or "%" not in source.path:
        return False
    root = Path(source.store.prefix or "/")
    return not (root / source.path).exists() and (root / unquote(source.path)).exists()
