"""`ingest --format kerchunk-parquet`: references that fsspec, xarray and VirtualiZarr read as the source."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import xarray as xr
import zarr

import refreeze
from refreeze.exceptions import (
    AlreadyExistsError,
    IncompleteError,
    MismatchError,
    UnsupportedArrayError,
)
from scenarios import upload

FORMAT = "kerchunk-parquet"


def dataset() -> xr.Dataset:
    values = np.arange(60 * 7, dtype="f4").reshape(60, 7)
    return xr.Dataset(
        {
            "t2m": (("time", "lat"), values, {"units": "K"}),
            "count": (("time", "lat"), values.astype("i2")),
        },
        {
            "time": np.datetime64("2019-01-01", "ns") + np.arange(60) * np.timedelta64(1, "h"),
            "lat": np.linspace(0, 60, 7),
        },
        {"title": "air"},
    )


def write(path: Path, zarr_format: int) -> None:
    encoding = {name: {"chunks": (7, 3)} for name in ("t2m", "count")}
    dataset().to_zarr(path, zarr_format=zarr_format, encoding=encoding, consolidated=False)


def opened(target: Path) -> xr.Dataset:
    return xr.open_dataset(str(target), engine="kerchunk")


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("record_size", [100_000, 5])
def test_xarray_reads_what_the_source_holds(
    tmp_path: Path, zarr_format: int, record_size: int
) -> None:
    """Values, masks, times and attributes are the source's, through record files of any size."""
    source, target = tmp_path / "air.zarr", tmp_path / "air.parq"
    write(source, zarr_format)
    report = refreeze.ingest(str(source), str(target), format=FORMAT, record_size=record_size)
    assert report.references_written == 2 * 27 + 2
    assert json.loads((target / ".zmetadata").read_bytes())["record_size"] == record_size
    assert not (target / ".refreeze-progress.json").exists()
    expected = xr.open_zarr(source, consolidated=False).load()
    xr.testing.assert_identical(opened(target).load(), expected)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_other_readers(tmp_path: Path, zarr_format: int) -> None:
    """The reference file system of fsspec gives the bytes, VirtualiZarr's parser the same array."""
    from obspec_utils.registry import ObjectStoreRegistry
    from obstore.store import LocalStore
    from virtualizarr.parsers import KerchunkParquetParser

    source, target = tmp_path / "air.zarr", tmp_path / "air.parq"
    write(source, zarr_format)
    refreeze.ingest(str(source), str(target), format=FORMAT, record_size=10)
    files = fsspec.filesystem("reference", fo=str(target), remote_protocol="file")
    name = "c/8/2" if zarr_format == 3 else "8.2"
    assert files.cat("t2m/8.2") == (source / "t2m" / name).read_bytes()
    assert len(files.ls("t2m", detail=False)) == 27 + 2
    registry = ObjectStoreRegistry({"file://": LocalStore()})
    store = KerchunkParquetParser()(url=str(target), registry=registry)
    read = xr.open_zarr(store, consolidated=False, zarr_format=3)
    np.testing.assert_array_equal(read["t2m"], dataset()["t2m"])


def test_missing_chunks_read_as_the_fill_value(tmp_path: Path) -> None:
    """Fill values that xarray would take for masks warn by name; others do not."""
    source, target = tmp_path / "gaps.zarr", tmp_path / "gaps.parq"
    group = zarr.open_group(source, mode="w", zarr_format=3)
    for name, dtype, fill in (("nan", "f4", np.nan), ("zero", "i4", 0), ("seven", "i4", 7)):
        array = group.create_array(
            name, shape=(6, 4), chunks=(2, 2), dtype=dtype, fill_value=fill,
            dimension_names=("y", "x"), config={"write_empty_chunks": True},
        )  # fmt: skip
        array[:2] = np.arange(8).reshape(2, 4)
    group.create_array("scalar", shape=(), dtype="f8")[...] = 4.5
    report = refreeze.ingest(str(source), str(target), format=FORMAT)
    (warning,) = report.warnings
    assert "array /seven" in warning
    files = fsspec.filesystem(
        "reference", fo=str(target), remote_protocol="file", asynchronous=True
    )
    read = zarr.open_group(zarr.storage.FsspecStore(files), mode="r", zarr_format=2)
    for name in ("nan", "zero", "seven", "scalar"):
        np.testing.assert_array_equal(read[name][...], group[name][...])
    masked = opened(target)
    assert not np.isnan(masked["zero"]).any()
    assert float(masked["scalar"]) == 4.5


def test_masks_stay(tmp_path: Path) -> None:
    """A `_FillValue` of version 3 masks the same values in version 2."""
    source, target = tmp_path / "masked.zarr", tmp_path / "masked.parq"
    data = xr.Dataset({"x": ("t", np.array([1.0, np.nan, 3.0, 0.0]))})
    data.to_zarr(
        source, zarr_format=3, encoding={"x": {"_FillValue": -9.0, "chunks": (2,)}},
        consolidated=False,
    )  # fmt: skip
    refreeze.ingest(str(source), str(target), format=FORMAT)
    np.testing.assert_array_equal(opened(target)["x"], data["x"])


@pytest.mark.parametrize("options", [{"shards": (4, 4), "chunks": (2, 2)}])
def test_shards_are_refused_by_name(tmp_path: Path, options: dict[str, Any]) -> None:
    """What Kerchunk cannot express is refused before anything is written."""
    group = zarr.open_group(tmp_path / "s.zarr", mode="w", zarr_format=3)
    group.create_array("sharded", shape=(8, 8), dtype="i4", **options)[...] = 1
    with pytest.raises(UnsupportedArrayError, match=r"/sharded.*shard"):
        refreeze.ingest(str(tmp_path / "s.zarr"), str(tmp_path / "s.parq"), format=FORMAT)
    assert not (tmp_path / "s.parq").exists() or not any((tmp_path / "s.parq").iterdir())


def test_what_stands_is_left_alone(tmp_path: Path) -> None:
    """A store that is there, or anything else, is not written over; wrong options are usage."""
    source, target = tmp_path / "air.zarr", tmp_path / "air.parq"
    write(source, 3)
    refreeze.ingest(str(source), str(target), format=FORMAT)
    with pytest.raises(AlreadyExistsError):
        refreeze.ingest(str(source), str(target), format=FORMAT)
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "file").write_text("mine")
    with pytest.raises(AlreadyExistsError, match="not empty"):
        refreeze.ingest(str(source), str(tmp_path / "else"), format=FORMAT)
    with pytest.raises(ValueError, match="concat_dim"):
        refreeze.ingest([str(source)], str(tmp_path / "n"), format=FORMAT, concat_dim="time")
    with pytest.raises(ValueError, match="record_size"):
        refreeze.ingest(str(source), str(tmp_path / "n"), format=FORMAT, record_size=0)
    with pytest.raises(ValueError, match="format"):
        refreeze.ingest(str(source), str(tmp_path / "n"), format="kerchunk-json")


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Record files that are whole stay; another record size is another run."""
    source, target = tmp_path / "air.zarr", tmp_path / "air.parq"
    write(source, 3)
    with pytest.raises(IncompleteError):
        refreeze.ingest(str(source), str(target), format=FORMAT, expect_count=1, record_size=5)
    assert not (target / ".zmetadata").exists()
    before = {file: file.stat().st_mtime_ns for file in target.rglob("*.parq")}
    with pytest.raises(MismatchError, match="unfinished"):
        refreeze.ingest(str(source), str(target), format=FORMAT, record_size=6)
    report = refreeze.ingest(str(source), str(target), format=FORMAT, record_size=5)
    assert report.resumed_batches == len(before)
    assert report.list_requests == 0
    assert {file: file.stat().st_mtime_ns for file in target.rglob("*.parq")} == before
    xr.testing.assert_identical(
        opened(target).load(), xr.open_zarr(source, consolidated=False).load()
    )


def test_killed_at_any_time(tmp_path: Path) -> None:
    """Killed again and again it ends as if it had not been, and never opens half."""
    source, target = tmp_path / "many.zarr", tmp_path / "many.parq"
    group = zarr.open_group(source, mode="w", zarr_format=3)
    array = group.create_array("x", shape=(3000,), chunks=(1,), dtype="i4", dimension_names=("t",))
    array[...] = np.arange(3000)
    command = [sys.executable, "-m", "refreeze", "ingest", str(source), str(target)]
    command += ["--format", FORMAT, "--record-size", "10", "--quiet"]
    for wanted in (0, 1, 2, 30, 31, 100, 170, 240, 299):
        with subprocess.Popen(command) as running:
            while running.poll() is None and len(list(target.glob("x/*.parq"))) < wanted:
                time.sleep(0.002)
            running.kill()
        assert running.returncode in {-signal.SIGKILL, 0}
        # A kill may come when all is written and the process has not ended yet.
        whole = (target / ".zmetadata").exists()
        assert whole or running.returncode != 0
        if whole:
            break
    else:
        subprocess.run(command, check=True)
    np.testing.assert_array_equal(opened(target)["x"], group["x"][...])


def test_object_storage_and_command_line(s3_bucket: Any, tmp_path: Path) -> None:
    """The command writes to a bucket what fsspec reads from it; times and exit codes as for others."""
    import obstore

    server, bucket = s3_bucket
    source = tmp_path / "air.zarr"
    write(source, 3)
    url = f"s3://{bucket}/refs/air.parq"
    command = [sys.executable, "-m", "refreeze", "ingest", str(source), url, "--format", FORMAT]
    command += ["--json", "--record-size", "10"]
    options = [f"--target-option={key}={value}" for key, value in server.options.items()]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["references_written"] == 56
    store = obstore.store.S3Store(bucket, config=server.options)
    keys = sorted(one["path"] for some in store.list("refs/air.parq") for one in some)
    assert keys[0] == "refs/air.parq/.zmetadata"
    assert "refs/air.parq/t2m/refs.2.parq" in keys
    again = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert json.loads(again.stdout)["error"]["type"] == "AlreadyExistsError"


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_store_in_a_bucket_is_read_back(s3_bucket: Any, tmp_path: Path, zarr_format: int) -> None:
    """References and chunks in a bucket: fsspec and xarray read both through s3fs, as the source is."""
    pytest.importorskip("s3fs")
    server, bucket = s3_bucket
    write(tmp_path / "air.zarr", zarr_format)
    url = upload(server, bucket, tmp_path / "air.zarr", "air.zarr")
    target = f"s3://{bucket}/refs/air.parq"
    options: Any = {"source_options": server.options, "target_options": server.options}
    report = refreeze.ingest(url, target, format=FORMAT, record_size=10, **options)
    assert report.references_written == 2 * 27 + 2

    reached = {
        "key": server.access_key_id,
        "secret": server.secret_access_key,
        "client_kwargs": {"endpoint_url": server.endpoint, "region_name": server.region},
    }
    files = fsspec.filesystem(
        "reference", fo=target, target_protocol="s3", target_options=reached,
        remote_protocol="s3", remote_options=reached,
    )  # fmt: skip
    name = "c/8/2" if zarr_format == 3 else "8.2"
    assert files.cat("t2m/8.2") == (tmp_path / "air.zarr/t2m" / name).read_bytes()
    assert files.references["t2m/8.2"][0] == f"{url}/t2m/{name}"
    # kerchunk changes the remote options, which must not be the others, too.
    storage: Any = {
        "target_protocol": "s3", "target_options": reached,
        "remote_protocol": "s3", "remote_options": dict(reached),
    }  # fmt: skip
    read = xr.open_dataset(target, engine="kerchunk", storage_options=storage)
    expected = xr.open_zarr(tmp_path / "air.zarr", consolidated=False).load()
    xr.testing.assert_identical(read.load(), expected)


def test_boxes_follow_each_other() -> None:
    """Boxes of a grid are contiguous in row-major order and hold every chunk once."""
    from refreeze.export.partitions import boxes

    for grid in ((), (7,), (3, 4), (2, 3, 5), (5, 1, 9), (0, 3)):
        for most in (1, 2, 6, 40):
            at = 0
            for box in boxes(grid, most):
                assert box.start == at
                assert box.chunks <= most
                at += box.chunks
            assert at == int(np.prod(grid))


def test_a_plan_counts_record_files(tmp_path: Path) -> None:
    """No commits, and as many files as the record size makes; a checksum is refused."""
    write(tmp_path / "air.zarr", 3)
    planned = refreeze.plan(tmp_path / "air.zarr", format=FORMAT, record_size=5)
    # 9 x 3 chunks twice, and two coordinates of one.
    assert (planned.totals.commits, planned.totals.manifests) == (0, 6 + 6 + 1 + 1)
    with pytest.raises(ValueError, match="checksum etag"):
        refreeze.ingest(tmp_path / "air.zarr", tmp_path / "o", format=FORMAT, checksum="etag")
    with pytest.raises(ValueError, match="holds references"):
        refreeze.plan(tmp_path / "air.zarr", format=FORMAT, copy=True)
