"""What every kind of store must do alike: listings to the key, references that are read, changes that are noticed.

One array of 1,200 chunks, of which one is missing, with a stray key beside them. Requests are
counted where there is a server. Emulators of other people are in `test_emulators`.
"""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Any

import icechunk
import obstore
import pytest
from obspec_utils.registry import ObjectStoreRegistry

import refreeze
from every_store import CHUNKS, KINDS, PAGES, VALUES, Given, store_of
from refreeze.cli.snippet import opening_lines
from refreeze.exceptions import ListingError, TargetError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module", params=KINDS)
def given(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Given]:
    """Serve one store of each kind for all tests that only read it."""
    with store_of(request.param, tmp_path_factory.mktemp("store")) as given:
        yield given


def _within(given: Given, chunks: int, runs: int = 1) -> int:
    """Return how many LIST requests so many chunks may take."""
    page = PAGES.get(given.kind, 10**9)
    return -(-chunks // page) + runs + 3


def test_the_whole_array(given: Given) -> None:
    """Each chunk once, with its size and time; the stray is counted; requests are those of the stats."""
    given.reset()
    stream = refreeze.list_chunks(given.store, "s/air", paths=True)
    found = {}
    for batch in stream:
        columns = [batch.column(name).to_pylist() for name in ("path", "chunk", "size")]
        for path, chunk, size in zip(*columns, strict=True):
            assert path == f"s/air/c/{chunk[0]}/{chunk[1]}"
            assert (path in found, size) == (False, 2)
            found[path] = chunk
    assert len(found) == CHUNKS
    assert stream.stats.foreign_keys == 1
    if given.counted:
        # The metadata document is not listed.
        assert given.counted() == stream.stats.list_requests <= _within(given, CHUNKS)


@pytest.mark.parametrize("region", [{"y": slice(3, 5)}, {"y": slice(10, 20), "x": slice(7, 9)}])
def test_a_region(given: Given, region: Any) -> None:
    """Only its chunks, and no more requests than the whole array."""
    given.reset()
    stream = refreeze.list_chunks(given.store, "s/air", region=region)
    found = {tuple(chunk) for batch in stream for chunk in batch.column("chunk").to_pylist()}
    rows, columns = (
        range(length)[region.get(name, slice(None))] for name, length in (("y", 24), ("x", 50))
    )
    assert found == {(y, x) for y in rows for x in columns}
    if given.counted and given.kind != "express":
        assert given.counted() <= _within(given, CHUNKS)


def test_the_parser(given: Given) -> None:
    """VirtualiZarr's references are the same from every store."""
    registry = ObjectStoreRegistry({"memory://given": given.store})
    parser = refreeze.ZarrParser(region={"y": slice(10, 20)})
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        store = parser("memory://given/s", registry)
    assert len(store._group.arrays["air"].manifest.dict()) == 500


def test_planned_ingested_and_compared(given: Given, tmp_path: Path) -> None:
    """References are read through Icechunk or our own client, and equal to a fresh listing."""
    options: Any = {"source_options": given.options} if given.options else {}
    if given.checksum == "none":
        with pytest.raises(ListingError, match="ignores If-Unmodified-Since"):
            refreeze.ingest(given.source, tmp_path / "target", **options)
    if given.kind in {"memory", "foreign"}:
        with pytest.raises(TargetError, match="cannot refer"):
            refreeze.ingest(given.source, tmp_path / "target")
        return
    plan = refreeze.plan(given.source, **options)
    given.reset()
    report = refreeze.ingest(given.source, tmp_path / "target", checksum=given.checksum, **options)
    assert (report.references_written, report.published) == (CHUNKS, True)
    if given.counted:
        # Folders are listed for metadata, too.
        assert given.counted() <= plan.totals.list_requests + 8
    # The ETags of the synthetic endpoint look like digests and are none.
    sample = 3 if given.kind in {"local", "express", "s3, all at once", "fake-gcs"} else 0
    found = refreeze.verify(given.source, tmp_path / "target", sample=sample, **options)
    assert (found.equal, found.checked, found.sampled) == (True, CHUNKS, sample)
    again = refreeze.sync(given.source, tmp_path / "target", **options)
    assert (again.added, again.changed, again.removed, again.snapshot_id) == (0, 0, 0, None)


@pytest.mark.parametrize(
    ("kind", "checksum"),
    [
        ("s3", "last-modified"),
        ("gs", "last-modified"),
        ("gs", "etag"),
        ("gs-xml", "etag"),
        ("az", "last-modified"),
        ("az", "etag"),
        ("local", "last-modified"),
        ("express", "etag"),
    ],
)
def test_a_changed_object_is_noticed(
    kind: str, checksum: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers are refused, and a sync refers to what is there now."""
    with store_of(kind, tmp_path, rows=10) as given:
        options: Any = {"source_options": given.options} if given.options else {}
        target = tmp_path / "target"
        report = refreeze.ingest(given.source, target, checksum=checksum, **options)
        if checksum == "last-modified":
            # Times are compared to the second, and a fraction that was listed is rounded up.
            time.sleep(2.1)
        obstore.put(given.store, "s/air/c/7/8", b"\1\2")
        if kind != "express":
            # Icechunk's client in Python asks S3 Express for a session at an address of Amazon's.
            monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", given.options.get("account_key", ""))
            names: dict[str, Any] = {}
            exec(opening_lines(report, **options), names)  # noqa: S102 (this is what the lines are for)
            assert names["ds"]["air"][7, 9] == VALUES[7, 9]
            with pytest.raises(icechunk.IcechunkError, match=r"virtual|changed"):
                names["ds"]["air"][7, 8].load()
        obstore.put(given.store, "s/air/c/9/49", VALUES[9, 49].tobytes())
        changed = refreeze.sync(given.source, target, **options)
        assert (changed.added, changed.changed, changed.removed) == (1, 1, 0)
        assert refreeze.verify(given.source, target, **options).equal
