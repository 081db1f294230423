"""Sources given by the address of a web server."""

from __future__ import annotations

import shlex

import numpy as np
import pytest
import zarr

import refreeze
from bucket_server import Bucket, running
from refreeze.exceptions import ListingError
from refreeze.stores.resolve import NotInThisVersionError


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


def test_a_server_that_does_not(tmp_path):
    """Any other web server is said to be for a later version; no secret of its URL is shown."""
    with running(Bucket()) as bucket:
        bucket.answers = lambda _: (404, {}, b"nothing here")
        url = bucket.url.replace("http://", "http://user:secret-0123@")
        with pytest.raises(NotInThisVersionError) as failure:
            refreeze.ingest(f"{url}/bucket/air.zarr", str(tmp_path / "target"))
    assert "secret" not in str(failure.value)
