"""Sources whose keys come from a listing that exists already, instead of from LIST requests.

The listing is an inventory's manifest or a table of objects. Its rows are read once, in any order,
and sorted on disk by the core, which then lists the sources from there. What such a listing cannot
tell, what happened since it was made, is said in a warning.
"""

from __future__ import annotations

import os
import posixpath
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import ListingError
from refreeze.stores.buckets import BUCKET_SCHEMES, Bucket, bucket_of_url
from refreeze.stores.kinds import kind_of
from refreeze.stores.listing_files import ListingFile, in_bucket, listing_file
from refreeze.stores.listing_manifests import DataFile, Manifest, iso, parsed_manifest
from refreeze.stores.listing_tables import (
    batches_of,
    checked_columns,
    columns_of,
    of_bucket,
)

if TYPE_CHECKING:
    from refreeze.stores.resolve import Source

__all__ = ["Listing", "ListingInfo", "listing_of", "with_listing"]

_MOST_MEMORY = 64 << 20
"""Bytes of rows that are sorted at a time."""
_LARGEST_MANIFEST = 64 << 20
_KINDS = {"S3Store", "GCSStore", "AzureStore", "LocalStore"}


@dataclass(frozen=True)
class Listing:
    """A listing and how it is to be taken, as a caller gives it; checked."""

    given: tuple[Any, ...]
    """URLs and paths, or tables in memory."""
    columns: dict[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] | None = field(default=None, repr=False)
    sample: int = 0


@dataclass(frozen=True)
class ListingInfo:
    """What is to be known of a listing, for reports and commits."""

    date: datetime
    """Of the oldest of its files."""
    files: tuple[str, ...]
    """As the caller named them."""
    rows: int
    sampled_requests: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data: ``date`` (ISO 8601), ``age_s``, ``files``, ``rows``."""
        return {
            "date": iso(self.date),
            "age_s": round(self.age_s, 1),
            "files": list(self.files),
            "rows": self.rows,
            "sampled_requests": self.sampled_requests,
        }

    @property
    def age_s(self) -> float:
        """Seconds since it was made."""
        return max(0.0, (datetime.now(UTC) - self.date).total_seconds())

    @property
    def warning(self) -> str:
        """What it cannot tell."""
        return (
            f"the listing is of {iso(self.date)}, {_span(self.age_s)} ago: what was written, "
            "changed or removed since is not seen"
        )


def listing_of(
    listing: Any,
    columns: Mapping[str, str] | None,
    options: Mapping[str, Any] | None,
    sample: int,
) -> Listing | None:
    """Check the arguments that say where keys come from; None when they are listed.

    Raises
    ------
    TypeError, ValueError
        One of them is of a wrong type, or given without a listing.
    """
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f"listing_options is a mapping, not {type(options).__name__}")
    if isinstance(sample, bool) or not isinstance(sample, int):
        raise TypeError(f"sample_listing is a number, not {sample!r}")
    if sample < 0:
        raise ValueError(f"sample_listing must be at least 0, not {sample}")
    known = checked_columns(columns)
    if listing is None or (isinstance(listing, list | tuple) and not listing):
        if known or options or sample:
            raise ValueError(
                "listing_columns, listing_options and sample_listing need a listing "
                "(--listing FILE)"
            )
        return None
    one = isinstance(listing, str | os.PathLike) or hasattr(listing, "__arrow_c_stream__")
    given = (listing,) if one else tuple(listing) if isinstance(listing, Iterable) else ()
    for file in given or (listing,):
        if not isinstance(file, str | os.PathLike) and not hasattr(file, "__arrow_c_stream__"):
            raise TypeError(
                f"listing is a path, a URL or an Arrow table, not {type(file).__name__}"
            )
    return Listing(given, known, options, sample)


def with_listing(
    sources: Sequence[Source],
    listing: Listing,
    *,
    memory: int,
    source_options: Mapping[str, Any] | None,
    concurrency: int | str,
) -> list[Source]:
    """Return sources whose keys come from a listing.

    Parameters
    ----------
    memory
        Bound on what grows with the work; a part of it is taken, until the rows are sorted.
    source_options
        Settings of the sources, which are those of the listing too unless it has its own.

    Raises
    ------
    ValueError
        A source is one that its own library lists, or a web server.
    ListingError
        The listing is damaged, has other columns, is of another bucket, names nothing below a
        source, or differs from the sampled pages.
    AccessError
        Its files are refused.
    """
    from refreeze import _refreeze

    for source in sources:
        known = kind_of(source.store) in _KINDS
        if not known or _refreeze.open_source(source.store, source.path).is_foreign:
            raise ValueError(
                f"a listing goes with object stores and folders that refreeze lists itself, not with "
                f"{source.url}"
            )
    options = listing.options if listing.options is not None else source_options
    services = {_service(source) for source in sources}
    service = services.pop() if len(services) == 1 else None
    buckets = {bucket.name for bucket in map(_bucket, sources) if bucket is not None}
    rows = _Rows(listing, options, service, buckets)
    builder = _refreeze.InventoryBuilder(
        tempfile.gettempdir(),
        min(memory // 4, _MOST_MEMORY),
        [_place(source, alone=len(sources) == 1) for source in sources],
    )
    for batch, columns in rows:
        builder.add(batch, columns)
    info = ListingInfo(rows.date(), rows.files, builder.counts()[0])
    opened = builder.finish([(source.store, source.path) for source in sources])
    requests = 0
    for one in opened if listing.sample else ():
        date = int(info.date.timestamp() * 1_000_000)
        requests += _refreeze.sample_listing(
            one, pages=listing.sample, date=date, concurrency=concurrency
        )[0]
    info = replace(info, sampled_requests=requests)
    return [
        replace(source, store=one, listing=info, notes=(*source.notes, info.warning))
        for source, one in zip(sources, opened, strict=True)
    ]


class _Rows:
    """The rows of all files of a listing, with what their columns hold."""

    def __init__(
        self,
        listing: Listing,
        options: Mapping[str, Any] | None,
        service: str | None,
        buckets: set[str],
    ) -> None:
        self._listing = listing
        self._options = options
        self._service = service
        self._buckets = buckets
        self._dates: list[datetime] = []
        self.files = tuple(
            os.fspath(one) if isinstance(one, str | os.PathLike) else "a table in memory"
            for one in listing.given
        )

    def date(self) -> datetime:
        """Return the date of the oldest file, when all were read."""
        return min(self._dates)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for one in self._listing.given:
            if not isinstance(one, str | os.PathLike):
                yield from self._of_table(one)
                continue
            file = listing_file(os.fspath(one), self._options)
            date = file.date()
            if date is None:
                raise ListingError(f"there is no listing at {file.url}", "check the path")
            with file.opened() as path:
                manifest = _manifest(path, file.url)
                if manifest is None:
                    self._dates.append(date)
                    yield from self._of_file(path, file.url, None)
            if manifest is not None:
                self._dates.append(manifest.date or date)
                yield from self._of_manifest(manifest, file)

    def _of_table(self, table: Any) -> Iterator[tuple[Any, Any]]:
        from arro3.core import RecordBatchReader

        self._dates.append(datetime.now(UTC))
        reader = RecordBatchReader.from_arrow(table)
        names = list(reader.schema.names)
        columns = columns_of(names, self._listing.columns, "in memory", service=self._service)
        yield from ((batch, columns) for batch in reader)

    def _of_manifest(self, manifest: Manifest, file: ListingFile) -> Iterator[tuple[Any, Any]]:
        if manifest.bucket is not None and manifest.bucket not in self._buckets:
            own = ", ".join(sorted(self._buckets)) or "on local disk"
            raise ListingError(
                f"the inventory {file.url} is one of the bucket {manifest.bucket}; the source's "
                f"is {own}",
                "give the inventory of the source's own bucket",
            )
        for data in manifest.files:
            found = self._found(data, manifest, file)
            with found.opened(md5=data.md5) as path:
                yield from self._of_file(path, found.url, manifest)

    def _found(self, data: DataFile, manifest: Manifest, file: ListingFile) -> ListingFile:
        """Find a file of a manifest: where that says, and beside it."""
        name = posixpath.basename(data.key)
        beside = [
            file.beside(relative)
            for relative in dict.fromkeys(
                (name, data.key, f"data/{name}", f"../data/{name}", f"../{name}")
            )
        ]
        if file.store is None:
            # A copy of the bucket on local disk has the whole key somewhere above.
            above = [f"{'../' * up}{data.key}" for up in range(1, 6)]
            places = [*beside, *map(file.beside, above)]
        else:
            places = beside
        for place in places:
            if place.date() is not None:
                return place
        says = manifest.destination
        if says is None and file.store is not None:
            bucket = bucket_of_url(file.url)
            says = bucket.name if bucket else None
        if says is not None:
            there = in_bucket(Bucket(manifest.service, says, data.key.lstrip("/")), self._options)
            if there.date() is not None:
                return there
            places = [there, *places]
        raise ListingError(
            f"{name}, which the manifest {file.url} names, is neither at {places[0].url} nor "
            f"beside it",
            "put it beside the manifest, or give the settings of its bucket by --listing-option",
        )

    def _of_file(
        self, path: Path, url: str, manifest: Manifest | None
    ) -> Iterator[tuple[Any, Any]]:
        names, batches = batches_of(
            path,
            url,
            columns=manifest.columns if manifest else None,
            delimiter=manifest.delimiter if manifest else None,
        )
        columns = columns_of(names, self._listing.columns, url, service=self._service)
        if manifest is not None:
            columns = of_bucket(columns, manifest.bucket)
            # Only S3 encodes keys, and only in text.
            is_s3_text = manifest.service == "s3" and manifest.columns is not None
            columns = replace(columns, encoded_keys=is_s3_text)
        for batch in batches:
            yield batch, columns


def _manifest(path: Path, url: str) -> Manifest | None:
    """Read a file that is a manifest; None for any other."""
    with path.open("rb") as file:
        if not file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            return None
        file.seek(0)
        return parsed_manifest(file.read(_LARGEST_MANIFEST), url)


def _bucket(source: Source) -> Bucket | None:
    return bucket_of_url(source.url)


def _service(source: Source) -> str | None:
    bucket = _bucket(source)
    return None if bucket is None else bucket.service


def _place(source: Source, *, alone: bool) -> tuple[list[str], str | None, str]:
    """Return what keys of a source's objects begin with, its bucket and its URL."""
    bucket = _bucket(source)
    if bucket is None:
        root = source.url.rstrip("/")
        return [f"file://{root}/", f"{root}/", *([""] if alone else [])], None, source.url
    base = f"{bucket.path}/" if bucket.path else ""
    schemes = [scheme for scheme, service in BUCKET_SCHEMES.items() if service == bucket.service]
    prefixes = [f"{scheme}://{bucket.name}/{base}" for scheme in (*schemes, "s3a")]
    if bucket.service == "az":
        # Azure's inventories put the container before the name.
        prefixes.append(f"{bucket.name}/{base}")
    return [*prefixes, base], bucket.name, source.url


def _span(seconds: float) -> str:
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= length:
            number = int(seconds // length)
            return f"{number} {unit}{'' if number == 1 else 's'}"
    return "less than a minute"
