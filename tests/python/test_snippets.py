"""The lines that an ingest prints open the result as they are: executed, and what they send is looked at."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

from bucket_server import Bucket, running
from refreeze.cli.app import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VALUES = np.arange(1, 25, dtype="i4").reshape(6, 4)


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """Serve a bucket with a store, without anything in the environment that says who asks."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    source = tmp_path / "source.zarr"
    root = zarr.open_group(source, mode="w")
    root.create_array("air", shape=(6, 4), chunks=(2, 2), dtype="i4", dimension_names=("y", "x"))[
        :
    ] = VALUES
    with running(Bucket()) as bucket:
        bucket.upload(source, "s")
        monkeypatch.chdir(tmp_path)
        yield bucket


def _printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """Ingest, and return the lines of code, and what else was said."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    assert not ended.value.code, said.err
    before, _, code = said.out.partition("Open it:")
    return code, before + said.err


def _given(side: str, **options: str) -> list[str]:
    return [f"--{side}-option={name}={value}" for name, value in options.items()]


KINDS: dict[str, dict[str, str]] = {
    "anonymous": {"skip_signature": "true"},
    "credentialed": {"access_key_id": "id-0123", "secret_access_key": "hidden-0123"},
    "requester pays": {
        "access_key_id": "id-0123",
        "secret_access_key": "hidden-0123",
        "request_payer": "true",
    },
}


@pytest.mark.parametrize("where", ["local", "bucket"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_lines_open_it(
    bucket: Bucket,
    kind: str,
    where: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Readers send what source and target need: a signature or none, and who pays for the target's objects.

    Icechunk 2.3 does not say who pays for virtual chunks, whatever its configuration holds; the
    ingest warns of that.
    """
    place = {"endpoint": bucket.url, "region": "us-east-1", "allow_http": "true"}
    target = ["target"]
    if where == "bucket":
        target = ["s3://bucket/repo", *_given("target", **place, **KINDS[kind])]
    arguments = ["ingest", "s3://bucket/s", *target, *_given("source", **place, **KINDS[kind])]
    if kind != "anonymous":
        # The lines take credentials from the environment, and hold none.
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id-0123")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-0123")
    code, said = _printed(arguments, capsys)
    assert "hidden" not in code + said
    assert ("who pays" in said) == (kind == "requester pays")
    bucket.requests.clear()
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 (this is what the lines are for)
    np.testing.assert_array_equal(names["ds"]["air"], VALUES)
    chunks = [request for request in bucket.requests if "/s/air/c/" in request.path]
    own = [request for request in bucket.requests if request not in chunks]
    assert len(chunks) == 6
    assert bool(own) == (where == "bucket")
    for request in bucket.requests:
        assert ("authorization" in request.headers) == (kind != "anonymous")
    for request in own:
        payer = request.headers.get("x-amz-request-payer")
        assert (payer == "requester") == (kind == "requester pays")


def test_a_bucket_before_the_host() -> None:
    """object_store wants the bucket in the endpoint; Icechunk puts it there, and gets the rest."""
    from refreeze.cli.snippet import _storage

    options = {
        "endpoint": "https://bucket.s3.example.org",
        "virtual_hosted_style_request": "true",
    }
    code = _storage("s3://bucket/repo", options)
    assert "endpoint_url='https://s3.example.org'" in code
    assert "force_path_style" not in code
