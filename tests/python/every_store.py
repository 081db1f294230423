"""One store of each kind that is a source, with the same array in it, and how its requests are counted.

What is expected of all of them is in `test_every_store`.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import obstore
import zarr
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, S3Store

from bucket_server import Bucket, running
from endpoint import run_endpoint
from express_server import DIRECTORY_BUCKET, express
from fake_gcs import fake_gcs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["CHUNKS", "KINDS", "VALUES", "Given", "store_of"]

VALUES = np.arange(1, 1201, dtype="i2").reshape(24, 50)
"""Of the array `s/air`, in chunks of one element, of which that at 9, 49 is missing."""

CHUNKS = VALUES.size - 1

PAGES = {"s3": 1000, "express": 1000, "gs": 1000, "gs-xml": 1000, "fake-gcs": 1000, "az": 5000}
"""Keys in a page of each service here, where pages are asked for."""


@dataclass(frozen=True)
class Given:
    """A store, by the object and by URL."""

    kind: str
    store: Any
    url: str | None
    """Of `s`; None for what has none."""
    options: dict[str, str] = field(default_factory=dict)
    counted: Callable[[], int] | None = None
    """LIST requests that the server has seen, where there is one."""
    reset: Callable[[], None] = lambda: None
    checksum: Any = "last-modified"
    """What readers can be held to here."""

    @property
    def source(self) -> Any:
        """What `ingest` takes, with `options`."""
        return self.url or (self.store, "s")


def _contents(folder: Path, rows: int) -> Path:
    root = folder / "given"
    group = zarr.open_group(root / "s", mode="w")
    air = group.create_array(
        "air", shape=(rows, 50), chunks=(1, 1), dtype="i2", compressors=None, fill_value=0,
        dimension_names=("y", "x"),
    )  # fmt: skip
    air[:] = VALUES[:rows]
    (root / "s/air/c/9/49").unlink()
    (root / "s/air/README").write_text("no chunk")
    return root


def _uploaded(root: Path, store: Any) -> Any:
    for file in sorted(root.rglob("*")):
        if file.is_file():
            obstore.put(store, str(file.relative_to(root)), file.read_bytes())
    return store


class ListedElsewhere:
    """A store of somebody's own around obstore's."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def list(self, prefix: str | None = None) -> Any:
        return obstore.list(self._store, prefix)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@contextmanager
def _s3(root: Path) -> Iterator[Given]:
    with run_endpoint() as endpoint:
        _uploaded(root, endpoint.store())
        yield Given(
            "s3", endpoint.store(), "s3://bucket/s", endpoint.options,
            lambda: endpoint.stats()["list"], endpoint.reset,
        )  # fmt: skip


@contextmanager
def _google(root: Path, kind: str) -> Iterator[Given]:
    faults = {"no_json": True} if kind == "gs-xml" else {}
    with run_endpoint(faults=faults) as endpoint:
        # object_store asks for a token whenever it writes.
        config: Any = {"base_url": endpoint.url, "bearer_token": "any"}
        store = GCSStore("bucket", config=config, client_options={"allow_http": True})
        yield Given(
            kind, _uploaded(root, store), "gs://bucket/s", endpoint.google,
            lambda: endpoint.stats()["list"], endpoint.reset,
        )  # fmt: skip


@contextmanager
def _fake_gcs(root: Path) -> Iterator[Given]:
    with fake_gcs(root, root.parent) as server:
        yield Given(
            "fake-gcs", server.store, "gs://bucket/s", server.options,
            server.lists, server.reset, checksum="none",
        )  # fmt: skip


@contextmanager
def _azure(root: Path) -> Iterator[Given]:
    with run_endpoint(page_size=5000) as endpoint:
        settings: Any = {
            f"azure_storage_{name}": value
            for name, value in endpoint.azure.items()
            if name != "allow_http"
        }
        store = AzureStore("bucket", config=settings, client_options={"allow_http": True})
        yield Given(
            "az", _uploaded(root, store), "az://bucket/s", endpoint.azure,
            lambda: endpoint.stats()["list"], endpoint.reset,
        )  # fmt: skip


@contextmanager
def _express(root: Path) -> Iterator[Given]:
    with express() as bucket:
        bucket.upload(root / "s", "s")
        yield _of_bucket("express", DIRECTORY_BUCKET, bucket)


@contextmanager
def _unpaged(root: Path) -> Iterator[Given]:
    bucket = Bucket()
    with running(bucket):
        bucket.upload(root / "s", "s")
        yield _of_bucket("s3, all at once", "bucket", bucket)


def _of_bucket(kind: str, name: str, bucket: Bucket) -> Given:
    store = S3Store(
        name, endpoint=bucket.url, region="us-east-1", skip_signature=True,
        client_options={"allow_http": True},
    )  # fmt: skip
    options = {
        "endpoint": bucket.url, "region": "us-east-1", "skip_signature": "true", "allow_http": "true",
    }  # fmt: skip
    return Given(
        kind, store, f"s3://{name}/s", options,
        lambda: sum(request.is_list for request in bucket.requests), bucket.requests.clear,
    )  # fmt: skip


@contextmanager
def _local(root: Path) -> Iterator[Given]:
    yield Given("local", LocalStore(root), str(root / "s"))


@contextmanager
def _memory(root: Path) -> Iterator[Given]:
    yield Given("memory", _uploaded(root, MemoryStore()), None)


@contextmanager
def _foreign(root: Path) -> Iterator[Given]:
    yield Given("foreign", ListedElsewhere(_uploaded(root, MemoryStore())), None)


KINDS: dict[str, Any] = {
    "s3": _s3,
    "s3, all at once": _unpaged,
    "express": _express,
    "gs": lambda root: _google(root, "gs"),
    "gs-xml": lambda root: _google(root, "gs-xml"),
    "fake-gcs": _fake_gcs,
    "az": _azure,
    "local": _local,
    "memory": _memory,
    "foreign": _foreign,
}


@contextmanager
def store_of(kind: str, folder: Path, rows: int = len(VALUES)) -> Iterator[Given]:
    """Serve a store of a kind until the context is left; the array has so many rows."""
    with KINDS[kind](_contents(folder, rows)) as given:
        yield given
