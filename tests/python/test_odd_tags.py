"""`verify --sample` and ETags that are no MD5 of an object's bytes, or are one in another form."""

from __future__ import annotations

from hashlib import md5
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

import refreeze

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bucket_server import Bucket

CHUNKS = 6


def digest(body: bytes) -> str:
    return md5(body, usedforsecurity=False).hexdigest()


NO_DIGESTS: dict[str, Callable[[bytes], str]] = {
    "weak": lambda body: f'W/"{digest(body[:1])}"',
    "weak, without quotes": lambda body: f"W/{digest(body[:1])}",
    "empty": lambda _: '""',
    "nothing": lambda _: "",
    "multipart": lambda body: f'"{digest(body[:1])}-3"',
    "a sentence": lambda body: f'"version {len(body)}"',
    "looks like one": lambda body: f'"{digest(b"salt" + body)}"',
}

DIGESTS: dict[str, Callable[[bytes], str]] = {
    "quoted": lambda body: f'"{digest(body)}"',
    "without quotes": digest,
    "capitals": lambda body: f'"{digest(body).upper()}"',
}


@pytest.fixture
def given(bucket: Bucket, tmp_path: Path) -> Bucket:
    """Put a store of six chunks into the bucket."""
    array = zarr.open_group(tmp_path / "s.zarr", mode="w").create_array(
        "air", shape=(CHUNKS, 4), chunks=(1, 4), dtype="i4", compressors=None
    )
    array[:] = np.arange(1, 4 * CHUNKS + 1).reshape(CHUNKS, 4)
    bucket.upload(tmp_path / "s.zarr", "s.zarr")
    return bucket


def compared(bucket: Bucket, target: Path) -> Any:
    return refreeze.verify(
        "s3://bucket/s.zarr", target, sample=CHUNKS, source_options=bucket.options
    )


@pytest.mark.parametrize("kind", NO_DIGESTS | DIGESTS)
def test_odd_etags(given: Bucket, tmp_path: Path, kind: str) -> None:
    """Whatever its form is, a tag that is right, or says nothing of the bytes, is no difference."""
    given.tag = (NO_DIGESTS | DIGESTS)[kind]
    target = tmp_path / "target"
    report = refreeze.ingest("s3://bucket/s.zarr", target, source_options=given.options)
    assert report.references_written == CHUNKS
    found = compared(given, target)
    assert (found.equal, found.sampled, found.sample_mismatches) == (True, CHUNKS, 0), found


@pytest.mark.parametrize("kind", NO_DIGESTS | DIGESTS)
def test_readers_who_get_other_bytes(given: Bucket, tmp_path: Path, kind: str) -> None:
    """No form of a tag keeps a difference of bytes from being seen: here whoever reads a reference gets others."""
    given.tag = tag = (NO_DIGESTS | DIGESTS)[kind]
    target = tmp_path / "target"
    refreeze.ingest("s3://bucket/s.zarr", target, source_options=given.options)
    whole = given.objects["s.zarr/air/c/3/0"]
    headers = {
        "ETag": tag(whole),
        "Last_Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
        "Content_Range": f"bytes 0-{len(whole) - 1}/{len(whole)}",
    }

    def answers(request: Any) -> tuple[int, dict[str, str], bytes] | None:
        if "air/c/3/0" in request.path and "if-unmodified-since" in request.headers:
            return 206, headers, bytes([whole[0] ^ 1]) + whole[1:]
        return None

    given.answers = answers
    found = compared(given, target)
    assert (found.equal, found.sample_mismatches) == (False, 1), found
    assert found.kinds == {"bytes": 1}
