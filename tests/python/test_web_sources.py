"""Sources given by the address of a web server."""

from __future__ import annotations

import shlex

import numpy as np
import pytest
import zarr

import refreeze
from bucket_server import Bucket, running
from refreeze.exceptions import ListingError, SourceNotFoundError
from scenarios import run


def test_a_server_that_lists_like_an_object_store(tmp_path):
    """It is found with one request for a listing, and the hint's settings work as they are."""
    source = tmp_path / "source.zarr"
    root = zarr.open_group(source, mode="w")
    root.create_array("air", shape=(6, 4), chunks=(2, 2), dtype="i4")[:] = np.ones((6, 4))
    with running(Bucket()) as bucket:
        bucket.upload(source, "air.zarr")
        with pytest.raises(ListingError, match="object store") as failure:
            refreeze.plan(f"{bucket.url}/bucket/air.zarr")
        (asked,) = bucket.requests
        assert asked.path == "/bucket?list-type=2&max-keys=1"
        assert "authorization" not in asked.headers
        words = shlex.split(failure.value.hint)
        url = next(word for word in words if word.startswith("s3://"))
        options = dict(word.split("=", 1) for word in words if "=" in word)
        assert options["skip_signature"] == "true"
        report = refreeze.ingest(url, str(tmp_path / "target"), source_options=options)
    assert report.references_written == 6


def test_it_is_used_as_one_with_yes(tmp_path):
    """`--yes` agrees; the report says in a line what was done."""
    source = tmp_path / "source.zarr"
    root = zarr.open_group(source, mode="w")
    air = root.create_array(
        "air", shape=(6, 4), chunks=(2, 2), dtype="i4", dimension_names=("time", "x")
    )
    air[:] = np.ones((6, 4))
    with running(Bucket()) as bucket:
        bucket.upload(source, "air.zarr")
        url = f"{bucket.url}/bucket/air.zarr"
        outcome = run("ingest", url, tmp_path / "target", "--yes", "--target-group", "g")
        assert outcome.code == 0, outcome.err
        assert "used as s3://bucket/air.zarr" in outcome.err
        assert not [one for one in bucket.requests if one.method == "HEAD" and "/c/" in one.path]
        names = {}
        exec(outcome.out.partition("Open it:\n")[2], names)  # noqa: S102 what the command prints
        assert zarr.open_array(names["session"].store, path="g/air", mode="r")[:].sum() == 24


def test_a_server_that_does_not(tmp_path):
    """On any other web server nothing is found where nothing is; no secret of the URL is shown."""
    with running(Bucket()) as bucket:
        bucket.answers = lambda _: (404, {}, b"nothing here")
        url = bucket.url.replace("http://", "http://user:secret-0123@")
        with pytest.raises(SourceNotFoundError) as failure:
            refreeze.ingest(f"{url}/bucket/air.zarr", str(tmp_path / "target"))
    assert "secret" not in str(failure.value)


def test_addresses_that_cannot_be_a_store(tmp_path):
    """A query, a fragment, no host, and options of other stores are refused by name."""
    for url, named in (
        ("http://127.0.0.1:9/air.zarr?token=abcdefgh", "query"),
        ("http://127.0.0.1:9/air.zarr#part", "fragment"),
        ("http:///air.zarr", "names no host"),
    ):
        with pytest.raises(ValueError, match=named) as failure:
            refreeze.ingest(url, str(tmp_path / "target"), probe=True)
        assert "abcdefgh" not in str(failure.value)
    for option in ("region", "header.no name", "header."):
        with pytest.raises(ValueError, match="source option"):
            refreeze.plan("http://127.0.0.1:9/a", source_options={option: "x"}, probe=True)


def test_nobody_answers(tmp_path):
    """A port that nobody listens to is an error within seconds, not after all retries."""
    with running(Bucket()) as bucket:
        url = f"{bucket.url}/bucket/air.zarr"
    with pytest.raises(ListingError, match="cannot read"):
        refreeze.ingest(url, str(tmp_path / "target"), probe=True)
