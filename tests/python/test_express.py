"""Directory buckets of S3 Express, as a model of them answers: listed, ingested, read back, compared."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from obstore.store import S3Store

import refreeze
from endpoint import array
from express_server import DIRECTORY_BUCKET, express
from refreeze import _refreeze
from refreeze.metadata.selection import read_array
from refreeze.stores.resolve import resolve_source, store_source
from refreeze.verbs.list_chunks import open_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bucket_server import Bucket
    from endpoint import Endpoint

URL = f"s3://{DIRECTORY_BUCKET}/s"


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    """Serve an empty directory bucket."""
    with express() as bucket:
        yield bucket


def _store(bucket: Bucket) -> S3Store:
    return S3Store(
        DIRECTORY_BUCKET,
        endpoint=bucket.url,
        region="us-east-1",
        skip_signature=True,
        client_options={"allow_http": True},
    )


@pytest.mark.parametrize("separator", [".", "/"])
def test_listed_by_folders_or_in_one_go(bucket: Bucket, separator: str) -> None:
    """Regression: keys with dots were asked for below prefixes that Express refuses."""
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [4, 5000],
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 1]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": separator}},
        "fill_value": 0,
        "attributes": {},
        "codecs": [{"name": "bytes"}],
    }
    bucket.objects["air/zarr.json"] = json.dumps(document).encode()
    for y in range(4):
        for x in range(5000):
            bucket.objects[f"air/c{separator}{y}{separator}{x}"] = b"1"
    stream = refreeze.list_chunks(_store(bucket), "air", concurrency=4)
    assert sum(batch.num_rows for batch in stream) == 20_000
    asked = sum(request.is_list for request in bucket.requests)
    assert asked == stream.stats.list_requests <= 21
    region: Any = {"dim_0": slice(2, 3)}
    again = refreeze.list_chunks(_store(bucket), "air", region=region, concurrency=4)
    assert sum(batch.num_rows for batch in again) == 5000


@pytest.mark.parametrize("separator", [".", "/"])
def test_ingested_and_compared(bucket: Bucket, separator: str, tmp_path: Path) -> None:
    """The bucket's name says what it is; the read check is our own request.

    Icechunk's object_store client knows nothing of sessions: the service would refuse it.
    """
    source = tmp_path / "s"
    root = zarr.open_group(source, mode="w")
    air = root.create_array(
        "air",
        shape=(8, 9),
        chunks=(2, 2),
        dtype="i4",
        chunk_key_encoding={"name": "default", "separator": separator},
        dimension_names=("y", "x"),
    )
    air[:] = np.arange(1, 73).reshape(8, 9)
    bucket.upload(source, "s")
    options = {
        "endpoint": bucket.url,
        "region": "us-east-1",
        "allow_http": "true",
        "skip_signature": "true",
    }
    plan = refreeze.plan(URL, source_options=options)
    assert plan.arrays[0].strategy == "token-pages"
    report = refreeze.ingest(URL, tmp_path / "target", source_options=options)
    assert (report.references_written, report.published) == (20, True)
    found = refreeze.verify(URL, tmp_path / "target", source_options=options, sample=5)
    assert (found.equal, found.checked, found.sampled) == (True, 20, 5)
    del bucket.objects[f"s/air/c{separator}0{separator}0"]
    changed = refreeze.sync(URL, tmp_path / "target", source_options=options)
    assert (changed.added, changed.changed, changed.removed) == (0, 0, 1)


def test_no_start_once_disorder_is_known(serve: Callable[..., Endpoint]) -> None:
    """A server that turns out to list in no order is not asked for a start again, for another array."""
    endpoint = serve(array("a", 30, 100), array("b", 30, 100), page_size=500)
    endpoint.set(log=True)
    endpoint.fail(order="shuffled")
    source = store_source(endpoint.store(), "")
    opened = replace(source, store=_refreeze.open_source(source.store, source.path))
    starts = []
    for name in "ab":
        spec = read_array(store_source(endpoint.store(), name))
        endpoint.reset()
        stream = open_stream(
            opened,
            replace(spec, path=f"/{name}", source_path=name),
            region={"dim_0": slice(10, 20)},
            paths=False,
            flat=False,
            concurrency=4,
        )
        assert sum(batch.num_rows for batch in stream) == 1000
        starts.append([request for request in endpoint.log() if request.get("start_after")])
    assert starts[0]
    assert not starts[1]


def test_its_zone_has_an_endpoint_of_its_own() -> None:
    """Without an endpoint, object_store finds it, and asks for a session, when it is told what the bucket is."""
    store = resolve_source(URL, {"region": "us-east-1", "skip_signature": "true"}).store
    assert store.config["s3_express"] == "true"
    store = resolve_source("s3://data/s", {"region": "us-east-1"}).store
    assert "s3_express" not in store.config
