"""Google Cloud Storage and Azure, as the synthetic endpoint models them: listed by ranks, ingested, read back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import refreeze
from endpoint import array
from refreeze.cli.app import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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
