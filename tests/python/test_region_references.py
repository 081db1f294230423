"""References to chunks of files in a template: nothing is copied, and nothing reads wrongly."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr
import zarr

import refreeze
from archives_for_tests import day, file_of, opened, repository
from refreeze.exceptions import MismatchError

pytest.importorskip("virtualizarr")

STORED = {"chunksizes": (12, 3, 4), "zlib": True, "complevel": 1, "shuffle": True}


@pytest.fixture
def target(tmp_path):
    refreeze.create_template(
        file_of(tmp_path, 0, **STORED), tmp_path / "r", global_end="2000-01-05", references=True
    )
    return tmp_path / "r"


def read(path):
    return opened(path, prefixes=[f"file://{path.parent}/"])


def test_references_read_as_the_files_do(tmp_path, target):
    """Every chunk is a reference; another level of compression makes no difference."""
    files = [file_of(tmp_path, k, **STORED | {"complevel": k + 1}) for k in range(5)]
    refreeze.write_region(files[2], target, references=True)
    report = refreeze.write_region([*files[:2], *files[3:]], target, references=True)
    assert report.commits == 1
    assert read(target).t.equals(xr.concat([day(k) for k in range(5)], "time").t)
    chunks = [file for file in (target / "chunks").rglob("*") if file.is_file()]
    assert chunks == []
    assert [each.virtual for each in refreeze.coverage(target, ["t"]).arrays] == [10]


def test_a_file_that_changes_afterwards_is_noticed(tmp_path, target):
    file = file_of(tmp_path, 1, **STORED)
    refreeze.write_region(file, target, references=True)
    os.utime(file, (2e9, 2e9))
    with pytest.raises(Exception, match=r"(?i)modified|changed|checksum"):
        read(target).t[24:48].load()


def test_a_change_that_lies_in_the_past_is_noticed(tmp_path, target):
    """A reference has the time of its file, not that of the writing."""
    file = file_of(tmp_path, 1, **STORED)
    os.utime(file, (1e9, 1e9))
    refreeze.write_region(file, target, references=True)
    assert read(target).t[24:48].equals(day(1).t)
    os.utime(file, (1.1e9, 1.1e9))
    with pytest.raises(Exception, match=r"(?i)modified|changed|checksum"):
        read(target).t[24:48].load()


def test_writers_of_references_at_once(tmp_path, target):
    """No commit touches what another needs to be put on top of it; attributes stay."""
    files = [file_of(tmp_path, k, **STORED) for k in range(5)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda file: refreeze.write_region(file, target, references=True), files))
    assert read(target).t.equals(xr.concat([day(k) for k in range(5)], "time").t)
    assert read(target).attrs == {"title": "a test"}


TROUBLE = {
    "codecs": (day, STORED | {"shuffle": False}, "codecs"),
    "chunks": (day, STORED | {"chunksizes": (8, 3, 4)}, "chunks"),
    "half a chunk": (lambda k: day(k).isel(time=slice(0, 18)), STORED, "begin and end"),
    "reversed": (lambda k: day(k).isel(lat=slice(None, None, -1)), STORED, "other way"),
    "packing": (
        day,
        STORED | {"dtype": "i2", "scale_factor": 0.1, "_FillValue": -9},
        "float64",
    ),
}


@pytest.mark.parametrize("kind", TROUBLE)
def test_what_would_read_wrongly_is_refused(tmp_path, target, kind):
    """The error says what differs, and that copying would do."""
    change, stored, said = TROUBLE[kind]
    with pytest.raises(MismatchError, match=f"(?s){said}.*(copied|cast)"):
        refreeze.write_region(file_of(tmp_path, 1, change(1), **stored), target, references=True)
    with pytest.raises(MismatchError, match="no file"):
        refreeze.write_region(day(1), target, references=True)


def test_values_may_be_copied_into_it_all_the_same(tmp_path, target):
    refreeze.write_region(file_of(tmp_path, 0, **STORED), target, references=True)
    refreeze.write_region(day(1).isel(lat=slice(None, None, -1)), target)
    assert read(target).t[:48].equals(xr.concat([day(0), day(1)], "time").t)


def test_packed_files(tmp_path):
    """The template has the packing of the file, so that its bytes mean the same."""
    stored = STORED | {"dtype": "i2", "scale_factor": 0.1, "add_offset": 5.0, "_FillValue": -9}
    files = [file_of(tmp_path, k, **stored) for k in range(3)]
    target = tmp_path / "r"
    refreeze.create_template(files[0], target, global_end="2000-01-03", references=True)
    refreeze.write_region(files[1:], target, references=True)
    expected = xr.concat([xr.open_dataset(file) for file in files], "time").t
    assert np.isnan(read(target).t[:24]).all()
    assert read(target).t[24:].equals(expected[24:])
    store = repository(target).readonly_session("main").store
    assert zarr.open_array(store, path="t", mode="r").dtype == np.dtype("i2")
