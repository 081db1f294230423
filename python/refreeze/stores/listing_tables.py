"""Tables of objects in files: Parquet, Arrow, CSV, ORC, told apart by their first bytes.

Which columns hold keys, sizes and times follows from their names, as the services and common tools
choose them, unless the caller says it.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from refreeze.exceptions import ListingError, RefreezeError
from refreeze.shown import one_line

__all__ = ["ROLES", "Columns", "batches_of", "checked_columns", "columns_of"]

_NAMES = {
    "key": ("key", "name", "objectkey", "objectname", "path"),
    "size": ("size", "contentlength", "bytes", "length"),
    "last_modified": (*("lastmodified", "lastmodifieddate", "timecreated", "mtime", "updated"),),
    "etag": ("etag",),
    "md5": ("md5hash",),
    "bucket": ("bucket", "bucketname"),
    "is_latest": ("islatest", "iscurrentversion"),
    "is_delete_marker": ("isdeletemarker", "deleted", "hdiisfolder"),
    "deleted": ("timedeleted", "snapshot", "softdeletetime"),
}
"""What columns are called, without regard to case, hyphens and underscores; the first that is
there counts, of flags and times of deletion all."""
_SEVERAL = ("is_latest", "is_delete_marker", "deleted")
_NEEDED = ("key", "size", "last_modified")
ROLES = tuple(role for role in _NAMES if role != "md5")
"""What a column can be said to hold."""

_ROWS = 1 << 14
"""Of a record batch."""


@dataclass(frozen=True)
class Columns:
    """Which columns hold what, as the core takes it; lists may be empty."""

    key: str
    size: str
    last_modified: str
    e_tag: str | None = None
    md5: str | None = None
    bucket: str | None = None
    of_bucket: str | None = None
    """The bucket of all rows, where no column names it."""
    is_latest: tuple[str, ...] = ()
    is_left_out: tuple[str, ...] = ()
    is_absent: tuple[str, ...] = ()
    encoded_keys: bool = False
    quoted_tags: bool = False


def checked_columns(given: Mapping[str, str] | None) -> dict[str, str]:
    """Check which columns a caller names.

    Raises
    ------
    TypeError, ValueError
        It is no mapping of texts, or names something that no column can hold.
    """
    if given is None:
        return {}
    texts: Any = given
    if not isinstance(texts, Mapping) or not all(
        isinstance(text, str) for pair in texts.items() for text in pair
    ):
        raise TypeError("listing_columns is a mapping such as {'key': 'Key', 'size': 'Bytes'}")
    renamed = {"e_tag" if role == "etag" else role: column for role, column in given.items()}
    for role in given:
        if role not in (*ROLES, "e_tag"):
            raise ValueError(f"listing_columns names {role!r} (known: {', '.join(ROLES)})")
    return renamed


def columns_of(
    names: Sequence[str], given: Mapping[str, str], url: str, *, service: str | None
) -> Columns:
    """Find the columns of a table.

    Parameters
    ----------
    names
        Of the table's columns.
    given
        What `checked_columns` returned.
    service
        Of the source: ``s3``, ``gs``, ``az``, or None for local disk.

    Raises
    ------
    ListingError
        One that is needed, or that the caller names, is not there.
    """
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in reversed(names)}
    found: dict[str, tuple[str, ...]] = {}
    for role, usual in _NAMES.items():
        said = given.get("e_tag" if role == "etag" else role)
        if said is not None:
            if said not in names:
                raise _other_table(url, names, f"no column {said}")
            found[role] = (said,)
            continue
        there = tuple(plain[name] for name in usual if name in plain)
        found[role] = there if role in _SEVERAL else there[:1]
    lacking = [role for role in _NEEDED if not found[role]]
    if lacking:
        raise _other_table(url, names, f"no column for {', '.join(lacking)}")

    def one(role: str) -> str | None:
        return found[role][0] if found[role] else None

    google = service == "gs"
    return Columns(
        key=found["key"][0],
        size=found["size"][0],
        last_modified=found["last_modified"][0],
        # The tags in Google's reports are not those of its answers; a digest makes one.
        e_tag=None if google and "e_tag" not in given else one("etag"),
        md5=one("md5") if google else None,
        bucket=one("bucket"),
        is_latest=found["is_latest"],
        is_left_out=found["is_delete_marker"],
        is_absent=found["deleted"],
        quoted_tags=service in {"s3", "gs"},
    )


def _other_table(url: str, names: Sequence[str], what: str) -> ListingError:
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")  # noqa: PLR2004 to be read
    return ListingError(
        f"the listing {url} has {what}; it has {shown}",
        "name its columns: --listing-columns key=…,size=…,last_modified=…",
    )


def batches_of(
    path: Path, url: str, *, columns: Sequence[str] | None, delimiter: str | None
) -> tuple[list[str], Iterator[Any]]:
    """Open a table.

    Parameters
    ----------
    path
        On local disk.
    columns
        Of a CSV file without a header.
    delimiter
        Of a CSV file; None: the one that its header shows.

    Returns
    -------
    list of str
        Names of the columns.
    iterator of record batches
        Their rows, read as they are asked for. Raises `ListingError` for what is damaged.
    """
    with path.open("rb") as file:
        head = file.read(8)
    if head[:4] == b"PAR1":
        _check_end(path, b"PAR1", url)
        return _of_arro3(_parquet(path), url)
    if head[:6] == b"ARROW1":
        _check_end(path, b"ARROW1", url)
        return _of_arro3(_arrow(path), url)
    if head[:3] == b"ORC":
        return _orc(path, url)
    if head[:4] == b"\xff\xff\xff\xff":
        return _of_arro3(_arrow_stream(path), url)
    return _csv(path, url, columns, delimiter)


def _check_end(path: Path, magic: bytes, url: str) -> None:
    """Refuse a file that is cut short, of which arro3 would panic."""
    with path.open("rb") as file:
        file.seek(-min(len(magic), path.stat().st_size), os.SEEK_END)
        if file.read() != magic:
            raise ListingError(
                f"the listing {url} is cut short: its last bytes are missing", "fetch it once more"
            )


def _parquet(path: Path) -> Any:
    from arro3.io import read_parquet

    return lambda: read_parquet(path, batch_size=_ROWS)


def _arrow(path: Path) -> Any:
    from arro3.io import read_ipc

    return lambda: read_ipc(path)


def _arrow_stream(path: Path) -> Any:
    from arro3.io import read_ipc_stream

    return lambda: read_ipc_stream(path)


def _of_arro3(read: Any, url: str) -> tuple[list[str], Iterator[Any]]:
    reader = _guarded(read, url)
    return list(reader.schema.names), _each(reader, url)


def _each(batches: Iterable[Any], url: str) -> Iterator[Any]:
    remaining = iter(batches)
    while True:
        batch = _guarded(lambda: next(remaining, None), url)
        if batch is None:
            return
        yield batch


def _guarded(read: Any, url: str) -> Any:
    """Call a reader; whatever it makes of damaged bytes is a `ListingError`."""
    try:
        return read()
    except (KeyboardInterrupt, SystemExit, RefreezeError):
        raise
    except BaseException as error:
        # arro3 panics at some damaged files; that is no `Exception`.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ListingError(
            f"the listing {url} is damaged: {one_line(error)}", "fetch it once more"
        ) from None


def _orc(path: Path, url: str) -> tuple[list[str], Iterator[Any]]:
    try:
        from pyarrow import orc
    except ImportError:
        raise ListingError(
            f"{url} is an ORC file, which pyarrow reads, and that is not installed",
            "pip install pyarrow, or have the inventory written as Parquet",
        ) from None
    file = _guarded(lambda: orc.ORCFile(path), url)
    stripes = (
        batch
        for stripe in range(file.nstripes)
        for batch in _pieces(_guarded(lambda stripe=stripe: file.read_stripe(stripe), url))
    )
    return list(file.schema.names), stripes


def _pieces(batch: Any) -> Iterator[Any]:
    for start in range(0, batch.num_rows, _ROWS):
        yield batch.slice(start, _ROWS)


def _csv(
    path: Path, url: str, columns: Sequence[str] | None, delimiter: str | None
) -> tuple[list[str], Iterator[Any]]:
    from arro3.core import DataType, Field, Schema
    from arro3.io import read_csv

    has_header = columns is None
    if columns is None:
        columns, delimiter = _header(path, url, delimiter)
    if not columns:
        return [], iter(())
    schema = Schema([Field(name, DataType.string()) for name in columns])
    reader = _guarded(
        lambda: read_csv(
            path, schema, has_header=has_header, batch_size=_ROWS, delimiter=delimiter or ","
        ),
        url,
    )
    return list(columns), _each(reader, url)


def _header(path: Path, url: str, delimiter: str | None) -> tuple[list[str], str]:
    """Read the first line of a CSV file: names of columns, and what is between them."""
    with path.open("rb") as file:
        line = file.readline(1 << 16)
    try:
        text = line.decode("utf-8-sig").strip("\r\n")
    except UnicodeDecodeError:
        raise ListingError(
            f"{url} is no listing: neither Parquet, Arrow, ORC nor CSV",
            "give a table with columns key, size and last_modified, or an inventory's manifest",
        ) from None
    if delimiter is None:
        delimiter = max(",\t;|", key=text.count)
    return next(csv.reader([text], delimiter=delimiter), []), delimiter


def of_bucket(columns: Columns, bucket: str | None) -> Columns:
    """Say of which bucket all rows are, unless a column does."""
    return replace(columns, of_bucket=bucket if columns.bucket is None else None)
