"""Listings that are older than the repository: nothing newer is replaced or removed by them."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import icechunk
import pyarrow.parquet as pq
import pytest
import zarr
from obstore.store import LocalStore

import refreeze
from inventories import plain_table, rows_of
from refreeze.exceptions import ListingError
from scenarios import cli, local_repository

if TYPE_CHECKING:
    from pathlib import Path

EARLIER = datetime.now(UTC) - timedelta(days=2)


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Return a source of six chunks, a repository of it, and a listing of two days ago.

    The listing lacks a chunk and has another one shorter than they are now.
    """
    source, target, listing = tmp_path / "s.zarr", tmp_path / "t", tmp_path / "keys.parquet"
    group = zarr.create_group(source)
    group.create_array("a", shape=(6,), chunks=(1,), dtype="u1", dimension_names=["x"])[:] = 7
    rows = [row for row in rows_of(LocalStore(source)) if not row["key"].endswith("a/c/5")]
    for row in rows:
        row["last_modified"] = EARLIER - timedelta(days=1)
    pq.write_table(plain_table(rows), listing)
    os.utime(listing, (EARLIER.timestamp(), EARLIER.timestamp()))
    refreeze.ingest(source, target)
    return source, target, listing


def tip(target: Path) -> str:
    return str(local_repository(target).lookup_branch("main"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["sync"],
        ["sync", "--dry-run"],
        ["ingest", "--mode", "update", "--region", "x=0:6"],
        ["ingest", "--mode", "overwrite"],
        ["ingest", "--mode", "append", "--append-dim", "x"],
    ],
    ids=" ".join,
)
def test_a_listing_that_is_older_than_the_repository_changes_nothing(
    place: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """ListingError with both dates and what to do; the branch stays where it was."""
    source, target, listing = place
    before = tip(target)
    verb, *options = arguments
    outcome = cli(capsys, verb, source, target, "--listing", listing, "--json", *options)
    assert outcome.code == 1
    error = outcome.document["error"]
    assert error["type"] == "ListingError"
    assert EARLIER.strftime("the listing is of %Y-%m-%dT%H:%M:%SZ") in error["message"]
    assert "commit of " in error["message"]
    assert "--listing" in error["hint"]
    assert tip(target) == before


def test_verify_by_an_older_listing_says_so(place: tuple[Path, Path, Path]) -> None:
    """Nothing can be lost; what differs may be the listing's age."""
    source, target, listing = place
    report = refreeze.verify(source, target, listing=listing)
    assert not report.equal
    assert any("as of a later time" in warning for warning in report.warnings)


def test_a_repository_by_a_listing_is_as_old_as_that(place: tuple[Path, Path, Path]) -> None:
    """The commit's own time does not count: the same listing again and younger ones are taken."""
    source, target, listing = place
    other = target.with_name("by-listing")
    options: dict[str, Any] = {"listing": listing, "no_read_check": True, "checksum": "none"}
    refreeze.ingest(source, other, **options)
    assert refreeze.sync(source, other, **options).snapshot_id is None
    later = (EARLIER + timedelta(hours=1)).timestamp()
    os.utime(listing, (later, later))
    assert refreeze.sync(source, other, **options).snapshot_id is None
    earlier = (EARLIER - timedelta(hours=1)).timestamp()
    os.utime(listing, (earlier, earlier))
    with pytest.raises(ListingError, match="by a listing of"):
        refreeze.sync(source, other, **options)


def test_another_sources_ingest_does_not_count(
    place: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """What is told of other sources, in groups of their own, says nothing of this one."""
    source, target, listing = place
    options: dict[str, Any] = {"listing": listing, "no_read_check": True, "checksum": "none"}
    other = target.with_name("two")
    refreeze.ingest(source, other, target_group="one", **options)
    zarr.create_array(tmp_path / "more.zarr", name="b", shape=(2,), chunks=(1,), dtype="u1")[:] = 1
    refreeze.ingest(tmp_path / "more.zarr", other, target_group="two")
    report = refreeze.sync(source, other, target_group="one", **options)
    assert report.snapshot_id is None
    report = refreeze.ingest(source, other, mode="overwrite", target_group="two/again", **options)
    assert report.references_written == 5


@pytest.mark.parametrize("gone", [True, False])
def test_references_that_are_younger_than_a_listing_stay(
    place: tuple[Path, Path, Path], *, gone: bool
) -> None:
    """Commits of others tell nothing of the source; the times of their references do."""
    source, target, listing = place
    other = target.with_name("others")
    rows = [
        row | {"last_modified": EARLIER - timedelta(days=1)}
        for row in rows_of(LocalStore(source))
        if not (gone and row["key"].endswith("a/c/3"))
    ]
    pq.write_table(plain_table(rows), listing)
    os.utime(listing, (EARLIER.timestamp(), EARLIER.timestamp()))
    options: dict[str, Any] = {"listing": listing, "no_read_check": True}
    refreeze.ingest(source, other, **options)
    repository = local_repository(other)
    session = repository.writable_session("main")
    session.store.set_virtual_ref(
        "a/c/3",
        f"file://{source}/a/c/3",
        offset=0,
        length=(source / "a/c/3").stat().st_size,
        checksum=datetime.now(UTC),
        validate_container=False,
    )
    session.commit("somebody else's")
    before = tip(other)
    with pytest.raises(ListingError, match=r"chunk \[3\] of array /a is referenced as of"):
        refreeze.sync(source, other, **options)
    assert tip(other) == before
    assert icechunk.Repository.open(icechunk.local_filesystem_storage(str(other)))
