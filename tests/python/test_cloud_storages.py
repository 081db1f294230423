"""`icechunk.gcs_storage` and `azure_storage` as targets, on the synthetic endpoint: every kind of credentials."""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
from typing import TYPE_CHECKING, Any

import icechunk
import numpy as np
import pytest
import zarr

import refreeze
from endpoint import BUCKET, array
from refreeze.exceptions import AccessError, TargetError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from endpoint import Endpoint

    Serve = Callable[..., Endpoint]

CALLS: list[str] = []
KEY = base64.b64encode(b"an account's key that is hidden").decode()
ACCOUNT_KEY = {
    "disable_oauth": True,
    "client_email": "",
    "private_key": "hidden",
    "private_key_id": "",
}
"""Of a service account; the endpoint's address is added."""


@pytest.fixture
def source(tmp_path: Path) -> str:
    """Write a folder with one array."""
    path = tmp_path / "source.zarr"
    root = zarr.open_group(path, mode="w")
    root.create_array("air", shape=(6, 4), chunks=(2, 2), dtype="i4")[:] = np.ones((6, 4))
    return str(path)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the environment says who asks."""
    for name in [name for name in os.environ if name.startswith(("GOOGLE_", "AZURE_"))]:
        monkeypatch.delenv(name)
    CALLS.clear()


def fetch() -> icechunk.GcsBearerCredential:
    """Give a token that ends within a minute, and count the calls."""
    CALLS.append("fetch")
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=5)
    return icechunk.GcsBearerCredential("hidden-and-fetched", expires_after=soon)


def fail() -> icechunk.GcsBearerCredential:
    """Fail as a call-back of a user may."""
    raise RuntimeError("the vault is closed")


def google(endpoint: Endpoint, **credentials: Any) -> icechunk.Storage:
    config = {"google_base_url": endpoint.url, "allow_http": "true"}
    return icechunk.gcs_storage(bucket=BUCKET, prefix="repo", config=config, **credentials)


def azure(endpoint: Endpoint, **credentials: Any) -> icechunk.Storage:
    config = {"azure_storage_endpoint": endpoint.url, "allow_http": "true"}
    return icechunk.azure_storage(
        account="account", container=BUCKET, prefix="repo", config=config, **credentials
    )


def google_key(endpoint: Endpoint) -> icechunk.Storage:
    key = json.dumps(ACCOUNT_KEY | {"gcs_base_url": endpoint.url})
    return google(endpoint, service_account_key=key)


def google_environment(endpoint: Endpoint) -> icechunk.Storage:
    os.environ["GOOGLE_SERVICE_ACCOUNT_KEY"] = json.dumps(
        ACCOUNT_KEY | {"gcs_base_url": endpoint.url}
    )
    return google(endpoint, from_env=True)


def azure_environment(endpoint: Endpoint) -> icechunk.Storage:
    os.environ["AZURE_STORAGE_ACCOUNT_KEY"] = KEY
    return azure(endpoint, from_env=True)


MAKERS: dict[str, Callable[[Endpoint], icechunk.Storage]] = {
    "google, bearer": lambda endpoint: google(endpoint, bearer_token="hidden-bearer"),
    "google, key": google_key,
    "google, environment": google_environment,
    "google, refreshable": lambda endpoint: google(endpoint, get_credentials=fetch, from_env=False),
    "azure, key": lambda endpoint: azure(endpoint, access_key=KEY),
    "azure, signature": lambda endpoint: azure(endpoint, sas_token="sv=2024&sig=hidden"),
    "azure, bearer": lambda endpoint: azure(endpoint, bearer_token="hidden-bearer"),
    "azure, environment": azure_environment,
    "azure, anonymous": lambda endpoint: azure(endpoint, anonymous=True),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_storage_and_repository(
    serve: Serve, source: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is ingested into a storage is seen through it, and through a repository that was open before."""
    for variable in ("GOOGLE_SERVICE_ACCOUNT_KEY", "AZURE_STORAGE_ACCOUNT_KEY"):
        monkeypatch.setenv(variable, "to be undone")
        monkeypatch.delenv(variable)
    endpoint = serve(array("air", 2, 2))
    storage = MAKERS[kind](endpoint)
    report = refreeze.ingest(source, storage)
    assert (report.published, report.references_written) == (True, 6)
    assert "hidden" not in json.dumps(report.to_dict())
    repository = icechunk.Repository.open(storage)
    assert repository.lookup_branch("main") == report.snapshot_id
    before = len(CALLS)
    again = refreeze.ingest(source, repository, mode="overwrite")
    assert again.published
    assert repository.lookup_branch("main") == again.snapshot_id
    assert zarr.open_group(repository.readonly_session("main").store, mode="r")["air"].shape == (
        6,
        4,
    )
    assert (len(CALLS) > before) == ("refreshable" in kind)


@pytest.mark.parametrize("kind", ["google, bearer", "azure, key"])
def test_conditional_writes_are_tried(serve: Serve, source: str, kind: str) -> None:
    """A service that ignores conditions is refused for a new storage, which leaves nothing there."""
    endpoint = serve(faults={"ignore_write_conditions": True})
    storage = MAKERS[kind](endpoint)
    with pytest.raises(TargetError, match="not safe as a target"):
        refreeze.ingest(source, storage)
    assert not icechunk.Repository.exists(storage)
    assert refreeze.ingest(source, storage, unsafe_target=True).published


def test_the_error_of_a_call_back_is_shown(serve: Serve, source: str) -> None:
    """A call-back that fails is an AccessError with its own words."""
    storage = google(serve(), get_credentials=fail, from_env=False)
    with pytest.raises(AccessError, match="vault is closed"):
        refreeze.ingest(source, storage)


@pytest.mark.parametrize("kind", ["google, bearer", "azure, signature"])
def test_another_minor_version(
    serve: Serve, source: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A TypeError shows the URL form, without a secret; nothing is created."""
    storage = MAKERS[kind](serve())
    monkeypatch.setattr(icechunk, "__version__", "2.4.0")
    with pytest.raises(TypeError, match=r"(gs|az)://bucket/repo.*target_options") as failed:
        refreeze.ingest(source, storage)
    assert "hidden" not in str(failed.value)
    monkeypatch.undo()
    assert not icechunk.Repository.exists(storage)
