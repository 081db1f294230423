"""Requests and proofs of listings on Google Cloud Storage and Azure, counted at the synthetic endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from obstore.store import AzureStore, GCSStore

import refreeze
from endpoint import BUCKET, array

if TYPE_CHECKING:
    from collections.abc import Callable

    from endpoint import Endpoint

    Serve = Callable[..., Endpoint]


def _store(endpoint: Endpoint, service: str) -> Any:
    client: Any = {"allow_http": True}
    if service == "gs":
        return GCSStore(
            BUCKET,
            config={"base_url": endpoint.url, "skip_signature": "true"},
            client_options=client,
        )
    settings = {key: value for key, value in endpoint.azure.items() if key != "allow_http"}
    config: Any = {f"azure_storage_{key}": value for key, value in settings.items()}
    return AzureStore(BUCKET, config=config, client_options=client)


def _listed(endpoint: Endpoint, service: str, concurrency: int) -> tuple[int, Any]:
    stream = refreeze.list_chunks(_store(endpoint, service), "air", concurrency=concurrency)
    found = sum(batch.num_rows for batch in stream)
    return found, stream.stats


@pytest.mark.parametrize(
    ("service", "chunks", "page", "requests"),
    [("gs", 30_000, 5000, 7), ("gs", 30_000, 1000, 31), ("az", 6_500, 5000, 2)],
)
def test_a_chain_takes_as_many_requests_as_it_has_pages(
    serve: Serve, service: str, chunks: int, page: int, requests: int
) -> None:
    """Each page but the first repeats one key, which proves that the start was honoured."""
    endpoint = serve(array("air", chunks // 100, 100), page_size=page)
    endpoint.reset()
    found, stats = _listed(endpoint, service, 1)
    assert found == chunks
    # Metadata is listed by nobody: the array has a document.
    assert endpoint.stats()["list"] == stats.list_requests == requests


@pytest.mark.parametrize("page", [5000, 1000])
@pytest.mark.parametrize("service", ["gs", "az"])
def test_ranked_pages_cost_little_more_than_full_ones(
    serve: Serve, service: str, page: int
) -> None:
    """Many at a time, of as many keys as the service turns out to give."""
    chunks = 500_000
    endpoint = serve(array("air", 500, 1000), page_size=page)
    endpoint.reset()
    found, stats = _listed(endpoint, service, 16)
    assert found == chunks
    if service == "gs" or page == 5000:
        assert stats.list_requests <= 1.02 * chunks / page + 20


def test_google_is_listed_by_xml_where_it_has_no_json(serve: Serve) -> None:
    """A server that knows the XML API only, as many emulators, is listed all the same."""
    endpoint = serve(array("air", 30, 100), faults={"no_json": True})
    found, stats = _listed(endpoint, "gs", 4)
    assert found == 3000
    assert stats.list_requests <= 6


@pytest.mark.parametrize("service", ["gs", "az"])
def test_a_start_that_is_taken_away_is_noticed(serve: Serve, service: str) -> None:
    """A proxy that strips `startFrom` must cost a warning, not keys."""
    endpoint = serve(array("air", 30, 100), page_size=500, faults={"start_after": "ignored"})
    stream = refreeze.list_chunks(_store(endpoint, service), "air", concurrency=4)
    assert sum(batch.num_rows for batch in stream) == 3000
    assert "listed" in stream.stats.warnings[0]


@pytest.mark.parametrize("service", ["gs", "az"])
@pytest.mark.parametrize("region", [None, {"dim_0": slice(10, 20)}])
def test_an_empty_answer_to_a_start_is_not_believed(
    serve: Serve, service: str, region: Any
) -> None:
    """OneLake answers a start with nothing: that is no array without chunks."""
    endpoint = serve(array("air", 30, 100), page_size=500, faults={"start_after": "empty"})
    stream = refreeze.list_chunks(_store(endpoint, service), "air", region=region, concurrency=4)
    expected = 3000 if region is None else 1000
    assert sum(batch.num_rows for batch in stream) == expected
    assert "listed" in stream.stats.warnings[0]
