"""Reports of Google's Storage Insights and Azure's Blob Inventory, in their own columns, in place of LIST requests."""

from __future__ import annotations

import base64
import csv
import io
import json
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import refreeze
from endpoint import array
from inventories import MADE, rows_of
from refreeze.exceptions import ListingError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from endpoint import Endpoint

    Serve = Callable[..., Endpoint]

OLD = datetime(2001, 1, 1, tzinfo=UTC)
DAY = MADE.strftime("%Y-%m-%dT%H:%M")

GOOGLE = (
    *("project", "bucket", "name", "location", "size", "timeCreated", "timeDeleted", "updated"),
    *("storageClass", "etag", "crc32c", "md5Hash", "generation", "metageneration", "contentType"),
)
AZURE = (
    *("Name", "Creation-Time", "Last-Modified", "Etag", "Content-Length", "Content-Type"),
    *("Content-MD5", "BlobType", "AccessTier", "hdi_isfolder", "Snapshot", "VersionId"),
    *("IsCurrentVersion", "Deleted", "RemainingRetentionDays"),
)


@pytest.fixture
def endpoint(serve: Serve) -> Endpoint:
    """Serve a store with an awkward name, a group with an array of 40 chunks."""
    return serve(array("my store+1%/a", 40), groups=["my store+1%"], page_size=5000)


def google_rows(endpoint: Endpoint) -> list[dict[str, Any]]:
    """Return what Storage Insights tells of the objects, of deleted versions, and of folders."""
    rows = []
    for row in rows_of(endpoint.store()):
        digest = base64.b64encode(bytes.fromhex(f"{len(rows):032x}")).decode()
        rows.append(
            {
                "project": "p", "bucket": "bucket", "name": row["key"], "location": "us",
                "size": row["size"], "timeCreated": row["last_modified"], "timeDeleted": None,
                # Later than the object's time: its metadata was changed.
                "updated": MADE, "storageClass": "STANDARD", "etag": "CLvu4fbB7/wCEAE=",
                "crc32c": "AAAAAA==", "md5Hash": digest, "generation": 1, "metageneration": 3,
                "contentType": "application/octet-stream",
            }
        )  # fmt: skip
    chunk = next(row for row in rows if row["name"].endswith("/a/c/7"))
    rows += [
        {**chunk, "size": 999, "timeCreated": OLD, "timeDeleted": OLD, "generation": 0},
        {**chunk, "name": "my store+1%/a/c/39x"},
        {**chunk, "name": "my store+1%/a/c/", "size": 0},
        {**chunk, "name": "other.zarr/a/c/0"},
    ]
    random.Random(3).shuffle(rows)  # noqa: S311 (the same every time)
    return rows


def azure_rows(endpoint: Endpoint) -> list[dict[str, Any]]:
    """Return what a Blob Inventory tells of a container and another, of versions and of folders."""
    rows = []
    for row in rows_of(endpoint.store()):
        rows.append(
            {
                "Name": f"bucket/{row['key']}", "Creation-Time": OLD,
                "Last-Modified": row["last_modified"].replace(microsecond=0), "Etag": f"0x8D9{len(rows):011X}",
                "Content-Length": row["size"], "Content-Type": "application/octet-stream",
                "Content-MD5": "", "BlobType": "BlockBlob", "AccessTier": "Hot",
                "hdi_isfolder": False, "Snapshot": None, "VersionId": "2031-01-01T00:00:00.0000000Z",
                "IsCurrentVersion": True, "Deleted": False, "RemainingRetentionDays": None,
            }
        )  # fmt: skip
    chunk = next(row for row in rows if row["Name"].endswith("/a/c/7"))
    rows += [
        {**chunk, "Content-Length": 999, "Last-Modified": OLD, "IsCurrentVersion": False},
        {**chunk, "Content-Length": 998, "Last-Modified": OLD, "Snapshot": "2030-01-01T00:00:00Z"},
        {**chunk, "Content-Length": 997, "Deleted": True, "RemainingRetentionDays": 3},
        {**chunk, "Name": "bucket/my store+1%/a/c", "Content-Length": 0, "hdi_isfolder": True},
        {**chunk, "Name": "another/my store+1%/a/c/3", "Content-Length": 996},
    ]
    random.Random(4).shuffle(rows)  # noqa: S311 (the same every time)
    return rows


def written(rows: list[dict[str, Any]], names: tuple[str, ...], kind: str, time: str) -> bytes:
    """Write a data file as the services do: text of seven digits, or Parquet of milliseconds."""
    if kind == "parquet":
        columns = {}
        for name in names:
            values = [row[name] for row in rows]
            is_time = any(isinstance(value, datetime) for value in values)
            columns[name] = pa.array(values, pa.timestamp("ms", tz="UTC") if is_time else None)
        file = io.BytesIO()
        pq.write_table(pa.table(columns), file)
        return file.getvalue()
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(names)
    for row in rows:
        lines.writerow(_text(row[name], time) for name in names)
    return text.getvalue().encode()


def _text(cell: Any, time: str) -> Any:
    if isinstance(cell, datetime):
        return cell.strftime(time).replace("SSS", f"{cell.microsecond // 1000:03d}")
    return str(cell).lower() if isinstance(cell, bool) else "" if cell is None else cell


def google_report(folder: Path, rows: list[dict[str, Any]], kind: str, bucket: str) -> Path:
    """Write a report as Storage Insights lays it out: shards beside a manifest."""
    folder.mkdir()
    shards = []
    for shard in range(2):
        shards.append(f"0d3c_{DAY}_{shard}.{kind}")
        text = written(rows[shard::2], GOOGLE, kind, "%Y-%m-%dT%H:%M:%S.SSSZ")
        (folder / shards[-1]).write_bytes(text)
    options = {
        "metadata_fields": list(GOOGLE),
        "storage_destination_options": {"bucket": "reports", "destination_path": ""},
        "storage_filters": {"bucket": bucket},
    }
    csv_options = {"delimiter": ",", "header_required": True, "record_separator": "\n"}
    manifest = folder / f"0d3c_{DAY}_manifest.json"
    manifest.write_text(
        json.dumps(
            {
                "report_config": {
                    "object_metadata_report_options": options,
                    **({"csv_options": csv_options} if kind == "csv" else {"parquet_options": {}}),
                    "display_name": "daily",
                    "frequency_options": {"frequency": "DAILY"},
                    "name": "projects/p/locations/us/reportConfigs/0d3c",
                },
                "records_processed": len(rows),
                "report_shards_file_names": shards,
                "shard_count": "2",
                "snapshot_time": MADE.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "target_datetime": MADE.strftime("%Y-%m-%dT00:00:00Z"),
            }
        )
    )
    return manifest


def azure_report(folder: Path, rows: list[dict[str, Any]], kind: str) -> Path:
    """Write an inventory as Azure lays it out: by day, time and rule, several files."""
    place = folder / "2031/05/06/07-08-09/daily"
    place.mkdir(parents=True)
    files = []
    for part in range(2):
        name = f"daily_1000000_{part}.{kind}"
        text = written(rows[part::2], AZURE, kind, "%Y-%m-%dT%H:%M:%S.0000000Z")
        (place / name).write_bytes(text)
        blob = f"2031/05/06/07-08-09/daily/{name}"
        files.append({"blob": blob, "size": len(text)})
    rule = {
        "filters": {"blobTypes": ["blockBlob"], "includeBlobVersions": True},
        "format": kind, "objectType": "blob", "schedule": "daily", "schemaFields": list(AZURE),
    }  # fmt: skip
    manifest = place / "daily-manifest.json"
    manifest.write_text(
        json.dumps(
            {
                "destinationContainer": "inventories",
                "endpoint": "https://account.blob.core.windows.net",
                "files": files,
                "inventoryCompletionTime": "2031-05-06T07:18:09Z",
                "inventoryStartTime": MADE.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "ruleDefinition": rule,
                "ruleName": "daily",
                "status": "Succeeded",
                "summary": {"objectCount": len(rows)},
                "version": "1.0",
            }
        )
    )
    return manifest


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("service", ["gs", "az"])
def test_a_report_stands_for_all_list_requests(
    endpoint: Endpoint, tmp_path: Path, service: str, kind: str
) -> None:
    """The references are those of a fresh listing; versions, deleted blobs and folders are none."""
    options = endpoint.google if service == "gs" else endpoint.azure
    if service == "gs":
        manifest = google_report(tmp_path / "report", google_rows(endpoint), kind, "bucket")
    else:
        manifest = azure_report(tmp_path / "report", azure_rows(endpoint), kind)
    endpoint.reset()
    source = f"{service}://bucket/my store+1%"
    report = refreeze.ingest(
        source, tmp_path / "target", listing=manifest, source_options=options, no_read_check=True
    )
    assert (report.references_written, report.bytes_referenced) == (40, 40)
    assert (report.list_requests, endpoint.stats()["list"]) == (0, 0)
    assert report.listing is not None
    assert report.listing["date"] == MADE.strftime("%Y-%m-%dT%H:%M:%SZ")
    compared = refreeze.verify(source, tmp_path / "target", source_options=options)
    assert compared.equal, compared.examples
    assert compared.checked == 40


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_report_of_another_bucket_is_refused(
    endpoint: Endpoint, tmp_path: Path, kind: str
) -> None:
    """Google's by the manifest's filter; Azure's by the containers before the names."""
    rows = google_rows(endpoint)
    manifest = google_report(tmp_path / "google", rows, kind, "other-bucket")
    with pytest.raises(ListingError, match=r"(?s)other-bucket.*bucket"):
        refreeze.ingest(
            "gs://bucket/my store+1%", tmp_path / "t", listing=manifest,
            source_options=endpoint.google,
        )  # fmt: skip
    blobs = [row for row in azure_rows(endpoint) if row["Name"].startswith("another/")]
    manifest = azure_report(tmp_path / "azure", blobs * 2, kind)
    with pytest.raises(ListingError, match=r"another/my store"):
        refreeze.ingest(
            "az://bucket/my store+1%", tmp_path / "t", listing=manifest,
            source_options=endpoint.azure,
        )  # fmt: skip
    assert not (tmp_path / "t").exists()
