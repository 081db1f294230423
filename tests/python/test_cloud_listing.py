"""Requests and proofs of listings on Google Cloud Storage and Azure, counted at the synthetic endpoint."""

from __future__ import annotations

import json
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
from obstore.store import AzureStore, GCSStore, S3Store

import refreeze
from endpoint import BUCKET, array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


class _Express(BaseHTTPRequestHandler):
    """A model of S3 Express: unordered pages, prefixes that end in a slash, no start-after."""

    protocol_version = "HTTP/1.1"
    keys: ClassVar[list[str]] = []
    asked: ClassVar[list[dict[str, str]]] = []

    def log_message(self, *arguments: Any) -> None:
        """Stay quiet."""

    def do_GET(self) -> None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        self.asked.append(asked)
        prefix = asked.get("prefix", "")
        if (prefix and not prefix.endswith("/")) or "start-after" in asked:
            self._answer(400, "<Error><Code>InvalidRequest</Code></Error>")
            return
        found = [key for key in self.keys if key.startswith(prefix)]
        start = int(asked.get("continuation-token", 0))
        page = found[start : start + 1000]
        entries = "".join(
            f"<Contents><Key>{key}</Key><Size>1</Size>"
            "<LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents>"
            for key in page
        )
        more = start + 1000 < len(found)
        token = f"<NextContinuationToken>{start + 1000}</NextContinuationToken>" if more else ""
        self._answer(
            200,
            f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}"
            "</ListBucketResult>",
        )

    def _answer(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())


@pytest.fixture
def express() -> Iterator[tuple[type[_Express], str]]:
    """Serve the model; its keys are to be filled in."""
    handler = type("Bound", (_Express,), {"keys": [], "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield handler, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("bucket", ["plain", "zone--use1-az4--x-s3"])
@pytest.mark.parametrize("separator", [".", "/"])
def test_express_is_listed_by_folders_or_in_one_go(
    express: tuple[type[_Express], str], separator: str, bucket: str
) -> None:
    """Regression: keys with dots were asked for below prefixes that Express refuses."""
    model, url = express
    document = {
        "zarr_format": 3, "node_type": "array", "shape": [4, 5000], "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 1]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": separator}},
        "fill_value": 0, "attributes": {}, "codecs": [{"name": "bytes"}],
    }  # fmt: skip
    keys = [f"air/c{separator}{y}{separator}{x}" for y in range(4) for x in range(5000)]
    random.Random(5).shuffle(keys)  # noqa: S311 (no secret)
    model.keys.extend(keys)
    store = S3Store(
        bucket, endpoint=url, region="us-east-1", skip_signature=True,
        client_options={"allow_http": True},
    )  # fmt: skip
    get = model.do_GET

    def with_document(self: _Express) -> None:
        if urlsplit(self.path).path.endswith("/zarr.json"):
            self._answer(200, json.dumps(document))
        else:
            get(self)

    model.do_GET = with_document  # type: ignore[method-assign]
    stream = refreeze.list_chunks(store, "air", concurrency=4)
    assert sum(batch.num_rows for batch in stream) == len(keys)
    assert len(model.asked) == stream.stats.list_requests <= 21
    model.asked.clear()
    region: Any = {"dim_0": slice(2, 3)}
    again = refreeze.list_chunks(store, "air", region=region, concurrency=4)
    assert sum(batch.num_rows for batch in again) == 5000
