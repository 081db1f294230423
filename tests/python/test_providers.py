"""Credential providers of obstore stores that are handed over: synchronous, asynchronous, failing."""

from __future__ import annotations

import asyncio
import datetime as dt

import numpy as np
import pytest
import zarr
from obstore.store import AzureStore, GCSStore, S3Store

import refreeze
from bucket_server import Bucket, running
from endpoint import array
from refreeze.exceptions import AccessError


@pytest.fixture
def bucket(tmp_path):
    """Serve a bucket with one array."""
    source = tmp_path / "source.zarr"
    root = zarr.open_group(source, mode="w")
    root.create_array("air", shape=(6, 4), chunks=(2, 2), dtype="i4")[:] = np.ones((6, 4))
    with running(Bucket()) as bucket:
        bucket.upload(source, "air.zarr")
        yield bucket


def store(bucket, provider):
    """Return the bucket as a store with a credential provider."""
    return S3Store(
        "bucket",
        endpoint=bucket.url,
        region="x",
        client_options={"allow_http": True},
        credential_provider=provider,
    )


def given(number=0, lasts=None):
    """Return what a provider gives."""
    ends = None if lasts is None else dt.datetime.now(dt.UTC) + dt.timedelta(seconds=lasts)
    return {
        "access_key_id": f"id-of-call-{number}",
        "secret_access_key": "key-0123456789",
        "token": None,
        "expires_at": ends,
    }


def test_an_asynchronous_provider(bucket, tmp_path):
    """Regression: it failed for want of a running event loop; metadata and chunks are read with it."""
    calls = []

    async def provider():
        await asyncio.sleep(0)
        calls.append(asyncio.get_running_loop())
        return given(len(calls))

    report = refreeze.ingest((store(bucket, provider), "air.zarr"), str(tmp_path / "target"))
    assert report.references_written == 6
    assert calls
    assert len(set(map(id, calls))) == 1
    assert any("id-of-call" in request.headers["authorization"] for request in bucket.requests)


def test_a_provider_within_an_event_loop(bucket):
    """It is called from a program that runs a loop of its own, too."""

    async def provider():
        return given()

    async def program():
        return len(list(refreeze.list_chunks(store(bucket, provider), "air.zarr/air")))

    assert asyncio.run(program()) == 1


def test_credentials_that_end(bucket):
    """Credentials about to end are asked for again."""
    calls = []

    async def provider():
        calls.append(1)
        return given(len(calls), lasts=1)

    for _ in range(2):
        list(refreeze.list_chunks(store(bucket, provider), "air.zarr/air"))
    assert len(calls) > 1


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_provider_that_fails(bucket, asynchronous):
    """Its error is shown."""

    def fails():
        raise RuntimeError("the vault is closed")

    async def fails_later():
        fails()

    provider = fails_later if asynchronous else fails
    with pytest.raises(AccessError, match="vault is closed"):
        list(refreeze.list_chunks(store(bucket, provider), "air.zarr/air"))


def cloud_store(endpoint, scheme, provider):
    """Return the synthetic endpoint as Google Cloud Storage or Azure, with a credential provider."""
    client = {"allow_http": True}
    if scheme == "gs":
        config = {"base_url": endpoint.url}
        return GCSStore(
            "bucket", config=config, client_options=client, credential_provider=provider
        )
    config = {"azure_storage_endpoint": endpoint.url, "azure_storage_account_name": "account"}
    return AzureStore("bucket", config=config, client_options=client, credential_provider=provider)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_providers_of_google_and_azure(serve, scheme, asynchronous, tmp_path):
    """They are called, called again before their tokens end, and an ingest reads back with them."""
    endpoint = serve(array("air", 3, 4), page_size=5000)
    calls = []

    def provider():
        calls.append(1)
        ends = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)
        return {"token": f"token-of-call-{len(calls)}", "expires_at": ends}

    async def provider_later():
        await asyncio.sleep(0)
        return provider()

    store = cloud_store(endpoint, scheme, provider_later if asynchronous else provider)
    report = refreeze.ingest((store, ""), tmp_path / "target")
    assert report.references_written == 12
    before = len(calls)
    assert before > 1
    assert sum(batch.num_rows for batch in refreeze.list_chunks(store, "air")) == 12
    assert len(calls) > before


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_a_provider_of_google_or_azure_that_fails(serve, scheme, asynchronous):
    """Its error is shown."""

    def fails():
        raise RuntimeError("the vault is closed")

    async def fails_later():
        fails()

    store = cloud_store(serve(array("air", 3, 4)), scheme, fails_later if asynchronous else fails)
    with pytest.raises(AccessError, match="vault is closed"):
        list(refreeze.list_chunks(store, "air"))
