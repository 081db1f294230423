"""Listings that cannot be taken: each is an error that says what is wrong, and nothing is written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

import refreeze
from inventories import plain_table, rows_of, s3_inventory
from refreeze.exceptions import ListingError
from scenarios import cli

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "s.zarr"
    zarr.create_array(path, name="a", shape=(3,), chunks=(1,), dtype="u1")[:] = 1
    return path


def rows(source: Path) -> list[dict[str, Any]]:
    from obstore.store import LocalStore

    return rows_of(LocalStore(source))


def refused(
    capsys: pytest.CaptureFixture[str], source: Path, *arguments: object, code: int = 1
) -> str:
    """Ingest, which fails, in one to three lines, and leaves no repository."""
    target = source.parent / "target"
    outcome = cli(capsys, "ingest", source, target, *arguments)
    assert outcome.code == code, outcome
    assert "Traceback" not in outcome.err
    assert "internal error" not in outcome.err
    assert not target.exists()
    return outcome.err


def test_another_tables_columns_are_named(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message says which columns there are, and how to map them."""
    listing = tmp_path / "cities.parquet"
    pq.write_table(pa.table({"city": ["a"], "people": [1]}), listing)
    err = refused(capsys, source, "--listing", listing)
    assert "city, people" in err
    assert "--listing-columns" in err
    err = refused(capsys, source, "--listing", listing, "--listing-columns", "key=town")
    assert "no column town" in err


@pytest.mark.parametrize("cut", [4, 200, 10_000])
def test_truncated_parquet_is_damaged(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], cut: int
) -> None:
    """Wherever it is cut off."""
    listing = tmp_path / "keys.parquet"
    pq.write_table(plain_table(rows(source) * 500), listing)
    text = listing.read_bytes()
    listing.write_bytes(text[: max(len(text) - cut, 8)])
    err = refused(capsys, source, "--listing", listing)
    assert f"the listing {listing} is" in err
    assert "panicked" not in err


@pytest.mark.parametrize("kind", ["parquet", "orc", "csv"])
def test_a_data_file_that_is_not_the_manifests_is_refused(
    s3_bucket: Any, tmp_path: Path, kind: str
) -> None:
    """Its digest is in the manifest."""
    server, bucket = s3_bucket
    zarr.create_array(
        zarr.storage.ObjectStore(server.store(bucket, "s.zarr")), name="a", shape=(3,), chunks=(1,),
        dtype="u1",
    )[:] = 1  # fmt: skip
    manifest = s3_inventory(tmp_path, bucket, rows_of(server.store(bucket)), kind=kind)
    data = next((tmp_path / "config" / "data").iterdir())
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(ListingError, match="MD5"):
        refreeze.ingest(
            f"s3://{bucket}/s.zarr", tmp_path / "t", listing=manifest, source_options=server.options
        )


def test_an_inventory_of_another_bucket_is_refused_by_name(s3_bucket: Any, tmp_path: Path) -> None:
    """By its manifest, or by the column of buckets in a table."""
    server, bucket = s3_bucket
    source = zarr.storage.ObjectStore(server.store(bucket, "s.zarr"))
    zarr.create_array(source, name="a", shape=(3,), chunks=(1,), dtype="u1")[:] = 1
    given = rows_of(server.store(bucket))
    manifest = s3_inventory(tmp_path, bucket, given, source="other-bucket")
    table = plain_table(given).append_column("bucket", pa.array(["other-bucket"] * len(given)))
    for listing in (manifest, table):
        with pytest.raises(ListingError, match=rf"(?s)other-bucket.*{bucket}"):
            refreeze.ingest(
                f"s3://{bucket}/s.zarr",
                tmp_path / "t",
                listing=listing,
                source_options=server.options,
            )


def test_a_listing_without_a_key_of_the_source_is_refused(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing found is no proof of an empty store; one of its keys is shown."""
    listing = tmp_path / "keys.parquet"
    table = plain_table([{**row, "key": f"s3://b/{row['key']}"} for row in rows(source)])
    pq.write_table(table, listing)
    err = refused(capsys, source, "--listing", listing)
    assert "is below" in err
    assert "s3://b/" in err


def test_versions_without_a_flag_are_refused(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key that comes twice with different sizes could be either."""
    given = rows(source)
    listing = tmp_path / "keys.parquet"
    pq.write_table(plain_table([*given, {**given[0], "size": 77}]), listing)
    err = refused(capsys, source, "--listing", listing)
    assert "twice" in err
    assert "is_latest" in err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "no manifest"),
        ('{"sourceBucket": "b"', "damaged"),
        ('{"sourceBucket": "b", "files": [{"size": 3}]}', "damaged"),
        ("", "no column"),
        ("\xff\xfe\x00", "no listing"),
        ("key,size,last_modified\na,b\n", "damaged"),
        ("key,size,last_modified\na/c/0,large,2024-01-01T00:00:00Z\n", "no size for a/c/0"),
        ("key,size,last_modified\na/c/0,1,yesterday\n", "no last_modified for a/c/0"),
    ],
)
def test_what_is_no_listing_is_said_to_be_none(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    """Manifests and tables of no known kind, and rows that lack what is needed."""
    listing = tmp_path / "listing"
    listing.write_bytes(text.encode("latin-1"))
    assert said in refused(capsys, source, "--listing", listing)


def test_a_missing_listing_and_missing_data_files_are_named(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also those that a manifest names."""
    assert "there is no listing at" in refused(capsys, source, "--listing", tmp_path / "nothing")
    manifest = tmp_path / "manifest.json"
    manifest.write_text(
        json.dumps(
            {"report_shards_file_names": ["shard_0.csv"], "snapshot_time": "2024-01-01T00:00:00Z"}
        )
    )
    assert "shard_0.csv" in refused(capsys, source, "--listing", manifest)


def test_options_that_need_a_listing_or_do_not_go_with_one(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong usage ends with 2."""
    for arguments in (
        ["--sample-listing", 3],
        ["--listing-columns", "key=K"],
        ["--listing-option", "region=x"],
        ["--listing", "x", "--listing-columns", "colour=K"],
        ["--listing", "x", "--listing-columns", "K"],
        ["--listing", "x", "--sample-listing", -1],
        ["--listing", "x", "--workers", 2],
    ):
        refused(capsys, source, *arguments, code=2)
    with pytest.raises(TypeError, match="listing"):
        refreeze.ingest(source, tmp_path / "target", listing=5)
    listing = tmp_path / "keys.parquet"
    pq.write_table(plain_table(rows(source)), listing)
    assert "only listings of buckets" in refused(
        capsys, source, "--listing", listing, "--sample-listing", 1
    )
