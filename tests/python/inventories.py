"""Inventories as the services write them, made from what a store lists: for the tests of `--listing`.

What is in them besides the objects (older versions, delete markers, folders) is the tests' own affair.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import orc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MADE = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
"""When inventories are made: after everything that the tests write."""
Row = dict[str, Any]


def rows_of(store: Any, prefix: str | None = None) -> list[Row]:
    """List a store: key, size, last_modified, e_tag of each object."""
    return [
        {
            "key": entry["path"],
            "size": entry["size"],
            "last_modified": entry["last_modified"],
            "e_tag": (entry["e_tag"] or "").strip('"'),
        }
        for page in obstore.list(store, prefix)
        for entry in page
    ]


def plain_table(rows: Sequence[Row]) -> pa.Table:
    """Return a table with columns key, size, last_modified, etag."""
    return pa.table(
        {
            "key": [row["key"] for row in rows],
            "size": pa.array([row["size"] for row in rows], pa.int64()),
            "last_modified": pa.array(
                [row["last_modified"] for row in rows], pa.timestamp("us", tz="UTC")
            ),
            "etag": [row["e_tag"] for row in rows],
        }
    )


def s3_table(bucket: str, rows: Sequence[Row]) -> pa.Table:
    """Return the columns of an S3 Inventory of all versions."""
    return pa.table(
        {
            "bucket": [bucket] * len(rows),
            "key": [row["key"] for row in rows],
            "version_id": [row.get("version_id", "") for row in rows],
            "is_latest": [row.get("is_latest", True) for row in rows],
            "is_delete_marker": [row.get("is_delete_marker", False) for row in rows],
            "size": pa.array([row["size"] for row in rows], pa.int64()),
            "last_modified_date": pa.array(
                [row["last_modified"] for row in rows], pa.timestamp("ms", tz="UTC")
            ),
            "e_tag": [row["e_tag"] for row in rows],
        }
    )


SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag"


def s3_csv(bucket: str, rows: Sequence[Row]) -> bytes:
    """Write the same as text: without a header, keys URL-encoded, compressed."""
    text = io.StringIO()
    lines = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    for row in rows:
        time = row["last_modified"]
        lines.writerow(
            [
                bucket,
                quote_plus(row["key"], safe="/"),
                row.get("version_id", ""),
                str(row.get("is_latest", True)).lower(),
                str(row.get("is_delete_marker", False)).lower(),
                "" if row["size"] is None else row["size"],
                time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03d}Z",
                row["e_tag"] or "",
            ]
        )
    return gzip.compress(text.getvalue().encode())


def s3_inventory(
    folder: Path,
    bucket: str,
    rows: Sequence[Row],
    *,
    kind: str = "parquet",
    files: int = 2,
    source: str | None = None,
    made: datetime = MADE,
) -> Path:
    """Write an S3 Inventory with its manifest below a folder, as AWS lays it out; return the manifest."""
    data = folder / "config" / "data"
    data.mkdir(parents=True, exist_ok=True)
    listed = []
    for number in range(files):
        part = list(rows[number::files])
        name = f"part-{number}.{ {'csv': 'csv.gz'}.get(kind, kind) }"
        if kind == "parquet":
            pq.write_table(s3_table(bucket, part), data / name)
        elif kind == "orc":
            orc.write_table(s3_table(bucket, part), str(data / name))
        else:
            (data / name).write_bytes(s3_csv(bucket, part))
        text = (data / name).read_bytes()
        listed.append(
            {
                "key": f"inventories/{bucket}/config/data/{name}",
                "size": len(text),
                "MD5checksum": hashlib.md5(text).hexdigest(),  # noqa: S324 (as AWS does)
            }
        )
    manifest = folder / "config" / "2031-05-06T07-08Z" / "manifest.json"
    manifest.parent.mkdir(exist_ok=True)
    manifest.write_text(
        json.dumps(
            {
                "sourceBucket": source or bucket,
                "destinationBucket": f"arn:aws:s3:::{bucket}",
                "version": "2016-11-30",
                "creationTimestamp": str(int(made.timestamp() * 1000)),
                "fileFormat": {"csv": "CSV", "orc": "ORC"}.get(kind, "Parquet"),
                "fileSchema": SCHEMA if kind == "csv" else "message s3.inventory {}",
                "files": listed,
            }
        )
    )
    return manifest
