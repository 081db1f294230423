"""How values go from a file into a template: in blocks of bounded size, each part of a file read once."""

import icechunk
import numpy as np
import pytest
import xarray as xr

import refreeze
import refreeze.writer.region_blocks as blocks
from archives_for_tests import day, file_of, opened
from refreeze.exceptions import IncompleteError

pytest.importorskip("dask")


@pytest.fixture
def read(monkeypatch):
    """Note how many elements are read at a time, and let blocks be small."""
    sizes, real = [], blocks._values

    def noted(transfer, block):
        values = real(transfer, block)
        sizes.append(values.size)
        return values

    monkeypatch.setattr(blocks, "_values", noted)
    monkeypatch.setattr(blocks, "_SMALL_BLOCK_BYTES", 1 << 10)
    return sizes


def large(number):
    return day(number, lat=20, lon=30)


def target_of(path, data, **options):
    refreeze.create_template(
        data, path, global_end="2000-01-05", chunking="time:6,lat:5,lon:7", **options
    )
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data,
        lambda data: data.isel(lat=slice(None, None, -1), lon=slice(None, None, -1)),
        lambda data: data.transpose("lon", "time", "lat"),
        lambda data: data.isel(time=slice(3, 20), lat=slice(2, 13), lon=slice(5, 29)),
    ],
    ids=["as it is", "reversed", "other order", "across chunks"],
)
def test_many_blocks(tmp_path, read, change):
    """Every value in its place, whatever the file's order; what is read at a time stays small."""
    target = target_of(tmp_path / "r", large(0))
    part = change(large(1))
    refreeze.write_region(file_of(tmp_path, 1, part), target)
    assert len(read) > 20
    assert max(read) * 4 <= 1 << 10
    found = opened(target).t.sel(time=part.time, lat=part.lat, lon=part.lon)
    assert found.transpose(*part.t.dims).equals(part.t)
    assert int(opened(target).t.notnull().sum()) == part.t.size


def test_chunks_of_a_file_are_read_once(tmp_path, read):
    """Data whose chunks lie across blocks is read in larger blocks: each chunk is decompressed, or computed, once."""
    target = target_of(tmp_path / "r", large(0))
    across = file_of(tmp_path, 1, large(1), chunksizes=(1, 20, 30), zlib=True)
    refreeze.write_region(across, target)
    assert read == [24 * 20 * 30]
    read.clear()
    along = file_of(tmp_path, 2, large(2), chunksizes=(6, 5, 7), zlib=True)
    refreeze.write_region(along, target)
    assert len(read) > 20
    read.clear()
    refreeze.write_region(large(3).chunk({"lat": 7}), target)
    assert read == [24 * 20 * 30]
    read.clear()
    refreeze.write_region(large(0).chunk({"time": (6, 12, 6)}), target)
    assert read == [24 * 20 * 30]
    read.clear()
    refreeze.write_region(large(4).chunk({"time": 6, "lat": 5, "lon": 7}), target)
    assert len(read) > 20
    days = [large(number) for number in range(5)]
    assert opened(target).t.equals(xr.concat(days, "time").t)


def test_a_packed_template_in_many_blocks(tmp_path, read):
    """Values of double precision on the way count as such: blocks are a quarter as long."""
    ranges = {"t": {"min": 0, "max": 60}}
    target = target_of(tmp_path / "r", large(0), packing=True, packing_manual_ranges=ranges)
    refreeze.write_region(large(1), target)
    assert max(read) <= 6 * 5 * 7
    error = np.abs(opened(target).t[24:48].values - large(1).t.values).max()
    assert error < 60 / (2**16 - 2)


@pytest.mark.parametrize("retries", [0, 1])
def test_a_chunk_that_the_store_has_lost(tmp_path, read, monkeypatch, retries):
    """What was handed over and is not there is found, in whichever block it was, and nothing committed."""
    target = target_of(tmp_path / "r", large(0))
    real, lost = icechunk.IcechunkStore.set, []

    async def lossy(self, key, value):
        if key.endswith("t/c/4/2/3") and not lost:
            lost.append(key)
            return
        await real(self, key, value)

    monkeypatch.setattr(icechunk.IcechunkStore, "set", lossy)
    before = opened(target).t.notnull().sum()
    if retries:
        refreeze.write_region(large(1), target, retries_on_missing=1)
        assert opened(target).t[24:48].equals(large(1).t)
    else:
        with pytest.raises(IncompleteError, match="after 1 attempt"):
            refreeze.write_region(large(1), target)
        assert opened(target).t.notnull().sum() == before
    assert len(lost) == 1
