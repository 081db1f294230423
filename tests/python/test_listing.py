"""`--listing`: keys from inventories and tables give what LIST requests give, and none is sent."""

from __future__ import annotations

import json
import random
import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import icechunk
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import zarr

import refreeze
from endpoint import Endpoint, array
from inventories import MADE, plain_table, rows_of, s3_inventory
from refreeze.exceptions import ListingError
from scenarios import cli, flags

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SOURCE = "s3://bucket/store"


@pytest.fixture
def endpoint(serve: Callable[..., Endpoint]) -> Endpoint:
    """Two arrays below a group without consolidated metadata: they are found by their folders."""
    return serve(
        array("store/a", 60, 50),
        array("store/b", 25, pattern={"kind": "every", "step": 2}),
        groups=["store"],
    )


def by_listing(endpoint: Endpoint, target: Path, listing: Any, **options: Any) -> Any:
    """Ingest by a listing; the endpoint counts from here on."""
    endpoint.reset()
    usual: dict[str, Any] = {"no_read_check": True, "checksum": "none"}
    options = usual | {"source_options": endpoint.options} | options
    return refreeze.ingest(SOURCE, target, listing=listing, **options)


def assert_as_listed(endpoint: Endpoint, target: Path) -> None:
    """Hold a repository against a fresh listing."""
    report = refreeze.verify(SOURCE, target, source_options=endpoint.options)
    assert report.equal, report.examples
    assert report.checked > 3_000


def shuffled(rows: list[Any]) -> list[Any]:
    random.Random(5).shuffle(rows)  # noqa: S311 (the same every time)
    return rows


@pytest.mark.parametrize("kind", ["parquet", "orc", "csv"])
def test_an_s3_inventory_stands_for_all_list_requests(
    endpoint: Endpoint, tmp_path: Path, kind: str
) -> None:
    """Groups, arrays and chunks come from the inventory, in any order; the endpoint is never listed."""
    manifest = s3_inventory(
        tmp_path / "inventory", "bucket", shuffled(rows_of(endpoint.store())), kind=kind
    )
    report = by_listing(endpoint, tmp_path / "target", str(manifest))
    assert endpoint.stats()["list"] == 0
    assert (report.list_requests, report.references_written) == (0, 3_000 + 13)
    assert report.listing["date"] == MADE.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert report.to_dict()["listing"]["files"] == [str(manifest)]
    assert any("2031-05-06T07:08:09Z" in warning for warning in report.warnings)
    assert_as_listed(endpoint, tmp_path / "target")


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv", "csv.gz", "memory"])
def test_any_table_of_objects_will_do(endpoint: Endpoint, tmp_path: Path, suffix: str) -> None:
    """Parquet, Arrow, CSV and tables in memory, by the usual names of their columns."""
    table = plain_table(shuffled(rows_of(endpoint.store())))
    listing: Any = tmp_path / f"keys.{suffix}"
    if suffix == "parquet":
        pq.write_table(table, listing)
    elif suffix == "arrow":
        pyarrow.feather.write_feather(table, listing)
    elif suffix == "memory":
        listing = table
    else:
        with pa.output_stream(
            listing, compression="gzip" if suffix.endswith("gz") else None
        ) as file:
            pyarrow.csv.write_csv(table, file)
    report = by_listing(endpoint, tmp_path / "target", listing)
    assert endpoint.stats()["list"] == 0
    assert report.references_written == 3_013
    assert_as_listed(endpoint, tmp_path / "target")


def test_columns_are_mapped_and_files_added_up(
    endpoint: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--listing` is repeatable, `--listing-columns` says what columns are called."""
    table = plain_table(shuffled(rows_of(endpoint.store()))).rename_columns(["K", "S", "T", "E"])
    parts = [tmp_path / "one.parquet", tmp_path / "two.parquet"]
    pq.write_table(table.slice(0, 2_000), parts[0])
    # What is in both counts once.
    pq.write_table(table.slice(1_500), parts[1])
    endpoint.reset()
    outcome = cli(
        capsys, "ingest", SOURCE, tmp_path / "target", "--json", "--no-read-check",
        *(word for part in parts for word in ("--listing", part)),
        "--listing-columns", "key=K,size=S,last_modified=T,etag=E", "--checksum", "none",
        *flags("--source-option", endpoint.options),
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert outcome.document["references_written"] == 3_013
    assert "warning: the listing is of " in outcome.err
    assert endpoint.stats()["list"] == 0
    assert_as_listed(endpoint, tmp_path / "target")


def test_plan_verify_and_sync_take_it_too(
    endpoint: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No verb lists; a plan costs nothing, a sync by an equal listing changes nothing."""
    rows = rows_of(endpoint.store())
    listing = tmp_path / "keys.parquet"
    pq.write_table(plain_table(rows), listing)
    by_listing(endpoint, tmp_path / "target", listing, checksum="last-modified")
    common = ["--listing", listing, "--json", *flags("--source-option", endpoint.options)]
    planned = cli(capsys, "plan", SOURCE, *common).document
    assert {one["strategy"] for one in planned["arrays"]} == {"inventory"}
    assert (planned["totals"]["list_requests"], planned["totals"]["list_cost_usd"]) == (0, 0)
    assert planned["listing"]["rows"] == len(rows)
    verified = cli(capsys, "verify", SOURCE, tmp_path / "target", *common).document
    assert (verified["equal"], verified["list_requests"]) == (True, 0)
    synced = cli(capsys, "sync", SOURCE, tmp_path / "target", *common).document
    assert (synced["added"], synced["removed"], synced["snapshot_id"]) == (0, 0, None)
    assert endpoint.stats()["list"] == 0
    gone = [row for row in rows if not row["key"].startswith("store/b/c/2")]
    pq.write_table(plain_table(gone), listing)
    synced = cli(capsys, "sync", SOURCE, tmp_path / "target", "--no-read-check", *common).document
    assert synced["removed"] == len(rows) - len(gone) > 0
    assert endpoint.stats()["list"] == 0


def test_the_date_is_in_the_properties_of_commits(endpoint: Endpoint, tmp_path: Path) -> None:
    """Who reads the history sees that the references come from a listing, and of when it was."""
    manifest = s3_inventory(tmp_path / "inventory", "bucket", rows_of(endpoint.store()))
    by_listing(endpoint, tmp_path / "target", manifest)
    repository = icechunk.Repository.open(
        icechunk.local_filesystem_storage(str(tmp_path / "target"))
    )
    tip = next(iter(repository.ancestry(branch="main")))
    assert tip.metadata["refreeze.listing"] == "2031-05-06T07:08:09Z"


@pytest.mark.parametrize("kind", ["parquet", "orc", "csv"])
def test_what_is_no_object_of_today_is_left_out(
    serve: Callable[..., Endpoint], tmp_path: Path, kind: str
) -> None:
    """Older versions, delete markers, other stores' keys and awkward names; multipart tags stay."""
    endpoint = serve(array("my store+1/a", 40), groups=["my store+1"])
    rows = rows_of(endpoint.store())
    for row in rows:
        row["e_tag"] = f"{row['e_tag'][:32]:0<32}-12"
    old = datetime(2001, 1, 1, tzinfo=UTC)
    chunk = next(row for row in rows if row["key"].endswith("/a/c/7"))
    stranger = {"size": 3, "last_modified": old, "e_tag": "x"}
    rows += [
        {**chunk, "size": 999, "last_modified": old, "is_latest": False, "version_id": "v1"},
        {**stranger, "key": "my store+1/a/c/39", "is_latest": False},
        {
            **stranger,
            "key": "my store+1/a/c/41",
            "is_delete_marker": True,
            "size": None,
            "e_tag": None,
        },
        {**stranger, "key": "my store+1/", "size": 0},
        {**stranger, "key": "my store+1/a/c/", "size": 0},
        {**stranger, "key": "my store 1/a/c/0"},
        {**stranger, "key": "other.zarr/a/c/0"},
    ]
    manifest = s3_inventory(tmp_path / "inventory", "bucket", shuffled(rows), kind=kind)
    endpoint.reset()
    report = refreeze.ingest(
        "s3://bucket/my store+1", tmp_path / "target", listing=manifest,
        source_options=endpoint.options, no_read_check=True, checksum="none",
    )  # fmt: skip
    assert (report.references_written, endpoint.stats()["list"]) == (40, 0)
    # None of the older version's 999 bytes.
    assert report.bytes_referenced == 40


def test_a_region_and_several_sources_by_one_listing(
    serve: Callable[..., Endpoint], tmp_path: Path
) -> None:
    """What is listed of an inventory follows from the region; each source finds its own keys."""
    endpoint = serve(
        *(array(f"{year}/a", 30, 4, zarr={"dimension_names": ["t", "x"]}) for year in (2001, 2002)),
        groups=["2001", "2002"],
    )
    listing = plain_table(shuffled(rows_of(endpoint.store())))
    common = {"listing": listing, "source_options": endpoint.options, "no_read_check": True}
    endpoint.reset()
    report = refreeze.ingest(
        ["s3://bucket/2001", "s3://bucket/2002"], tmp_path / "both",
        concat_dim="t", checksum="none", **common,
    )  # fmt: skip
    assert report.references_written == 240
    part = refreeze.ingest(
        "s3://bucket/2001", tmp_path / "part",
        region={"t": slice(10, 15)}, checksum="none", **common,
    )  # fmt: skip
    assert (part.references_written, endpoint.stats()["list"]) == (20, 0)


def test_data_files_are_found_where_the_manifest_says_and_beside_it(
    s3_bucket: Any, tmp_path: Path
) -> None:
    """In the destination bucket of a manifest on local disk, beside one, and in a bucket."""
    server, bucket = s3_bucket
    store = server.store(bucket)
    zarr.create_array(
        zarr.storage.ObjectStore(server.store(bucket, "s.zarr")), name="a", shape=(20,), chunks=(1,),
        dtype="u1",
    )[:] = 1  # fmt: skip
    rows = rows_of(store)
    manifest = s3_inventory(tmp_path / "inventory", bucket, rows)
    flat = tmp_path / "flat"
    flat.mkdir()
    shutil.copy(manifest, flat)
    for file in (tmp_path / "inventory").rglob("*.parquet"):
        shutil.copy(file, flat)
    alone = tmp_path / "alone.json"
    shutil.copy(manifest, alone)
    for file in (tmp_path / "inventory").rglob("*.parquet"):
        store.put(f"inventories/{bucket}/config/data/{file.name}", file.read_bytes())
    store.put(f"inventories/{bucket}/config/day/manifest.json", manifest.read_bytes())
    places = [
        flat / "manifest.json",
        alone,
        f"s3://{bucket}/inventories/{bucket}/config/day/manifest.json",
    ]
    for number, place in enumerate(places):
        report = refreeze.ingest(
            f"s3://{bucket}/s.zarr",
            tmp_path / str(number),
            listing=place,
            source_options=server.options,
        )
        assert report.references_written == 20, place
        assert report.list_requests == 0


def test_pages_of_the_listing_are_compared_with_the_service(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    """`sample_listing` lets pass what is newer than the listing, and nothing else."""
    rows = rows_of(endpoint.store())
    newest = max(row["last_modified"] for row in rows)
    equal = s3_inventory(tmp_path / "equal", "bucket", rows)
    report = by_listing(endpoint, tmp_path / "equal.ic", equal, sample_listing=3)
    assert endpoint.stats()["list"] == report.listing["sampled_requests"] == 3
    # All of it is shorter than two pages of keys that any sample reaches.
    few = [row for row in rows if not row["key"].startswith("store/a/c/5")]
    older = s3_inventory(tmp_path / "older", "bucket", few, made=newest - timedelta(days=1))
    by_listing(endpoint, tmp_path / "older.ic", older, sample_listing=30)
    lacking = s3_inventory(tmp_path / "lacking", "bucket", few, made=newest + timedelta(days=1))
    with pytest.raises(ListingError, match=r"store/a/c/5\S* is not in the listing"):
        by_listing(endpoint, tmp_path / "lacking.ic", lacking, sample_listing=30)
    more = [*rows, {**rows[0], "key": "store/a/c/0/000"}]
    with pytest.raises(ListingError, match="store/a/c/0/000 is gone"):
        by_listing(
            endpoint, tmp_path / "more.ic", s3_inventory(tmp_path / "more", "bucket", more),
            sample_listing=30,
        )  # fmt: skip


def test_local_stores_are_listed_by_keys_of_their_own(tmp_path: Path) -> None:
    """Keys relative to the store, or whole paths; no folder is read."""
    source = tmp_path / "s.zarr"
    group = zarr.open_group(source, mode="w")
    group.create_array("a", shape=(12,), chunks=(1,), dtype="u1")[:] = 1
    files = [path for path in source.rglob("*") if path.is_file()]
    for relative in (True, False):
        table = pa.table(
            {
                "key": [str(path.relative_to(source) if relative else path) for path in files],
                "size": [path.stat().st_size for path in files],
                "mtime": [path.stat().st_mtime_ns for path in files],
            }
        )
        target = tmp_path / f"{relative}.ic"
        assert refreeze.ingest(source, target, listing=table).references_written == 12
        assert refreeze.verify(source, target).equal


def test_a_million_rows_in_any_order(serve: Callable[..., Endpoint], tmp_path: Path) -> None:
    """An unsorted inventory of a million rows, mostly of other stores, in bounded memory."""
    endpoint = serve(array("store/a", 100, 1_000), groups=["store"])
    rows = shuffled(rows_of(endpoint.store("store")))
    count = 1_000_000
    numbers = pa.array(
        [f"elsewhere/{number * 7_919 % count}" for number in range(count - len(rows))]
    )
    own = plain_table([{**row, "key": f"store/{row['key']}"} for row in rows])
    times = pa.array([rows[0]["last_modified"]] * len(numbers), pa.timestamp("us", tz="UTC"))
    sizes = pa.array([1] * len(numbers), pa.int64())
    other = pa.table({"key": numbers, "size": sizes, "last_modified": times, "etag": numbers})
    table = pa.concat_tables([other.slice(0, 500_000), own, other.slice(500_000)])
    listing = tmp_path / "keys.parquet"
    pq.write_table(table, listing, row_group_size=100_000)
    report = by_listing(endpoint, tmp_path / "target", listing, memory="16MiB")
    assert (report.references_written, report.listing["rows"]) == (100_000, count)
    assert endpoint.stats()["list"] == 0


def test_reports_without_a_listing_say_nothing_of_one(tmp_path: Path) -> None:
    """The contract's reports have no other fields than before."""
    source = tmp_path / "s.zarr"
    zarr.create_array(source, name="a", shape=(2,), chunks=(1,), dtype="u1")[:] = 1
    report = refreeze.ingest(source, tmp_path / "t")
    assert "listing" not in json.loads(json.dumps(report.to_dict()))
    assert "listing" not in refreeze.plan(source).to_dict()
