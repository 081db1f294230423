"""The manifests of inventories: S3 Inventory, Storage Insights of Google, Blob Inventory of Azure.

A manifest says of which bucket and of when the inventory is, and which files hold its rows. Where
these are found, and what is in them, is decided by others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from refreeze.exceptions import ListingError

__all__ = ["DataFile", "Manifest", "iso", "parsed_manifest"]


@dataclass(frozen=True)
class DataFile:
    """A file of rows, as a manifest names it."""

    key: str
    """In the bucket that the inventory was written to."""
    size: int | None = None
    md5: str | None = None


@dataclass(frozen=True)
class Manifest:
    """What a manifest says."""

    service: str
    """``s3``, ``gs`` or ``az``."""
    bucket: str | None
    """Of which the inventory is; Azure's names it in every row."""
    destination: str | None
    """The bucket that holds the files; None: the manifest's own."""
    date: datetime | None
    files: tuple[DataFile, ...]
    columns: tuple[str, ...] | None
    """Of files without a header."""
    delimiter: str = ","


def parsed_manifest(text: bytes, url: str) -> Manifest:
    """Read a manifest.

    Raises
    ------
    ListingError
        It is none of a service that is known, or damaged.
    """
    try:
        said = json.loads(text)
        if not isinstance(said, dict):
            raise TypeError("no object")  # noqa: TRY301 one way for all that is damaged
        if "sourceBucket" in said and "files" in said:
            return _of_s3(said)
        if "report_shards_file_names" in said:
            return _of_google(said)
        if "files" in said and ("ruleName" in said or "destinationContainer" in said):
            return _of_azure(said)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ListingError(
            f"the manifest {url} is damaged: {error}", "fetch it once more"
        ) from error
    raise ListingError(
        f"{url} is no manifest of an inventory: it has {', '.join(sorted(said)[:8])}",
        "give the manifest.json of an S3 Inventory, of a Storage Insights report or of an Azure "
        "Blob Inventory, or a table",
    )


def _of_s3(said: dict[str, Any]) -> Manifest:
    is_csv = str(said.get("fileFormat", "")).upper() == "CSV"
    created = said.get("creationTimestamp")
    destination = said.get("destinationBucket")
    return Manifest(
        service="s3",
        bucket=said["sourceBucket"],
        destination=destination.rpartition(":")[2] if destination else None,
        date=None if created is None else datetime.fromtimestamp(int(created) / 1000, UTC),
        files=tuple(
            DataFile(file["key"], file.get("size"), file.get("MD5checksum"))
            for file in said["files"]
        ),
        columns=(tuple(name.strip() for name in said["fileSchema"].split(",")) if is_csv else None),
    )


def _of_google(said: dict[str, Any]) -> Manifest:
    config = said.get("report_config") or {}
    report = config.get("object_metadata_report_options") or {}
    filters = report.get("storage_filters") or {}
    csv = config.get("csv_options") or {}
    without_header = csv and not csv.get("header_required", False)
    fields = report.get("metadata_fields")
    return Manifest(
        service="gs",
        bucket=filters.get("bucket"),
        destination=None,
        date=_instant(said.get("snapshot_time") or said.get("target_datetime")),
        files=tuple(DataFile(name) for name in said["report_shards_file_names"]),
        columns=tuple(fields) if fields and without_header else None,
        delimiter=csv.get("delimiter") or ",",
    )


def _of_azure(said: dict[str, Any]) -> Manifest:
    # Objects that came while it was made may or may not be in it: its beginning counts.
    started = said.get("inventoryStartTime") or said.get("inventoryCompletionTime")
    return Manifest(
        service="az",
        bucket=None,
        destination=said.get("destinationContainer"),
        date=_instant(started),
        files=tuple(DataFile(file["blob"], file.get("size")) for file in said["files"]),
        columns=None,
    )


def _instant(text: Any) -> datetime | None:
    if not isinstance(text, str):
        return None
    date = datetime.fromisoformat(text)
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def iso(date: datetime) -> str:
    """Write a time as ISO 8601, in UTC and whole seconds."""
    return date.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
