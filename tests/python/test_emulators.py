"""Google Cloud Storage and Azure as emulators of other people answer: moto (XML), fake-gcs-server (JSON), azurite."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from obstore.store import AzureStore, GCSStore

import refreeze
from fake_gcs import FakeGcs, fake_gcs
from refreeze.cli.snippet import opening_lines
from refreeze.exceptions import ListingError, TargetError
from s3_server import free_port, servers_required

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of azurite, in its documentation."""
ACCOUNT = "devstoreaccount1"
AZURITE = Path(__file__).resolve().parents[2] / ".tools/azurite/node_modules/.bin/azurite-blob"
KINDS = ("last-modified", "etag", "none")


@contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(600):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            yield
        finally:
            process.kill()


@pytest.fixture(scope="module")
def google() -> Iterator[dict[str, str]]:
    """Give the settings of a bucket of moto's, with a store of 1,500 chunks."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with _running([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT")).close()  # noqa: S310
        settings = {"base_url": url, "bearer_token": "any-bearer", "allow_http": "true"}
        _fill(_google_store(settings), 1500)
        yield settings


def _google_store(settings: dict[str, str]) -> GCSStore:
    config: Any = {name: settings[name] for name in ("base_url", "bearer_token")}
    return GCSStore("bucket", config=config, client_options={"allow_http": True})


@pytest.fixture(scope="module")
def azure() -> Iterator[dict[str, str]]:
    """Give the settings of a container of azurite's, with a store of 6,500 chunks."""
    if not AZURITE.exists():
        if servers_required() and shutil.which("npm"):
            pytest.fail("azurite is required (REFREEZE_REQUIRE_SERVERS) but missing: make servers")
        pytest.skip("azurite is not installed: make servers, with npm")
    port = free_port()
    command = [str(AZURITE), "--silent", "--skipApiVersionCheck", "--inMemoryPersistence"]
    command += ["--disableTelemetry", "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    with _running(command, port):
        settings = {
            "account_name": ACCOUNT,
            "account_key": KEY,
            "endpoint": f"http://127.0.0.1:{port}/{ACCOUNT}",
            "allow_http": "true",
        }
        _create_container(settings["endpoint"], "bucket")
        _fill(_azure_store(settings), 6500)
        yield settings


def _azure_store(settings: dict[str, str]) -> AzureStore:
    config: Any = {
        f"azure_storage_{name}": value for name, value in settings.items() if name != "allow_http"
    }
    return AzureStore("bucket", config=config, client_options={"allow_http": True})


def _create_container(endpoint: str, name: str) -> None:
    """Create a container, which obstore does not; signed with the account's key."""
    date = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    resource = f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    text = f"PUT{chr(10) * 12}x-ms-date:{date}\nx-ms-version:2023-11-03\n{resource}"
    signed = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    headers = {
        "x-ms-date": date,
        "x-ms-version": "2023-11-03",
        "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(signed).decode()}",
    }
    url = f"{endpoint}/{name}?restype=container"
    urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=headers)).close()  # noqa: S310


def _fill(store: Any, chunks: int) -> None:
    _write(zarr.storage.ObjectStore(store), chunks)


def _write(store: Any, chunks: int) -> None:
    array = zarr.create_array(
        store, name="s/air", shape=(chunks,), chunks=(1,), dtype="i2",
        compressors=None, dimension_names=("x",),
    )  # fmt: skip
    array[:] = np.arange(1, chunks + 1)


@pytest.mark.parametrize("checksum", KINDS)
def test_moto_is_listed_by_xml_and_read_through_icechunk(
    google: dict[str, str], checksum: str, tmp_path: Path
) -> None:
    """The read check of an ingest reads through Icechunk's own client."""
    report = refreeze.ingest(
        "gs://bucket/s", tmp_path / "r", checksum=checksum, source_options=google
    )
    assert (report.references_written, report.list_requests) == (1500, 2)
    assert report.warnings == ()


def test_moto_is_refused_as_a_target(google: dict[str, str]) -> None:
    """It takes every conditional write, so that commits would be lost."""
    options: Any = {"source_options": google, "target_options": google}
    with pytest.raises(TargetError, match="is not safe as a target"):
        refreeze.ingest("gs://bucket/s", "gs://bucket/repository", **options)


@pytest.fixture(scope="module")
def google_by_json(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGcs]:
    """Give a bucket of fake-gcs-server's, with a store of 6,500 chunks."""
    folder = tmp_path_factory.mktemp("google")
    _write(zarr.storage.LocalStore(folder / "contents"), 6500)
    with fake_gcs(folder / "contents", folder) as server:
        yield server


def test_fake_gcs_is_listed_by_json(google_by_json: FakeGcs) -> None:
    """Pages of 5,000, in a chain and from keys that were computed."""
    google_by_json.reset()
    stream = refreeze.list_chunks(google_by_json.store, "s/air", concurrency=1)
    assert sum(batch.num_rows for batch in stream) == 6500
    assert (google_by_json.lists(), stream.stats.warnings) == (2, ())
    region: Any = {"x": slice(100, 6000)}
    part = refreeze.list_chunks(google_by_json.store, "s/air", region=region, concurrency=8)
    assert sum(batch.num_rows for batch in part) == 5900
    assert (google_by_json.lists(), part.stats.warnings) == (2 + part.stats.list_requests, ())


def test_fake_gcs_holds_readers_to_nothing(google_by_json: FakeGcs, tmp_path: Path) -> None:
    """It ignores both conditions, which is said; without a checksum its chunks are referenced and read."""
    options: Any = {"source_options": google_by_json.options}
    for checksum, condition in (("last-modified", "If-Unmodified-Since"), ("etag", "If-Match")):
        with pytest.raises(ListingError, match=f"ignores {condition}") as refused:
            refreeze.ingest("gs://bucket/s", tmp_path / "r", checksum=checksum, **options)
        assert "--checksum none" in str(refused.value.hint)
    report = refreeze.ingest("gs://bucket/s", tmp_path / "t", checksum="none", **options)
    assert (report.references_written, report.warnings) == (6500, ())
    names: dict[str, Any] = {}
    exec(opening_lines(report, **options), names)  # noqa: S102 (this is what the lines are for)
    np.testing.assert_array_equal(names["ds"]["air"][:5], np.arange(1, 6))


def test_fake_gcs_is_refused_as_a_target(google_by_json: FakeGcs, tmp_path: Path) -> None:
    """It knows no PUT; nothing but the probe is asked."""
    _write(zarr.storage.LocalStore(tmp_path), 3)
    with pytest.raises(TargetError, match="cannot write to"):
        refreeze.ingest(
            tmp_path / "s", "gs://bucket/repository", target_options=google_by_json.options
        )


def test_azurite_is_listed_in_as_many_pages_as_it_has(azure: dict[str, str]) -> None:
    """Requests from a start are signed again with the newer version, and honoured."""
    store = _azure_store(azure)
    stream = refreeze.list_chunks(store, "s/air", concurrency=1)
    assert sum(batch.num_rows for batch in stream) == 6500
    assert (stream.stats.list_requests, stream.stats.warnings) == (2, ())
    region: Any = {"x": slice(100, 6000)}
    part = refreeze.list_chunks(store, "s/air", region=region, concurrency=8)
    assert sum(batch.num_rows for batch in part) == 5900
    assert part.stats.warnings == ()


@pytest.mark.parametrize("checksum", KINDS)
def test_azurite_holds_readers_to_the_checksum(
    azure: dict[str, str], checksum: str, tmp_path: Path
) -> None:
    """Both conditions are honoured there."""
    report = refreeze.ingest(
        "az://bucket/s", tmp_path / "r", checksum=checksum, source_options=azure
    )
    assert (report.references_written, report.warnings) == (6500, ())


def test_azurite_is_a_target(azure: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its conditional writes pass the probe; the printed lines open what is in it."""
    options: Any = {"source_options": azure, "target_options": azure}
    report = refreeze.ingest("az://bucket/s", "az://bucket/repository", **options)
    again = refreeze.ingest("az://bucket/s", "az://bucket/repository", **options)
    assert (report.references_written, again.already_published) == (6500, True)
    monkeypatch.setitem(os.environ, "AZURE_STORAGE_ACCOUNT_KEY", KEY)
    code = opening_lines(report, **options)
    assert KEY not in code
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 (this is what the lines are for)
    np.testing.assert_array_equal(names["ds"]["air"], np.arange(1, 6501))
