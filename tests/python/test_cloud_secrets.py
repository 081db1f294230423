"""Secrets of Google Cloud Storage and Azure appear nowhere: not when all goes well, and not when it fails."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from endpoint import array

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from endpoint import Endpoint

    Serve = Callable[..., Endpoint]

HUSH = "HUSHHUSH"
KEY = base64.b64encode(f"{HUSH}-{HUSH}-{HUSH}".encode()).decode()
SECRETS = (HUSH, KEY, "HUSH%2FHUSH")


def _account(endpoint: Endpoint) -> str:
    return json.dumps(
        {
            "gcs_base_url": endpoint.url,
            "disable_oauth": True,
            "client_email": "",
            "private_key": f"-----BEGIN PRIVATE KEY-----\n{HUSH}\n-----END PRIVATE KEY-----\n",
            "private_key_id": HUSH,
        }
    )


KINDS: dict[str, Callable[[Endpoint], tuple[str, dict[str, str]]]] = {
    "bearer": lambda endpoint: (
        "gs",
        {"base_url": endpoint.url, "bearer_token": HUSH, "allow_http": "true"},
    ),
    "service account": lambda endpoint: (
        "gs",
        {"service_account_key": _account(endpoint), "allow_http": "true"},
    ),
    "account key": lambda endpoint: ("az", endpoint.azure | {"account_key": KEY}),
    "signature": lambda endpoint: ("az", _azure(endpoint, sas_key=f"sv=2024&sig={HUSH}%2FHUSH")),
    "token": lambda endpoint: ("az", _azure(endpoint, bearer_token=HUSH)),
}


def _azure(endpoint: Endpoint, **credentials: str) -> dict[str, str]:
    plain = {name: value for name, value in endpoint.azure.items() if name != "account_key"}
    return plain | credentials


def _run(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "refreeze", *arguments, "--log-level", "debug"]
    cleared = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GOOGLE_", "AZURE_"))
    }
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=cleared | environment
    )


def _options(side: str, settings: dict[str, str]) -> list[str]:
    return [
        word for name, value in settings.items() for word in (f"--{side}-option", f"{name}={value}")
    ]


def _files(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("kind", "given"),
    [(kind, "options") for kind in KINDS]
    + [("service account", "environment"), ("account key", "environment")],
)
def test_nothing_is_told(serve: Serve, kind: str, given: str, tmp_path: Path) -> None:
    """An ingest, and one that is refused, with the log at its loudest."""
    endpoint = serve(array("air", 3, 4), page_size=5000)
    scheme, settings = KINDS[kind](endpoint)
    target = tmp_path / "target"
    environment: dict[str, str] = {}
    options: list[str] = _options("source", settings)
    if given == "environment":
        environment = _environment(scheme, settings)
        options = _options("source", {"allow_http": "true"})
    good = _run(["ingest", f"{scheme}://bucket", str(target), *options, "--json"], environment)
    assert good.returncode == 0, good.stderr
    endpoint.set(allow=False)
    bad = _run(["ingest", f"{scheme}://bucket", str(tmp_path / "other"), *options], environment)
    assert bad.returncode == 1
    assert "AccessError" in bad.stderr or "403" in bad.stderr
    said = good.stdout + good.stderr + bad.stdout + bad.stderr
    stored = _files(target) + _files(tmp_path)
    for secret in SECRETS:
        assert secret not in said
        assert secret.encode() not in stored


def _environment(scheme: str, settings: dict[str, str]) -> dict[str, str]:
    names: dict[str, Any] = {
        "gs": {
            "base_url": "GOOGLE_BASE_URL",
            "bearer_token": "GOOGLE_BEARER_TOKEN",
            "service_account_key": "GOOGLE_SERVICE_ACCOUNT_KEY",
        },
        "az": {
            "endpoint": "AZURE_STORAGE_ENDPOINT",
            "account_name": "AZURE_STORAGE_ACCOUNT_NAME",
            "account_key": "AZURE_STORAGE_ACCOUNT_KEY",
            "sas_key": "AZURE_STORAGE_SAS_KEY",
            "bearer_token": "AZURE_STORAGE_TOKEN",
        },
    }
    return {names[scheme][name]: value for name, value in settings.items() if name in names[scheme]}
