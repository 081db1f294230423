"""Servers whose certificates nobody knows but the company, and proxies on the way to them: by options and environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from endpoint import array
from relays import Authority, proxy, tls
from scenarios import flags, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from endpoint import Endpoint

NO_PROXIES = {
    name: ""
    for proxy in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    for name in (proxy, proxy.upper())
}


@pytest.fixture
def endpoint(serve: Callable[..., Endpoint]) -> Endpoint:
    """Serve a store of six chunks with consolidated metadata, that every service's dialect serves."""
    return serve(array("air", 6), page_size=1000)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def source(endpoint: Endpoint, service: str, url: str) -> tuple[str, dict[str, str]]:
    """Return how a service's source at a URL is named, and its settings."""
    if service == "s3":
        return "s3://bucket", endpoint.options | {"endpoint": url}
    if service == "gs":
        return "gs://bucket", endpoint.google | {"base_url": url}
    return "az://bucket", endpoint.azure | {"endpoint": url}


def ingested(where: tuple[str, dict[str, str]], target: Path, *more: str, **env: str) -> Any:
    """Ingest by the command, in an environment without proxies but those given."""
    name, options = where
    given = ["--json", *flags("--source-option", options), *more]
    return run("ingest", name, target, *given, env=NO_PROXIES | env)


@pytest.mark.parametrize("service", ["s3", "gs", "az"])
def test_an_authority_of_ones_own_is_trusted_by_the_environment(
    endpoint: Endpoint, authority: Authority, tmp_path: Path, service: str
) -> None:
    """SSL_CERT_FILE is honoured by listing, metadata and the read check; without it the error names the certificate."""
    with tls(endpoint.url, authority) as relay:
        where = source(endpoint, service, f"https://localhost:{relay.port}")
        refused = ingested(where, tmp_path / "refused")
        assert refused.code == 1
        assert "certificate" in refused.document["error"]["message"]
        assert not (tmp_path / "refused").exists()
        taken = ingested(where, tmp_path / "target", SSL_CERT_FILE=str(authority.file))
        assert taken.code == 0, taken.err
        assert taken.document["references_written"] == 6


@pytest.mark.parametrize("service", ["s3", "gs", "az"])
def test_a_proxy_is_named_by_an_option(endpoint: Endpoint, tmp_path: Path, service: str) -> None:
    """Every request of refreeze's own goes through it, unless the host is excluded."""
    name, options = source(endpoint, service, endpoint.url)
    with proxy() as relay:
        through = {"proxy_url": f"http://127.0.0.1:{relay.port}"}
        taken = ingested((name, options | through), tmp_path / "target", "--no-read-check")
        assert (taken.code, taken.document["references_written"]) == (0, 6), taken.err
        assert len(relay.passed) >= endpoint.stats()["list"] >= 1
        relay.passed.clear()
        through["proxy_excludes"] = "127.0.0.1"
        taken = ingested((name, options | through), tmp_path / "direct", "--no-read-check")
        assert (taken.code, relay.passed) == (0, []), taken.err


@pytest.mark.parametrize("service", ["s3", "gs", "az"])
def test_a_proxy_is_found_in_the_environment(
    endpoint: Endpoint, authority: Authority, tmp_path: Path, service: str
) -> None:
    """HTTP_PROXY forwards plain requests, HTTPS_PROXY tunnels, and Icechunk's reads go the same way."""
    with proxy() as relay:
        plain = {"HTTP_PROXY": f"http://127.0.0.1:{relay.port}"}
        where = source(endpoint, service, endpoint.url)
        taken = ingested(where, tmp_path / "plain", **plain)
        assert (taken.code, taken.document["references_written"]) == (0, 6), taken.err
        assert any(asked.startswith("GET http://") for asked in relay.passed)
        relay.passed.clear()
        with tls(endpoint.url, authority) as secure:
            tunnel = {
                "HTTPS_PROXY": f"http://127.0.0.1:{relay.port}",
                "SSL_CERT_FILE": str(authority.file),
            }
            where = source(endpoint, service, f"https://localhost:{secure.port}")
            taken = ingested(where, tmp_path / "tunnel", **tunnel)
            assert (taken.code, taken.document["references_written"]) == (0, 6), taken.err
            assert set(relay.passed) == {f"CONNECT localhost:{secure.port}"}
            assert len(secure.passed) == len(relay.passed)


def test_the_password_of_a_proxy_is_not_shown(endpoint: Endpoint, tmp_path: Path) -> None:
    """One that is not there is an error without it."""
    name, options = source(endpoint, "s3", endpoint.url)
    through = {"proxy_url": "http://user:proxy-secret-7@127.0.0.1:9"}
    refused = ingested((name, options | through), tmp_path / "t", "--no-read-check")
    assert refused.code == 1
    assert "proxy-secret-7" not in refused.err + str(refused.document)
