"""What newcomers give by mistake, recognised, with the command that works.

Addresses, files and places that are something else than a Zarr store, and what a store refuses because
a setting is missing. Nothing is refused here that would work: these words replace an error that there is
anyway. What a source is asked for, and when, is decided by its readers.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import AccessError, RefreezeError, SourceNotFoundError, TargetError
from refreeze.stores.buckets import BUCKET_SCHEMES
from refreeze.stores.kinds import kind_of
from refreeze.stores.web_store import WebStore

if TYPE_CHECKING:
    from collections.abc import Collection

    from refreeze.stores.resolve import Source

__all__ = [
    "FIRST_BYTES",
    "Kind",
    "check_scheme",
    "check_slashes",
    "explained",
    "page_in_place_of",
    "something_else",
    "what_file",
    "what_folder",
]

FIRST_BYTES = 512
"""Of a file, which tell what kind it is."""

_TO_ZARR = (
    "make a Zarr store of the NetCDF file: python -c \"import xarray; xarray.open_dataset('{name}', chunks={{}})"
    ".to_zarr('{stem}.zarr')\", then refreeze ingest {stem}.zarr TARGET; VirtualiZarr's {parser} "
    "references such files as they are"
)


@dataclass(frozen=True)
class Kind:
    """A kind of thing that is no Zarr store."""

    what: str
    """With its article."""
    hint: str
    """With ``{name}`` and ``{stem}`` in the place of its name, with and without its suffix."""

    def error(self, shown: str) -> SourceNotFoundError:
        """Return the error for something of this kind, given how it is shown."""
        stem = os.path.splitext(shown.rstrip("/"))[0]  # noqa: PTH122 shown may be a URL
        if "://" in shown:
            # What is made of it is made here.
            stem = stem.rpartition("/")[2]
        return SourceNotFoundError(
            f"{shown} is {self.what}, not a Zarr store", self.hint.format(name=shown, stem=stem)
        )


_MAGIC: tuple[tuple[bytes, Kind], ...] = (
    (
        b"\x89HDF\r\n\x1a\n",
        Kind("a file in NetCDF 4 or HDF5 format", _TO_ZARR.replace("{parser}", "HDFParser")),
    ),
    (b"CDF", Kind("a file in NetCDF 3 format", _TO_ZARR.replace("{parser}", "NetCDF3Parser"))),
    (
        b"GRIB",
        Kind(
            "a file in GRIB format",
            "make a Zarr store of it with xarray and cfgrib, then refreeze ingest {stem}.zarr TARGET",
        ),
    ),
    (
        b"II*\0",
        Kind("a file in TIFF format", "VirtualiZarr references TIFF files with virtual-tiff"),
    ),
    (
        b"MM\0*",
        Kind("a file in TIFF format", "VirtualiZarr references TIFF files with virtual-tiff"),
    ),
    (
        b"PK\x03\x04",
        Kind(
            "a file in ZIP format",
            "unpack it: unzip {name} -d {stem}, then refreeze ingest {stem} TARGET",
        ),
    ),
    (
        b"PAR1",
        Kind("a file in Parquet format", "give it with --listing, if it is a listing of a store"),
    ),
)

_PAGE = Kind(
    "a web page",
    "give the address of the store itself, as in its documentation: "
    "refreeze ingest s3://bucket/store.zarr TARGET --source-option skip_signature=true",
)

_KERCHUNK = Kind(
    "a file of Kerchunk references",
    "VirtualiZarr reads it: virtualizarr.open_virtual_dataset('{name}', registry=registry, "
    "parser=virtualizarr.parsers.KerchunkJSONParser()).vz.to_icechunk(session.store)",
)

_KERCHUNK_PARQUET = Kind(
    "a folder of Kerchunk references (Parquet)",
    "VirtualiZarr reads it: virtualizarr.open_virtual_dataset('{name}', registry=registry, "
    "parser=virtualizarr.parsers.KerchunkParquetParser()).vz.to_icechunk(session.store)",
)

_REPOSITORY = Kind(
    "an Icechunk repository already",
    "there is nothing to ingest: refreeze status {name} tells what is in it, and xarray opens "
    "icechunk.Repository.open(storage).readonly_session('main').store",
)

_OTHER_FILE = Kind(
    "a file",
    "a Zarr store is a folder; for NetCDF, HDF5 or GRIB files use VirtualiZarr's parsers",
)

_NO_CREDENTIALS = (
    "no credentials are set: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or for public data add "
    "--source-option skip_signature=true"
)

_OFF = {"", "0", "false", "off", "no", "n"}

_ONE_SLASH = re.compile(r"^([A-Za-z][A-Za-z0-9]*):/(?!/)(.*)$")


def check_slashes(path: str, side: str) -> None:
    """Refuse a URL that lacks a slash, ``s3:/bucket``, which would be a strange local path.

    Raises
    ------
    SourceNotFoundError, TargetError
        It is one, and no such file is there.
    """
    found = _ONE_SLASH.match(path)
    if not found or found[1].lower() not in {*BUCKET_SCHEMES, "http", "https", "file"}:
        return
    if Path(path).exists():
        return
    slashes = ":///" if found[1].lower() == "file" else "://"
    meant = f"{found[1].lower()}{slashes}{found[2]}"
    message = f"{path} is no URL: it has one slash behind {found[1]}:"
    if side == "target":
        raise TargetError(message, f"write {meant}: refreeze ingest SOURCE {meant}")
    raise SourceNotFoundError(message, f"write {meant}: refreeze ingest {meant} TARGET")


def check_scheme(source: Source) -> None:
    """Refuse an endpoint of plain HTTP that nobody has allowed, at which every request would fail.

    Raises
    ------
    AccessError
        With the setting that allows it.
    """
    from refreeze.stores.server_clock import endpoint_of

    if kind_of(source.store) not in ("S3Store", "GCSStore", "AzureStore"):
        # The address of a web server says the scheme by itself.
        return
    endpoint = endpoint_of(source.store)
    if endpoint is None or not endpoint.lower().startswith("http://"):
        return
    client = dict(getattr(source.store, "client_options", None) or {})
    allowed = [client.get("allow_http", "")] if client else []
    allowed += [os.environ.get(f"{name}_ALLOW_HTTP", "") for name in ("AWS", "GOOGLE", "AZURE")]
    if not any(str(one).lower() not in _OFF for one in allowed):
        raise AccessError(
            f"{source.url} is asked of {endpoint}: plain HTTP is refused unless it is allowed",
            "add --source-option allow_http=true, or give the endpoint as https://",
        )


def what_file(start: bytes) -> Kind:
    """Return what kind of file begins with these bytes."""
    for magic, kind in _MAGIC:
        if start.startswith(magic):
            return kind
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return _PAGE
    if text.startswith(b"{") and (b'"refs"' in text or b'".zgroup"' in text):
        return _KERCHUNK
    return _OTHER_FILE


def page_in_place_of(document: Any, shown: str) -> RefreezeError | None:
    """Return the error for a server that answers with a web page whatever it is asked for."""
    if isinstance(document, bytes) and what_file(document[:FIRST_BYTES]) is _PAGE:
        return _PAGE.error(shown)
    return None


def what_folder(folders: Collection[str], objects: Collection[str]) -> Kind | None:
    """Return what a place is that is no Zarr group, by the names in it; None if nobody knows."""
    if "snapshots" in folders and ("repo" in objects or {"refs", "manifests"} & set(folders)):
        return _REPOSITORY
    return None


def something_else(
    source: Source, shown: str, root: str, names: Any, consolidated: Any
) -> RefreezeError | None:
    """Say what a place is that has no metadata of Zarr at its root; None if nobody knows.

    Parameters
    ----------
    source
        The store and the path in it.
    shown
        The place, for messages.
    root
        Path of the place below the source.
    names
        What lies directly in it: its ``folders`` and ``objects``.
    consolidated
        The document ``.zmetadata``, if there is one.
    """
    if isinstance(consolidated, bytes):
        if b'"record_size"' in consolidated:
            return _KERCHUNK_PARQUET.error(shown)
        return SourceNotFoundError(
            f"{shown} has .zmetadata and no .zgroup: consolidated metadata of a group that is not there",
            "write what is missing: echo '{\"zarr_format\": 2}' > .zgroup, beside .zmetadata",
        )
    if found := what_folder(names.folders, names.objects):
        return found.error(shown)
    stores = [name for name in names.folders if name.endswith((".zarr", ".zarr3"))]
    if stores:
        few = f"{shown.rstrip('/')}/{min(stores)}"
        what = "a Zarr store" if len(stores) == 1 else f"{len(stores)} Zarr stores"
        return SourceNotFoundError(
            f"{shown} is a folder with {what} in it, and none itself",
            f"give the store: refreeze ingest {few} TARGET",
        )
    if names.folders or names.objects:
        return None
    start = _first_bytes(source, root)
    return None if start is None else what_file(start).error(shown)


def _first_bytes(source: Source, root: str) -> bytes | None:
    """Read how the object begins that is where a folder was expected."""
    import obstore
    import obstore.exceptions

    from refreeze.stores.web import first_bytes

    if "://" in source.url and hasattr(source.store, "base"):
        return first_bytes(source.url, FIRST_BYTES)
    key = "/".join(part for part in (source.path.strip("/"), root.strip("/")) if part)
    if not key or isinstance(source.store, WebStore):
        return None
    try:
        size = obstore.head(source.store, key)["size"]
        read = obstore.get_range(source.store, key, start=0, end=min(size, FIRST_BYTES))
    except (OSError, TypeError, ValueError, obstore.exceptions.BaseError):
        return None
    return bytes(read)


def explained(error: RefreezeError, source: Source) -> RefreezeError:
    """Return an error of a store with the setting that is missing, where that can be told.

    Its class and message stay; only the hint is replaced.
    """
    text = error.message
    hint = None
    if region := _region_in(text):
        hint = f"add --source-option region={region}, or set AWS_REGION={region}"
    elif "InvalidContentType" in text or "wrong version number" in text:
        hint = (
            "the endpoint is given as https:// and answers plain HTTP: give it as http:// and add "
            "--source-option allow_http=true"
        )
    elif "an error document came" in text and text.split(" ")[0].endswith("/zarr.json"):
        hint = (
            "if the address is one of a web page, give that of the store itself, without zarr.json"
        )
    elif "http://" in text and text.endswith("400 Bad Request"):
        # What servers of HTTPS say to HTTP is no document, and not shown.
        hint = "the endpoint is http://: if its server wants HTTPS, give it as https://"
    elif isinstance(error, AccessError) and kind_of(source.store) == "S3Store":
        hint = _NO_CREDENTIALS if "169.254.169.254" in text else _of_refusal(source)
    return error if hint is None else type(error)(text, hint)


def _region_in(text: str) -> str | None:
    """Return the region that the service says the bucket is in."""
    found = re.search(r"the bucket is in region ([a-z0-9-]+)", text) or re.search(
        r"expecting '([a-z0-9-]+)'", text
    )
    return found[1] if found else None


def _of_refusal(source: Source) -> str:
    """Say what makes S3 refuse: no credentials, the wrong ones, or a requester who does not pay."""
    from refreeze.stores.s3_settings import environment_settings

    settings = environment_settings() | dict(getattr(source.store, "config", None) or {})
    if str(settings.get("skip_signature", "")).lower() in {"true", "1"}:
        return (
            "the bucket is not public: leave skip_signature out, and set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or --source-option access_key_id=… and secret_access_key=…"
        )
    pays = str(settings.get("request_payer", "")).lower() in {"true", "1"}
    payer = (
        "" if pays else "; if its readers pay for requests, add --source-option request_payer=true"
    )
    return (
        "these credentials may not read it: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
        "set --source-option access_key_id=… and secret_access_key=…; if it is public, add "
        f"--source-option skip_signature=true{payer}"
    )
