"""Stores that cannot be made anew here: listed by their own library, page by page, with one warning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import obstore
import pytest
import zarr
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import AzureStore, GCSStore, MemoryStore, S3Store

import refreeze
from endpoint import BUCKET, array
from refreeze.exceptions import AccessError, ListingError, TargetError
from refreeze.stores.kinds import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from endpoint import Endpoint

    Serve = Callable[..., Endpoint]


class Wrapper:
    """A store of somebody's own around another one, with the methods that obstore's have."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.pages = 0
        """That were taken."""

    def list(self, prefix: str | None = None) -> Iterator[Any]:
        for page in obstore.list(self._store, prefix, chunk_size=100):
            self.pages += 1
            yield page

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture
def memory() -> MemoryStore:
    """Return a store in memory with 3,000 chunks at `s/air`."""
    store = MemoryStore()
    group = zarr.create_group(zarr.storage.ObjectStore(store), path="s")
    air = group.create_array("air", shape=(30, 100), chunks=(1, 1), dtype="u1", fill_value=0)
    air[:] = np.arange(3000).reshape(30, 100) % 200 + 1
    return store


def test_pages_are_taken_as_they_are_needed(memory: MemoryStore) -> None:
    """Regression: all keys were taken in before the first batch came out."""
    store = Wrapper(memory)
    stream = refreeze.list_chunks(store, "s/air")
    first = next(iter(stream))
    assert 0 < first.num_rows <= 100
    assert store.pages <= 6
    assert first.num_rows + sum(batch.num_rows for batch in stream) == 3000
    (warning,) = stream.stats.warnings
    assert "Wrapper" in warning
    assert "its own library" in warning
    assert (stream.stats.keys_listed, stream.stats.foreign_keys) == (3001, 0)


def test_regions_and_paths(memory: MemoryStore) -> None:
    """The rest of what a listing tells is the same for every store."""
    region: Any = {"dim_0": slice(3, 5)}
    for store in (memory, Wrapper(memory)):
        stream = refreeze.list_chunks(store, "s/air", region=region, paths=True)
        paths = {path for batch in stream for path in batch.column("path").to_pylist()}
        assert paths == {f"s/air/c/{y}/{x}" for y in (3, 4) for x in range(100)}


def _with_a_setting_of_tomorrow(cls: Any) -> Any:
    """Return a class of obstore's whose stores tell of a setting that is not known here."""

    def config(self: Any) -> dict[str, str]:
        return {**cls.config.__get__(self), "setting_of_tomorrow": "on"}

    return type(f"Newer{cls.__name__}", (cls,), {"config": property(config)})


@pytest.mark.parametrize("cls", [S3Store, GCSStore, AzureStore])
def test_a_setting_that_is_not_known_here(serve: Serve, cls: Any, tmp_path: Any) -> None:
    """Its listing is obstore's own, in one chain; nothing can refer to what is in it."""
    endpoint = serve(array("air", 30, 100), page_size=1000)
    settings: dict[Any, Any] = {
        S3Store: {"aws_endpoint": endpoint.url, "aws_skip_signature": "true", "aws_region": "x"},
        GCSStore: {"google_base_url": endpoint.url, "google_skip_signature": "true"},
        AzureStore: {
            f"azure_storage_{name}": value
            for name, value in endpoint.azure.items()
            if name != "allow_http"
        },
    }
    newer = _with_a_setting_of_tomorrow(cls)
    store = newer(BUCKET, config=settings[cls], client_options={"allow_http": True})
    assert kind_of(store) == cls.__name__
    stream = refreeze.list_chunks(store, "air")
    assert sum(batch.num_rows for batch in stream) == 3000
    (warning,) = stream.stats.warnings
    assert "setting_of_tomorrow" in warning
    with pytest.raises(TargetError, match="cannot refer"):
        refreeze.ingest((store, ""), tmp_path / "target")


def test_a_subclass_is_the_store_that_it_is_of(serve: Serve) -> None:
    """A subclass that lists as its parent does is made anew, and listed by ranks."""
    endpoint = serve(array("air", 30, 100))
    mine: Any = type("MyStore", (S3Store,), {})
    store = mine(
        BUCKET,
        endpoint=endpoint.url,
        region="us-east-1",
        skip_signature=True,
        client_options={"allow_http": True},
    )
    stream = refreeze.list_chunks(store, "air")
    assert sum(batch.num_rows for batch in stream) == 3000
    assert stream.stats.warnings == ()
    assert stream.stats.list_requests >= 3


def test_the_parser_takes_them_too(memory: MemoryStore) -> None:
    """As VirtualiZarr's parser does, and warns once."""
    registry = ObjectStoreRegistry({"memory://m": Wrapper(memory)})
    with pytest.warns(UserWarning, match="its own library") as warned:
        store = refreeze.ZarrParser()("memory://m/s", registry)
    assert len([one for one in warned if "its own library" in str(one.message)]) == 1
    assert len(store._group.arrays["air"].manifest.dict()) == 3000


@pytest.mark.parametrize(
    ("raised", "error"),
    [(PermissionError("no entry"), AccessError), (RuntimeError("no entry"), ListingError)],
)
def test_errors_of_the_other_library(
    memory: MemoryStore, raised: Exception, error: type[Exception]
) -> None:
    """They are shown, as the class that says what can be done."""

    class Failing(Wrapper):
        def list(self, prefix: str | None = None) -> Iterator[Any]:
            yield from super().list(f"{prefix}/nothing")
            raise raised

    with pytest.raises(error, match="no entry"):
        list(refreeze.list_chunks(Failing(memory), "s/air"))


def test_a_store_that_does_not_list(memory: MemoryStore) -> None:
    """A TypeError, not an array without chunks."""

    class Unlisted:
        get = memory.get
        head = memory.head
        list_with_delimiter = memory.list_with_delimiter

    with pytest.raises(TypeError, match="Unlisted cannot be listed"):
        list(refreeze.list_chunks(Unlisted(), "s/air"))
