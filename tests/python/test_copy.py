"""`copy`: references become native chunks, byte for byte, and the source is needed no longer."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import xarray as xr

import refreeze
from refreeze.exceptions import MismatchError, RegionError, TargetNotFoundError
from scenarios import cli, flags


def write(source: Path) -> xr.Dataset:
    """Write a store of two arrays of 24 and 4 chunks with a missing one."""
    data = xr.Dataset(
        {
            "t2m": (("time", "lat"), np.arange(48, dtype="f4").reshape(12, 4)),
            "mask": (("lat",), np.arange(1, 5, dtype="i2")),
        },
        {"time": np.arange(12) * 3},
    )
    data.to_zarr(
        source, zarr_format=3, consolidated=False,
        encoding={"t2m": {"chunks": (1, 2), "compressors": None}, "mask": {"chunks": (1,)}},
    )  # fmt: skip
    (source / "t2m" / "c" / "5" / "1").unlink()
    return xr.open_zarr(source, consolidated=False).load()


def opened(target: Path, branch: str = "main") -> xr.Dataset:
    """Open a repository without access to any source."""
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    return xr.open_zarr(repository.readonly_session(branch).store, consolidated=False)


def kinds(target: Any, **options: Any) -> dict[str, tuple[int, int]]:
    """Return native and virtual chunks of each array."""
    report = refreeze.coverage(target, **options)
    return {array.path: (array.native, array.virtual) for array in report.arrays}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return a repository of references, and its source beside it."""
    write(tmp_path / "s.zarr")
    refreeze.ingest(tmp_path / "s.zarr", tmp_path / "t")
    return tmp_path / "t"


def test_a_copied_repository_needs_its_source_no_longer(target: Path, tmp_path: Path) -> None:
    """All chunks are native, equal to the source's, and missing ones stay missing."""
    expected = xr.open_zarr(tmp_path / "s.zarr", consolidated=False).load()
    assert kinds(target)["/t2m"] == (0, 23)
    report = refreeze.copy(target)
    assert (report.chunks_copied, report.published) == (27, True)
    assert (
        report.bytes_copied == refreeze.ingest(tmp_path / "s.zarr", tmp_path / "o").bytes_referenced
    )
    shutil.rmtree(tmp_path / "s.zarr")
    xr.testing.assert_identical(opened(target).load(), expected)
    assert kinds(target) == {"/mask": (4, 0), "/t2m": (23, 0), "/time": (1, 0)}
    again = refreeze.copy(target)
    assert (again.chunks_copied, again.snapshot_id, again.commits) == (0, None, 0)


def test_a_repository_becomes_independent_piece_by_piece(
    target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By array and region; coverage shows what is native and what is not."""
    outcome = cli(
        capsys, "copy", target, "--array", "t2m", "--region", "time=2:5", "--json"
    ).document
    assert (outcome["chunks_copied"], outcome["published"]) == (6, True)
    assert kinds(target) == {"/mask": (0, 4), "/t2m": (6, 17), "/time": (1, 0)}
    assert cli(capsys, "copy", target, "--region", "lat=0:2").code == 0
    assert kinds(target)["/t2m"] == (6 + 9, 8)
    said = cli(capsys, "copy", target)
    assert "Copied 10 chunks" in said.out
    assert kinds(target)["/t2m"] == (23, 0)


def test_a_chunk_that_has_changed_is_named_and_the_others_are_kept(
    target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 1; what was copied stays staged, readers see nothing of it, and the same command goes on."""
    chunk = tmp_path / "s.zarr" / "t2m" / "c" / "7" / "0"
    was, times = chunk.read_bytes(), chunk.stat()
    chunk.write_bytes(was[::-1])
    os.utime(chunk, (times.st_atime + 100, times.st_mtime + 100))
    outcome = cli(capsys, "copy", target, "--array", "t2m")
    assert outcome.code == 1
    assert "chunk [7, 0] of array /t2m" in outcome.err
    assert "stays staged" in outcome.err
    assert kinds(target)["/t2m"] == (0, 23)
    (run,) = [run for run in refreeze.status(target).runs if run.mode == "copy"]
    assert run.state == "unfinished"
    assert kinds(target, branch=f"refreeze/{run.run_id}")["/t2m"] == (22, 1)
    chunk.write_bytes(was)
    os.utime(chunk, ns=(times.st_atime_ns, times.st_mtime_ns))
    report = refreeze.copy(target, arrays=["t2m"])
    assert (report.chunks_copied, report.resumed, report.run_id) == (1, True, run.run_id)
    assert kinds(target)["/t2m"] == (23, 0)


def test_a_chunk_that_is_gone_or_shorter_is_not_taken(target: Path, tmp_path: Path) -> None:
    """Whatever the time of the object is."""
    folder = tmp_path / "s.zarr" / "mask" / "c"
    (folder / "0").unlink()
    times = (folder / "1").stat()
    (folder / "1").write_bytes(b"")
    os.utime(folder / "1", ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(MismatchError, match=r"\[0\] of array /mask \(is gone\).*\[1\].*bytes now"):
        refreeze.copy(target, arrays=["mask"])


def test_small_commits_change_nothing_of_the_result(target: Path, tmp_path: Path) -> None:
    """A manifest is made anew with every commit, and the next batch goes on in it."""
    expected = xr.open_zarr(tmp_path / "s.zarr", consolidated=False).load()
    report = refreeze.copy(target, max_refs_per_commit=4, memory="16MiB", concurrency=2)
    assert report.commits > 7
    xr.testing.assert_identical(opened(target).load(), expected)


def test_a_staged_copy_is_published_by_publish(target: Path) -> None:
    """As every run is."""
    report = refreeze.copy(target, no_publish=True)
    assert (report.published, kinds(target)["/t2m"]) == (False, (0, 23))
    assert refreeze.publish(target).run_id == report.run_id
    assert kinds(target)["/t2m"] == (23, 0)


def test_ingest_copies_from_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--copy`: one publication of native chunks; again, it finds nothing to do."""
    expected = write(tmp_path / "s.zarr")
    outcome = cli(capsys, "ingest", tmp_path / "s.zarr", tmp_path / "t", "--copy", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.document["copied"]["chunks"] == 27
    assert outcome.document["published"]
    assert kinds(tmp_path / "t")["/t2m"] == (23, 0)
    again = refreeze.ingest(tmp_path / "s.zarr", tmp_path / "t", copy=True)
    assert (again.already_published, again.copied["chunks"]) == (True, 0)
    shutil.rmtree(tmp_path / "s.zarr")
    xr.testing.assert_identical(opened(tmp_path / "t").load(), expected)


def test_within_a_bucket_the_service_copies(s3_bucket: Any, tmp_path: Path) -> None:
    """The bytes do not come through this process; elsewhere they do. Both are what the source has."""
    server, bucket = s3_bucket
    expected = write(tmp_path / "s.zarr")
    store = server.store(bucket, "s.zarr")
    for file in (tmp_path / "s.zarr").rglob("*"):
        if file.is_file():
            store.put(str(file.relative_to(tmp_path / "s.zarr")), file.read_bytes() * 1)
    source = f"s3://{bucket}/s.zarr"
    options = {"source_options": server.options}
    large = np.arange(40_000, dtype="f8").reshape(4, 10_000)
    xr.Dataset({"big": (("x", "y"), large)}).to_zarr(
        tmp_path / "big.zarr", consolidated=False, encoding={"big": {"chunks": (1, 10_000)}}
    )
    for file in (tmp_path / "big.zarr").rglob("*"):
        if file.is_file():
            key = f"big.zarr/{file.relative_to(tmp_path / 'big.zarr')}"
            server.store(bucket).put(key, file.read_bytes())
    refreeze.ingest(
        f"s3://{bucket}/big.zarr", f"s3://{bucket}/big", target_options=server.options, **options
    )
    report = refreeze.copy(f"s3://{bucket}/big", target_options=server.options, **options)
    assert (report.chunks_copied, report.server_side) == (4, 4)
    refreeze.ingest(source, tmp_path / "t", **options)
    elsewhere = refreeze.copy(tmp_path / "t", **options)
    assert (elsewhere.chunks_copied, elsewhere.server_side) == (27, 0)
    xr.testing.assert_identical(opened(tmp_path / "t").load(), expected)
    repository = icechunk.Repository.open(
        icechunk.s3_storage(
            bucket=bucket, prefix="big", region=server.region, endpoint_url=server.endpoint,
            allow_http=True, force_path_style=True, access_key_id=server.access_key_id,
            secret_access_key=server.secret_access_key,
        )
    )  # fmt: skip
    native = xr.open_zarr(repository.readonly_session("main").store, consolidated=False)
    np.testing.assert_array_equal(native["big"].values, large)


def test_an_object_that_changes_is_not_copied_by_the_service_either(s3_bucket: Any) -> None:
    """It is looked at after it was copied, and what was copied of it is removed."""
    server, bucket = s3_bucket
    store = server.store(bucket, "s.zarr")
    import zarr

    zarr.create_array(
        zarr.storage.ObjectStore(store), name="a", shape=(3, 1000), chunks=(1, 1000), dtype="f8",
        compressors=None,
    )[:] = 1  # fmt: skip
    both = {"source_options": server.options, "target_options": server.options}
    place = f"s3://{bucket}/t"
    refreeze.ingest(f"s3://{bucket}/s.zarr", place, **both)
    file = server.root / bucket / "s.zarr" / "a" / "c" / "1" / "0"
    store.put("a/c/1/0", b"\x07" * 8000)
    os.utime(file, (file.stat().st_mtime + 50,) * 2)
    with pytest.raises(MismatchError, match=r"\[1, 0\] of array /a"):
        refreeze.copy(place, **both)
    assert refreeze.coverage(place, target_options=server.options).arrays[0].virtual == 3
    chunks = [path for path in (server.root / bucket / "t" / "chunks").iterdir() if path.is_file()]
    assert len(chunks) == 2


def test_bad_arguments_are_refused(target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By name, before anything is copied."""
    with pytest.raises(TargetNotFoundError, match="t3m"):
        refreeze.copy(target, arrays=["t3m"])
    with pytest.raises(RegionError, match="height"):
        refreeze.copy(target, region={"height": slice(0, 1)})
    with pytest.raises(RegionError, match="lat"):
        refreeze.copy(target, region={"lat": slice(1, 2)}, arrays=["t2m"])
    assert cli(capsys, "copy", target / "nothing").code == 1
    assert cli(capsys, "copy", target, *flags("--source-option", {"": "x"})).code == 2
    assert cli(capsys, "ingest", "s", "t", "--copy", "--format", "kerchunk-parquet").code == 2


def test_a_plan_shows_what_copying_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bytes, requests, cost and time; without `--copy` there is nothing of it."""
    write(tmp_path / "s.zarr")
    planned = cli(capsys, "plan", tmp_path / "s.zarr", tmp_path / "t", "--copy", "--json").document
    copied = planned["copy"]
    assert copied["chunks"] == 24 + 4
    # 8 bytes a chunk of one, some 20 of the other.
    assert 24 * 8 < copied["bytes"] < 24 * 8 + 4 * 40
    assert (copied["requests"], copied["cost_usd"], copied["server_side"]) == (56, 0.0, False)
    # So few bytes take no time here, and nothing waits for a service.
    assert copied["estimated_s"] == 0.0
    assert "Copying through this process: about 28 chunks" in cli(
        capsys, "plan", tmp_path / "s.zarr", "--copy"
    ).out  # fmt: skip
    assert "copy" not in cli(capsys, "plan", tmp_path / "s.zarr", "--json").document
