"""What references carry so that readers notice changed objects: `--checksum`, on every kind of store."""

from __future__ import annotations

import os
import urllib.request
from typing import TYPE_CHECKING, Any

import icechunk
import numpy as np
import pytest
import zarr

import refreeze
from endpoint import array
from refreeze.exceptions import ListingError, MismatchError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from endpoint import Endpoint

    Serve = Callable[..., Endpoint]

KINDS = ("last-modified", "etag", "none")


def _open(target: Path, container: str, credentials: Any) -> zarr.Array[Any]:
    repository = icechunk.Repository.open(
        icechunk.local_filesystem_storage(str(target)),
        authorize_virtual_chunk_access=icechunk.containers_credentials({container: credentials}),
    )
    found = zarr.open_array(repository.readonly_session("main").store, path="air", mode="r")
    assert isinstance(found, zarr.Array)
    return found


@pytest.mark.parametrize("checksum", KINDS)
@pytest.mark.parametrize("service", ["s3", "gs", "az"])
def test_what_is_read_back_carries_the_checksum(
    serve: Serve, service: str, checksum: str, tmp_path: Path
) -> None:
    """Every kind on every service is read through Icechunk, which holds it against the object."""
    endpoint = serve(array("air", 30, 41, chunk=2), page_size=500)
    options = {"s3": endpoint.options, "gs": endpoint.google, "az": endpoint.azure}[service]
    target = tmp_path / "repository"
    report = refreeze.ingest(
        f"{service}://bucket", target, checksum=checksum, source_options=options
    )
    assert report.references_written == 1230
    credentials: Any = {
        "s3": icechunk.s3_credentials(anonymous=True),
        "gs": icechunk.gcs_credentials(anonymous=True),
        "az": icechunk.azure_credentials(access_key=endpoint.azure["account_key"]),
    }[service]
    found = _open(target, f"{service}://bucket/", credentials)
    assert np.asarray(found[:]).shape == (60, 82)
    # What there is now has another time and another tag.
    changed = urllib.request.Request(  # noqa: S310 (http on loopback)
        f"{endpoint.url}/bucket/air/c/0/0", data=b"\1\2\3\4", method="PUT"
    )
    urllib.request.urlopen(changed).close()  # noqa: S310 (as above)
    if checksum == "none":
        np.testing.assert_array_equal(found[:2, :2], [[1, 2], [3, 4]])
    else:
        with pytest.raises(icechunk.IcechunkError):
            found[:2, :2]


@pytest.mark.parametrize("checksum", KINDS)
def test_a_changed_file_is_noticed_by_its_checksum(checksum: str, tmp_path: Path) -> None:
    """On local disk too: a file of another time is not read as the one that was listed."""
    source, target = tmp_path / "air.zarr", tmp_path / "repository"
    root = zarr.open_group(source, mode="w")
    root.create_array("air", shape=(4, 4), chunks=(1, 4), dtype="i2")[:] = 7
    refreeze.ingest(source, target, checksum=checksum)
    found = _open(target, f"file://{source}/", icechunk.credentials.LocalFileSystemAccess)
    np.testing.assert_array_equal(found[:], np.full((4, 4), 7))
    for file in (source / "air" / "c").rglob("*"):
        os.utime(file, (2_000_000_000, 2_000_000_000))
    if checksum == "none":
        np.testing.assert_array_equal(found[:], np.full((4, 4), 7))
    else:
        with pytest.raises(icechunk.IcechunkError):
            found[:]


def test_a_server_without_conditions_takes_none(serve: Serve, tmp_path: Path) -> None:
    """The option that the error names works; the others are refused."""
    endpoint = serve(array("air", 3, 4), faults={"ignore_read_conditions": True})
    target = tmp_path / "repository"
    options = endpoint.options
    for checksum, condition in (("last-modified", "If-Unmodified-Since"), ("etag", "If-Match")):
        with pytest.raises(ListingError, match=condition):
            refreeze.ingest(
                "s3://bucket", target, checksum=checksum, source_options=options, restart=True
            )
    report = refreeze.ingest(
        "s3://bucket", target, checksum="none", source_options=options, restart=True
    )
    assert report.published


def test_a_staged_run_keeps_its_checksum(serve: Serve, tmp_path: Path) -> None:
    """References of one run are all of a kind: another option is no way to go on with it."""
    endpoint = serve(array("air", 3, 4))
    options: Any = {"source_options": endpoint.options, "no_publish": True}
    refreeze.ingest("s3://bucket", tmp_path / "r", checksum="etag", **options)
    with pytest.raises(MismatchError, match="--checksum was etag and is none now"):
        refreeze.ingest("s3://bucket", tmp_path / "r", checksum="none", **options)


def test_an_object_without_a_tag_is_named(serve: Serve, tmp_path: Path) -> None:
    """Where a service tells of no ETag there is none to refer to."""
    endpoint = serve(array("air", 3, 4, etag=False))
    with pytest.raises(ListingError, match=r"air/c/0/0 .* without an ETag"):
        refreeze.ingest(
            "s3://bucket", tmp_path / "r", checksum="etag", source_options=endpoint.options
        )


def test_an_update_compares_tags(serve: Serve, tmp_path: Path) -> None:
    """References with tags are made anew where tags differ, and left alone where they agree."""
    endpoint = serve(array("air", 3, 4))
    target = tmp_path / "repository"
    options: Any = {"checksum": "etag", "source_options": endpoint.options}
    refreeze.ingest("s3://bucket", target, **options)
    region = {"dim_0": slice(0, 3)}
    same = refreeze.ingest("s3://bucket", target, mode="update", region=region, **options)
    assert (same.changed, same.added, same.removed) == (0, 0, 0)
    options["checksum"] = "last-modified"
    other = refreeze.ingest("s3://bucket", target, mode="update", region=region, **options)
    assert other.changed == 12
