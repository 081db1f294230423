"""Servers whose certificates nobody knows but the company, and proxies on the way to them: by options and environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import refreeze
from endpoint import array
from relays import Authority, proxy, tls
from scenarios import flags, run, write_store
from test_probe import write_store as write_web_store
from web_server import serving

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
        assert "SSL_CERT_FILE" in refused.document["error"]["hint"]
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


@pytest.mark.parametrize("service", ["s3", "gs", "az"])
def test_an_authority_of_a_targets(
    endpoint: Endpoint, authority: Authority, tmp_path: Path, service: str
) -> None:
    """What writes trusts it too; the error of one that nobody knows says the same, and comes at once."""
    local = write_store(tmp_path / "air.zarr")
    with tls(endpoint.url, authority) as relay:
        name, options = source(endpoint, service, f"https://localhost:{relay.port}")
        given = [
            "ingest",
            local,
            f"{name}/repository",
            "--json",
            *flags("--target-option", options),
        ]
        refused = run(*given, env=NO_PROXIES)
        assert (refused.code, refused.document["error"]["type"]) == (1, "TargetError")
        assert "certificate" in refused.document["error"]["message"]
        assert "SSL_CERT_FILE" in refused.document["error"]["hint"]
        taken = run(*given, env=NO_PROXIES | {"SSL_CERT_FILE": str(authority.file)})
        assert (taken.code, taken.document["published"]) == (0, True), taken.err


@pytest.mark.parametrize("service", ["s3", "gs", "az"])
def test_a_proxy_of_a_targets(endpoint: Endpoint, tmp_path: Path, service: str) -> None:
    """What is written and read of a target goes through the proxy of its options, and nothing beside it."""
    local = write_store(tmp_path / "air.zarr")
    name, options = source(endpoint, service, endpoint.url)
    with proxy() as relay:
        options |= {"proxy_url": f"http://127.0.0.1:{relay.port}"}
        given = flags("--target-option", options)
        before = endpoint.stats()
        taken = run("ingest", local, f"{name}/repository", "--json", *given, env=NO_PROXIES)
        assert (taken.code, taken.document["published"]) == (0, True), taken.err
        after = endpoint.stats()
        seen = sum(after[what] - before[what] for what in ("get", "head", "list", "put", "delete"))
        assert len(relay.passed) >= seen > 0


def test_an_authority_and_a_proxy_of_a_web_server(authority: Authority, tmp_path: Path) -> None:
    """Sources by https: the environment's authority, a proxy by option, and both by the environment."""
    write_web_store(tmp_path / "www" / "air.zarr")
    with serving(tmp_path / "www") as web, tls(web.url, authority) as secure, proxy() as relay:
        url = f"https://localhost:{secure.port}/air.zarr"
        refused = ingested((url, {}), tmp_path / "refused", "--probe")
        assert refused.code == 1
        assert "SSL_CERT_FILE" in refused.document["error"]["hint"]
        trusted = {"SSL_CERT_FILE": str(authority.file)}
        taken = ingested((url, {}), tmp_path / "trusted", "--probe", **trusted)
        assert (taken.code, taken.document["references_written"]) == (0, 93), taken.err

        through = {"HTTPS_PROXY": f"http://127.0.0.1:{relay.port}"}
        taken = ingested((url, {}), tmp_path / "tunnel", "--probe", **trusted, **through)
        assert (taken.code, taken.document["references_written"]) == (0, 93), taken.err
        assert set(relay.passed) == {f"CONNECT localhost:{secure.port}"}

        relay.passed.clear()
        web.asked.clear()
        option = {"proxy_url": f"http://127.0.0.1:{relay.port}"}
        plain = (f"{web.url}/air.zarr", option)
        taken = ingested(plain, tmp_path / "plain", "--probe", "--no-read-check")
        assert (taken.code, taken.document["references_written"]) == (0, 93), taken.err
        assert len(relay.passed) == len(web.asked)
        relay.passed.clear()
        option["proxy_excludes"] = "127.0.0.1"
        taken = ingested(plain, tmp_path / "direct", "--probe", "--no-read-check")
        assert (taken.code, relay.passed) == (0, []), taken.err


@pytest.mark.parametrize("service", ["s3", "gs", "az"])
def test_an_authority_of_the_proxys(
    endpoint: Endpoint, authority: Authority, tmp_path: Path, service: str
) -> None:
    """A proxy that is spoken to in TLS: proxy_ca_certificate holds the PEM text of its authority."""
    name, options = source(endpoint, service, endpoint.url)
    with proxy(authority) as relay:
        through = {"proxy_url": f"https://localhost:{relay.port}"}
        refused = ingested((name, options | through), tmp_path / "refused", "--no-read-check")
        assert refused.code == 1
        through["proxy_ca_certificate"] = authority.file.read_text()
        taken = ingested((name, options | through), tmp_path / "target", "--no-read-check")
        assert (taken.code, taken.document["references_written"]) == (0, 6), taken.err
        assert any(asked.startswith("GET http://") for asked in relay.passed)


@pytest.mark.parametrize("service", ["s3", "gs", "az"])
def test_a_public_repository_is_read_without_credentials(
    endpoint: Endpoint, tmp_path: Path, service: str
) -> None:
    """Every verb that only reads a target signs nothing and writes nothing where skip_signature is set."""
    name, options = source(endpoint, service, endpoint.url)
    target = f"{name}/repository"
    refreeze.ingest(name, target, source_options=options, target_options=options)
    nobody = {key: value for key, value in options.items() if key != "account_key"}
    nobody["skip_signature"] = "true"
    with proxy() as relay:
        nobody["proxy_url"] = f"http://127.0.0.1:{relay.port}"
        of_source, of_target = (flags(f"--{side}-option", nobody) for side in ("source", "target"))
        verbs: list[tuple[Any, ...]] = [
            ("status", target),
            ("coverage", target),
            ("list", target, "--array", "air", *of_source),
            ("verify", name, target, *of_source),
            ("sync", name, target, *of_source),
            ("gc", target, "--dry-run"),
        ]
        for verb in verbs:
            given = [] if verb[0] == "list" else of_target
            done = run(*verb, *given, env=NO_PROXIES)
            assert done.code == 0, (verb, done.err)
    assert relay.headers
    assert not [header for header in relay.headers if "authorization:" in header]
    assert {asked.split()[0] for asked in relay.passed} <= {"GET", "HEAD"}


def test_the_password_of_a_proxy_is_not_shown(endpoint: Endpoint, tmp_path: Path) -> None:
    """One that is not there is an error without it."""
    name, options = source(endpoint, "s3", endpoint.url)
    through = {"proxy_url": "http://user:proxy-secret-7@127.0.0.1:9"}
    refused = ingested((name, options | through), tmp_path / "t", "--no-read-check")
    assert refused.code == 1
    assert "proxy-secret-7" not in refused.err + str(refused.document)
