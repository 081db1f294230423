"""Google Cloud Storage and Azure, as the synthetic endpoint models them: listed by ranks, ingested, read back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import refreeze
from endpoint import array
from refreeze.cli.app import main
from refreeze.cli.plan_table import print_plan
from refreeze.exceptions import AccessError, ListingError, MismatchError
from refreeze.shown import shown
from refreeze.stores.resolve import resolve_source
from test_probe import write_store as write_web_store
from web_server import serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from endpoint import Endpoint

SCHEMES = {"gs": "google", "az": "azure"}


def _options(endpoint: Endpoint, scheme: str) -> dict[str, str]:
    options: dict[str, str] = getattr(endpoint, SCHEMES[scheme])
    return options


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_store_is_ingested_and_read_back(
    scheme: str, serve: Callable[..., Endpoint], tmp_path: Path
) -> None:
    """What lies on Google Cloud or Azure is referenced, and Icechunk reads it from there."""
    endpoint = serve(array("air", 30, 40, chunk=2), page_size=5000)
    target = tmp_path / "repository"
    options = _options(endpoint, scheme)
    report = refreeze.ingest(f"{scheme}://bucket", target, source_options=options)
    assert report.references_written == 1200
    assert list(report.containers) == [f"{scheme}://bucket/"]


def _key_of_the_endpoint(scheme: str, monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint) -> None:
    if scheme == "az":
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", endpoint.azure["account_key"])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_printed_lines_open_source_and_target_in_the_cloud(
    scheme: str,
    serve: Callable[..., Endpoint],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What the command prints after an ingest from cloud to cloud opens it, without a secret in it."""
    zarr = {"dimension_names": ["y", "x"]}
    endpoint = serve(array("air", 6, 7, chunk=2, zarr=zarr), page_size=5000)
    _key_of_the_endpoint(scheme, monkeypatch, endpoint)
    options = _options(endpoint, scheme)
    secret = options.pop("account_key", "no secret")
    given = [
        f"--{side}-option={key}={value}"
        for side in ("source", "target")
        for key, value in options.items()
    ]
    with pytest.raises(SystemExit) as ended:
        main(["ingest", f"{scheme}://bucket", f"{scheme}://bucket/repository", *given])
    assert not ended.value.code
    said = capsys.readouterr().out
    assert secret not in said
    names: dict[str, Any] = {}
    exec(said.partition("Open it:")[2], names)  # noqa: S102 (this is what the lines are for)
    read = names["ds"]["air"]
    assert read.shape == (12, 14)
    assert np.asarray(read).any()
    stored = names["repo"].config
    assert secret not in repr(stored.virtual_chunk_containers)
    assert f"{scheme}://bucket/" in repr(stored.virtual_chunk_containers)


@pytest.mark.parametrize("command", ["ingest", "plan"])
def test_no_credentials_end_soon_with_what_to_do(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Off Google, object_store asks for long at an address that only machines of Google have."""
    for name in list(os.environ):
        if name.startswith("GOOGLE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    run = refreeze.plan if command == "plan" else refreeze.ingest
    with pytest.raises(AccessError, match="skip_signature=true"):
        run("gs://bucket/store", tmp_path / "repository")


def test_a_server_that_ignores_conditions_is_an_error(
    serve: Callable[..., Endpoint], tmp_path: Path
) -> None:
    """It would give readers other bytes in silence; nothing is published."""
    endpoint = serve(array("air", 3, 4), faults={"ignore_read_conditions": True})
    with pytest.raises(ListingError, match="ignores If-Unmodified-Since") as failed:
        refreeze.ingest("gs://bucket", tmp_path / "r", source_options=endpoint.google)
    assert "--checksum none" in str(failed.value.hint)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("gcs://b/x/", "gs://b/x"),
        ("https://storage.googleapis.com/b/x/y", "gs://b/x/y"),
        ("https://b.storage.googleapis.com/x", "gs://b/x"),
        ("abfs://c@acc.dfs.core.windows.net/x", "az://c/x"),
        ("abfss://c@acc.dfs.core.windows.net/x", "az://c/x"),
        ("https://acc.blob.core.windows.net/c/x", "az://c/x"),
        ("https://b.s3.eu-west-1.amazonaws.com/x", "s3://b/x"),
        ("https://s3.us-west-2.amazonaws.com/b/x", "s3://b/x"),
        ("https://s3.amazonaws.com/b/x", "s3://b/x"),
        (f"https://{'0a' * 16}.r2.cloudflarestorage.com/b/x", "s3://b/x"),
    ],
)
def test_every_spelling_leads_to_the_same_place(url: str, place: str) -> None:
    """An https URL of an object store is its own URL in other words, which is said."""
    source = resolve_source(url)
    assert source.url == place
    assert bool(source.notes) == url.startswith("https")


def test_a_shared_access_signature_is_used_and_never_shown() -> None:
    """The query of an Azure URL is a credential."""
    source = resolve_source("https://acc.blob.core.windows.net/c/x?sv=2024&sig=HUSHHUSH%2Fhush")
    assert source.store.config["sas_key"] == "sv=2024&sig=HUSHHUSH%2Fhush"
    assert "skip_signature" not in source.store.config
    assert "HUSH" not in f"{source}{source.notes}"
    assert shown("it was HUSHHUSH/hush") == "it was ***"


def test_an_account_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An az:// URL does not name it; the error names the option that does."""
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(ValueError, match="account_name"):
        resolve_source("az://container/x")


def test_one_container_name_in_two_accounts_is_refused(
    serve: Callable[..., Endpoint], tmp_path: Path
) -> None:
    """The account is not in a location: references would be looked for in the other account."""
    endpoint = serve(array("air", 3, 4))
    target = tmp_path / "repository"
    refreeze.ingest("az://bucket", target, source_options=endpoint.azure)
    other = endpoint.azure | {"account_name": "another"}
    with pytest.raises(MismatchError, match=r"account account .*another"):
        refreeze.ingest("az://bucket", target, source_options=other, target_group="again")


def test_the_run_on_a_real_cloud_can_be_made(serve: Callable[..., Endpoint]) -> None:
    """The script that users run with their credentials tells what was right, and where."""
    endpoint = serve(page_size=5000)
    options = endpoint.google | {"bearer_token": "HUSHHUSH"}
    del options["skip_signature"]
    script = Path(__file__).resolve().parents[2] / "scripts" / "smoke-cloud"
    given = [f"{key}={value}" for key, value in options.items()]
    run = subprocess.run(
        [sys.executable, str(script), "gs://bucket/smoke", *given],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
    assert run.stdout.count("right: ") == 7, run.stdout
    assert "HUSHHUSH" not in run.stdout + run.stderr


def test_the_run_on_a_web_server_can_be_made(tmp_path: Path) -> None:
    """It only reads; what is wrong with a server is told, and so does the exit code."""
    write_web_store(tmp_path / "air.zarr")
    script = Path(__file__).resolve().parents[2] / "scripts" / "smoke-cloud"
    for switches, code, right in ({}, 0, 3), ({"no_tag": True}, 1, 2):
        with serving(tmp_path, **switches) as web:
            command = [sys.executable, str(script), f"{web.url}/air.zarr", "header.X-Key=HUSHHUSH"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout
        assert done.stdout.count("right: ") == right, done.stdout
        assert done.stdout.count("WRONG: ") == 3 - right
        assert "HUSHHUSH" not in done.stdout + done.stderr
        assert {asked.method for asked in web.asked} <= {"GET", "HEAD"}


def test_a_plan_knows_the_service(
    serve: Callable[..., Endpoint], capsys: pytest.CaptureFixture[str]
) -> None:
    """Pages, price and requests at a time are the service's own."""
    endpoint = serve(array("air", 100, 200, chunk=1), page_size=5000)
    plans = {
        scheme: refreeze.plan(
            f"{scheme}://bucket", source_options=_options(endpoint, scheme), concurrency=64
        )
        for scheme in SCHEMES
    }
    plans["s3"] = refreeze.plan("s3://bucket", source_options=endpoint.options, concurrency=64)
    assert {scheme: plan.arrays[0].strategy for scheme, plan in plans.items()} == dict.fromkeys(
        plans, "ranked-pages"
    )
    price = {"s3": 0.005, "gs": 0.005, "az": 0.0055}
    for scheme, plan in plans.items():
        totals = plan.totals
        assert totals.list_cost_usd == round(totals.list_requests * price[scheme] / 1000, 6)
    assert plans["s3"].totals.list_requests >= 4 * plans["gs"].totals.list_requests
    at_a_time = {scheme: plan.most_in_flight for scheme, plan in plans.items()}
    assert at_a_time == {"s3": 64, "gs": 64, "az": 16}
    print_plan(plans["az"])
    assert "16 at a time" in capsys.readouterr().out
