"""Storage and repositories of the icechunk package as targets."""

from __future__ import annotations

import datetime as dt
import os

import icechunk
import numpy as np
import obstore
import pytest
import zarr

import refreeze
from bucket_server import Bucket, running
from refreeze.exceptions import AccessError, TargetError, TargetNotFoundError
from refreeze.stores.resolve import resolve_target

CALLS: list[str] = []


@pytest.fixture
def source(tmp_path):
    """Write a folder with one array."""
    path = tmp_path / "source.zarr"
    root = zarr.open_group(path, mode="w")
    array = root.create_array("air", shape=(6, 4), chunks=(2, 2), dtype="i4")
    array[:] = np.arange(24).reshape(6, 4)
    return str(path)


@pytest.fixture
def bucket(s3_bucket, monkeypatch):
    """Return a server and the settings of storage there; its keys are in variables of our own."""
    server, name = s3_bucket
    for variable in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("FETCHED_ID", server.access_key_id)
    monkeypatch.setenv("FETCHED_KEY", server.secret_access_key)
    CALLS.clear()
    settings = {
        "bucket": name,
        "region": server.region,
        "endpoint_url": server.endpoint,
        "allow_http": True,
    }
    return server, settings


def keys(server):
    """Return static credentials by the names of icechunk's arguments."""
    return {
        "access_key_id": server.access_key_id,
        "secret_access_key": server.secret_access_key,
    }


def fetch():
    """Give credentials and count the calls."""
    CALLS.append("fetch")
    return icechunk.S3StaticCredentials(
        access_key_id=os.environ["FETCHED_ID"],
        secret_access_key=os.environ["FETCHED_KEY"],
        expires_after=dt.datetime.now(dt.UTC) + dt.timedelta(seconds=5),
    )


def fail():
    """Fail as a call-back of a user may."""
    raise RuntimeError("the vault is closed")


def static(server, settings):
    return icechunk.s3_storage(prefix="static", force_path_style=True, **keys(server), **settings)


def environment(server, settings):
    os.environ["AWS_ACCESS_KEY_ID"] = server.access_key_id
    os.environ["AWS_SECRET_ACCESS_KEY"] = server.secret_access_key
    return icechunk.s3_storage(prefix="env", force_path_style=True, from_env=True, **settings)


def refreshable(server, settings):
    return icechunk.s3_storage(
        prefix="fetched", force_path_style=True, get_credentials=fetch, **settings
    )


def r2(server, settings):
    return icechunk.r2_storage(prefix="r2/in/depth", **keys(server), **settings)


def tigris(server, settings):
    # Tigris is addressed by the bucket's name before the host, which an IP address cannot have.
    return icechunk.tigris_storage(prefix="tigris", **keys(server), **settings)


def headers(server, settings):
    return icechunk.s3_storage(
        prefix="headers",
        force_path_style=True,
        read_headers={"X-Reads": "a"},
        write_headers={"X-Writes": "b"},
        **keys(server),
        **settings,
    )


def object_store(server, settings):
    config = {name: value for name, value in settings.items() if name != "bucket"}
    return icechunk.Storage.new_s3_object_store(
        icechunk.S3Options(force_path_style=True, **config),
        settings["bucket"],
        "object-store",
        icechunk.s3_static_credentials(**keys(server)),
    )


MAKERS = [static, environment, refreshable, r2, tigris, headers, object_store]


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_storage_of_every_function(bucket, source, make, monkeypatch):
    """An ingest into a storage can be read from the same storage, and made again as a repository."""
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "to be undone")
        monkeypatch.delenv(variable)
    storage = make(*bucket)
    report = refreeze.ingest(source, storage)
    assert report.published
    assert report.references_written == 6
    repository = icechunk.Repository.open(storage)
    assert repository.lookup_branch("main") == report.snapshot_id
    again = refreeze.ingest(source, storage, mode="overwrite")
    assert again.published


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_a_repository_sees_what_was_ingested(bucket, source, make, monkeypatch):
    """The very object that was handed over sees the new snapshot."""
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "to be undone")
        monkeypatch.delenv(variable)
    repository = icechunk.Repository.create(make(*bucket))
    report = refreeze.ingest(source, repository)
    assert repository.lookup_branch("main") == report.snapshot_id
    root = zarr.open_group(repository.readonly_session("main").store, mode="r")
    assert root["air"].shape == (6, 4)


def test_a_call_back_is_called_again(bucket, source):
    """Credentials that end within a minute are asked for anew; the call-back runs in refreeze."""
    storage = refreshable(*bucket)
    repository = icechunk.Repository.create(storage)
    before = len(CALLS)
    refreeze.ingest(source, repository)
    assert len(CALLS) > before + 1


def test_the_error_of_a_call_back_is_shown(bucket, source):
    """A call-back that fails is an AccessError with its own words."""
    _, settings = bucket
    storage = icechunk.s3_storage(
        prefix="fails", force_path_style=True, get_credentials=fail, **settings
    )
    with pytest.raises(AccessError, match="vault is closed"):
        refreeze.ingest(source, storage)


def test_wrong_credentials_of_a_repository(bucket):
    """Refused credentials are an AccessError that shows none of them."""
    _, settings = bucket
    storage = icechunk.s3_storage(
        prefix="wrong",
        force_path_style=True,
        access_key_id="wrong-id",
        secret_access_key="wrong-secret-key",
        **settings,
    )
    with pytest.raises(AccessError) as failure:
        resolve_target(storage, create=True)
    assert "wrong-secret-key" not in str(failure.value)


def test_nothing_is_created_by_a_look(bucket):
    """`status` of a storage without a repository creates none."""
    server, settings = bucket
    storage = static(server, settings)
    with pytest.raises(TargetNotFoundError):
        refreeze.status(storage)
    assert obstore.list(server.store(settings["bucket"])).collect() == []


def test_google_and_azure_storage_is_understood():
    """Their settings, call-backs included, become Icechunk's own clients."""
    from refreeze.stores.icechunk_storage import _url_form

    assert _url_form("GCS", {"bucket": "b", "prefix": "p/"})[0] == "gs://b/p"
    url, options = _url_form("Azure", {"container": "c", "prefix": "p", "account": "acc"})
    assert (url, options) == ("az://c/p", "{'account_name': 'acc'}")


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        (icechunk.in_memory_storage, "s3://bucket/prefix"),
        (lambda: icechunk.http_storage("http://127.0.0.1:9/x"), "only be read"),
    ],
)
def test_storage_that_cannot_be_a_target(source, storage, words):
    """It is a TypeError that says what to give instead."""
    with pytest.raises(TypeError, match=words):
        refreeze.ingest(source, storage())


def test_another_minor_version(source, bucket, monkeypatch):
    """Its state has another layout: a TypeError with the URL and options, and nothing is created."""
    server, settings = bucket
    storage = static(server, settings)
    monkeypatch.setattr(icechunk, "__version__", "2.4.0")
    with pytest.raises(TypeError) as failure:
        refreeze.ingest(source, storage)
    assert f"s3://{settings['bucket']}/static" in str(failure.value)
    assert server.endpoint in str(failure.value)
    assert obstore.list(server.store(settings["bucket"])).collect() == []


def test_an_unknown_layout(source, bucket, monkeypatch):
    """A state that says something else is a TypeError with the URL form."""
    from refreeze.stores import icechunk_storage

    server, settings = bucket
    repository = icechunk.Repository.create(static(server, settings))
    taken = icechunk_storage.take_over(repository, create=False)
    broken = taken.state.replace(b"S3Storage", b"S4Storage")
    state = icechunk_storage.State(taken.url, broken, fresh=False)
    monkeypatch.setattr(icechunk_storage, "take_over", lambda *_, **__: state)
    with pytest.raises(TypeError, match=r"S4Storage.*s3://.*target_options"):
        refreeze.ingest(source, repository)


def test_conditional_writes_are_tried(source):
    """A server that ignores conditions is refused for a new storage, which leaves nothing there."""
    with running(Bucket()) as bucket:
        bucket.ignored = {"If-None-Match", "If-Match"}
        storage = icechunk.s3_storage(
            bucket="bucket",
            prefix="unsafe",
            region="us-east-1",
            endpoint_url=bucket.url,
            allow_http=True,
            force_path_style=True,
            access_key_id="x",
            secret_access_key="y",
        )
        for _ in range(2):
            with pytest.raises(TargetError, match="not safe as a target"):
                refreeze.ingest(source, storage)
            assert bucket.objects == {}
        assert refreeze.ingest(source, storage, unsafe_target=True).published


def test_anonymous_storage(source):
    """Nothing is signed, in the storage's client nor in refreeze's."""
    with running(Bucket()) as bucket:
        storage = icechunk.s3_storage(
            bucket="bucket",
            prefix="open",
            region="us-east-1",
            endpoint_url=bucket.url,
            allow_http=True,
            force_path_style=True,
            anonymous=True,
        )
        report = refreeze.ingest(source, storage)
        assert icechunk.Repository.open(storage).lookup_branch("main") == report.snapshot_id
        assert bucket.requests
        assert not [one for one in bucket.requests if "authorization" in one.headers]
