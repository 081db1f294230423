"""The NetCDF files of `iris-sample-data`: what xarray reads from the archive is what the file holds."""

from pathlib import Path

import pytest
import xarray as xr

import refreeze
from archives_for_tests import opened
from refreeze.exceptions import RegionError

samples = pytest.importorskip("iris_sample_data")
pytest.importorskip("virtualizarr")

HDF = b"\x89HDF\r\n\x1a\n"
"""NetCDF 3 is read by scipy, which is not among the packages of the tests."""
FILES = [path for path in sorted(Path(samples.path).rglob("*.nc")) if path.read_bytes()[:8] == HDF]
CONTIGUOUS = [path for path in FILES if path.stem in {"E1_north_america", "orca2_votemper"}]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_a_file_as_an_archive(tmp_path, file):
    refreeze.create_template(file, tmp_path / "r")
    refreeze.write_region(file, tmp_path / "r")
    with xr.open_dataset(file) as expected:
        xr.testing.assert_equal(expected.load(), opened(tmp_path / "r").load())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("file", CONTIGUOUS, ids=lambda path: path.stem)
def test_a_file_as_references(tmp_path, file):
    refreeze.create_template(file, tmp_path / "r", references=True)
    refreeze.write_region(file, tmp_path / "r", references=True)
    with xr.open_dataset(file) as expected:
        found = opened(tmp_path / "r", prefixes=[f"file://{file.parent}/"])
        xr.testing.assert_equal(expected.load(), found.load())


@pytest.mark.filterwarnings("ignore")
def test_parts_of_a_file_are_put_together(tmp_path):
    """A file cut along time and longitude, written in another order, is the file."""
    (file,) = [path for path in FILES if path.stem == "E1_north_america"]
    data = xr.load_dataset(file)
    refreeze.create_template(file, tmp_path / "r", chunking="time:50,longitude:20")
    half, third = data.sizes["time"] // 2, data.sizes["longitude"] // 3
    for time in (slice(half, None), slice(0, half)):
        for longitude in (slice(third, None), slice(0, third)):
            part = data.isel(time=time, longitude=longitude)
            refreeze.write_region(part, tmp_path / "r")
    xr.testing.assert_equal(data, opened(tmp_path / "r").load())


@pytest.mark.filterwarnings("ignore")
def test_months_whose_labels_are_all_the_same(tmp_path):
    """NEMO's files count time from their own beginning: the region says the place, their labels are left out."""
    months = [path for path in FILES if path.parent.name == "NEMO"]
    options = {"drop_variables": ["time_centered", "time_centered_bounds"]}
    refreeze.create_template(months[0], tmp_path / "r", dim="time_counter=0:2:1", **options)
    with pytest.raises(RegionError, match="contradicts"):
        refreeze.write_region(months[1], tmp_path / "r", region="time_counter=1:2", **options)
    options["drop_variables"].append("time_counter")
    for number, month in enumerate(months):
        region = {"time_counter": slice(number, number + 1)}
        refreeze.write_region(month, tmp_path / "r", region=region, **options)
    parts = [xr.load_dataset(month) for month in months]
    found = opened(tmp_path / "r").load()
    expected = xr.concat([part.tos for part in parts], "time_counter")
    assert len(months) == 3
    assert found.tos.drop_vars("time_counter").equals(
        expected.drop_vars(["time_counter", "time_centered"])
    )
    for shared in ("nav_lat", "nav_lon", "bounds_lat", "bounds_lon"):
        assert (found[shared].values == parts[2][shared].values).all()
