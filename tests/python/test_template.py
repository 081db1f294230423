"""`create_template`: metadata and coordinates of a whole archive, nothing else."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import xarray as xr
import zarr

import refreeze
from archives_for_tests import commits, day, file_of, opened, repository
from refreeze.exceptions import AlreadyExistsError, MismatchError, SourceNotFoundError

pytest.importorskip("dask")


def array(path, name="t"):
    return zarr.open_array(repository(path).readonly_session("main").store, path=name, mode="r")


def test_ten_years_in_one_commit(tmp_path):
    """The whole grid with its labels, nothing written, less than a megabyte; again: an error."""
    report = refreeze.create_template(
        day(0),
        tmp_path / "r",
        global_start="2000-01-01",
        global_end="2009-12-31",
        dim={"lat": "-90:90:0.25", "lon": "0:359.75:0.25"},
        chunking="time:100,lat:50",
        compression="blosc:zstd:3",
        attributes={"made": "here"},
    )
    assert (report.commits, report.mode, report.snapshot_id is None) == (1, "template", False)
    found = opened(tmp_path / "r")
    assert dict(found.sizes) == {"time": 87_672, "lat": 721, "lon": 1440}
    assert found.time.values[-1] == np.datetime64("2009-12-31T23")
    assert (found.lat.values[[0, 1, -1]] == [-90, -89.75, 90]).all()
    assert found.attrs == {"title": "a test", "made": "here"}
    assert found.t.attrs["units"] == "K"
    stored = array(tmp_path / "r")
    assert stored.chunks == (100, 50, 1440)
    assert stored.nchunks_initialized == 0
    assert stored.compressors[0].to_dict()["configuration"]["cname"] == "zstd"
    assert np.isnan(found.t[-1, -1, -1])
    size = sum(file.stat().st_size for file in (tmp_path / "r").rglob("*") if file.is_file())
    assert size < 1_000_000
    before = commits(tmp_path / "r")
    with pytest.raises(AlreadyExistsError, match="arrays"):
        refreeze.create_template(day(0), tmp_path / "r")
    assert commits(tmp_path / "r") == before


@pytest.mark.parametrize(
    ("span", "freq", "ends", "length"),
    [
        (("2000-01-01", "2000-01-02"), None, ("2000-01-01T00", "2000-01-02T23"), 48),
        (("2000-01-01T06:00", "2000-01-02T06:00"), None, ("2000-01-01T06", "2000-01-02T06"), 25),
        (("2000-02", "2000-02"), None, ("2000-02-01T00", "2000-02-29T23"), 696),
        (("2000", "2000"), "D", ("2000-01-01T00", "2000-12-31T00"), 366),
        (("2000-01-01", "2000-01-02"), "6H", ("2000-01-01T00", "2000-01-02T18"), 8),
        ((None, None), "2h", ("2000-01-01T00", "2000-01-01T22"), 12),
        (("2000-01-01", "2000-12-31"), "MS", ("2000-01-01T00", "2000-12-01T00"), 12),
        ((None, "2000-01-03"), None, ("2000-01-01T00", "2000-01-03T23"), 72),
    ],
)
def test_ranges_of_time(tmp_path, span, freq, ends, length):
    """A date alone, a month or a year is the whole of it; an instant is itself."""
    start, end = span
    refreeze.create_template(day(0), tmp_path / "r", global_start=start, global_end=end, freq=freq)
    times = opened(tmp_path / "r").time.values
    assert [times[0], times[-1]] == [np.datetime64(end) for end in ends]
    assert len(times) == length


def test_labels_keep_the_time_of_day(tmp_path):
    """Daily files of noon: a range of dates has noons, in the units of the file."""
    noons = day(0, steps=3).assign_coords(
        time=np.array(["2000-01-01T12", "2000-01-02T12", "2000-01-03T12"], "M8[ns]")
    )
    refreeze.create_template(
        noons, tmp_path / "r", global_start="1999-12-30", global_end="2000-01-05"
    )
    times = opened(tmp_path / "r").time.values
    assert (times[0], times[-1]) == (np.datetime64("1999-12-30T12"), np.datetime64("2000-01-05T12"))


def test_other_calendars(tmp_path):
    """360 days: the last of February is the thirtieth."""
    times = xr.date_range("2000-01-01", periods=3, freq="D", calendar="360_day", use_cftime=True)
    data = day(0, steps=3).assign_coords(time=times)
    refreeze.create_template(
        data, tmp_path / "r", global_start="2000-02-29", global_end="2000-03-01"
    )
    found = opened(tmp_path / "r").time.values
    assert [str(each)[:10] for each in found] == ["2000-02-29", "2000-02-30", "2000-03-01"]


def test_a_step_that_nobody_knows_is_asked_for(tmp_path):
    with pytest.raises(MismatchError, match="freq"):
        refreeze.create_template(
            day(0).isel(time=[0]), tmp_path / "r", global_start="2000-01-01", global_end="2001"
        )
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("pattern", ["temporal", "spatial", "balanced"])
def test_chunks_from_the_whole_shape(tmp_path, pattern):
    """Within the size that is asked for, long in time, in space, or in both."""
    report = refreeze.create_template(
        day(0),
        tmp_path / "r",
        global_start="2000-01-01",
        global_end="2000-12-31",
        dim="lat=-90:90:1",
        intelligent_chunking=True,
        access_pattern=pattern,
        target_chunk_size_mb=1,
        dry_run=True,
    )
    shape = next(a["chunk_shape"] for a in report.layout if a["name"] == "t")
    assert 400_000 < np.prod(shape) * 4 <= 1_000_000
    if pattern == "temporal":
        assert shape[0] == 8784
    elif pattern == "spatial":
        assert shape[1:] == [181, 4]
    else:
        assert shape[0] < 8784
        assert shape[1] < 181
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_packing(tmp_path, bits):
    """The scale follows from the range; what is not written is missing; all of it comes back."""
    refreeze.create_template(
        day(0),
        tmp_path / "r",
        packing=True,
        packing_bits=bits,
        packing_manual_ranges='{"t": {"min": 0, "max": 30}}',
    )
    found = opened(tmp_path / "r")
    assert array(tmp_path / "r").dtype == np.dtype(f"i{bits // 8}")
    assert found.t.encoding["scale_factor"] == pytest.approx(30 / (2**bits - 2))
    assert found.t.isnull().all()
    refreeze.write_region(day(0), tmp_path / "r")
    scale = found.t.encoding["scale_factor"]
    error = np.abs(opened(tmp_path / "r").t.values - day(0).t.values).max()
    assert error <= scale / 2 + 2e-6


def test_the_range_of_packing(tmp_path):
    """valid_min and valid_max say it, else it has to be given; zeros never do."""
    with pytest.raises(MismatchError, match="nothing says"):
        refreeze.create_template(day(0), tmp_path / "r", packing=True)
    refreeze.create_template(day(0, valid_min=250.0, valid_max=330.0), tmp_path / "r", packing=True)
    assert opened(tmp_path / "r").t.encoding["add_offset"] == 290


@pytest.mark.parametrize(
    ("compression", "codec"),
    [
        ("blosc:lz4:5", "blosc"),
        ("zstd:7", "zstd"),
        ("gzip:4", "gzip"),
        ("none", None),
        ("numcodecs.lzma:preset=2", "numcodecs.lzma"),
        ('bz2:{"level": 3}', "numcodecs.bz2"),
    ],
)
def test_codecs_by_name(tmp_path, compression, codec):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refreeze.create_template(day(0), tmp_path / "r", compression=compression)
        names = [each.to_dict()["name"] for each in array(tmp_path / "r").compressors]
    assert names == ([codec] if codec else [])


def test_shards(tmp_path):
    refreeze.create_template(
        day(0),
        tmp_path / "r",
        global_end="2000-01-10",
        chunking={"time": 24},
        shards={"time": 120},
    )
    assert array(tmp_path / "r").shards == (120, 3, 4)
    refreeze.write_region(day(3), tmp_path / "r")
    assert opened(tmp_path / "r").t.isel(time=slice(72, 96)).equals(day(3).t)
    with pytest.raises(ValueError, match="multiple"):
        refreeze.create_template(
            day(0), tmp_path / "x", chunking={"time": 24}, shards={"time": 100}
        )


@pytest.mark.parametrize(
    "options",
    [
        {"chunking": "time"},
        {"chunking": "time:0"},
        {"chunking": "depth:3"},
        {"compression": "nothing:3"},
        {"compression": "blosc:zstd:99"},
        {"packing": True, "packing_bits": 12},
        {"packing": True, "packing_manual_ranges": "{"},
        {"packing": True, "packing_manual_ranges": {"t": {"min": 3, "max": 3}}},
        {"access_pattern": "sideways"},
        {"dim": "lat"},
        {"dim": "lat=0:10:0"},
        {"global_start": "soon"},
        {"compute": True},
        {"references": True, "packing": True},
    ],
)
def test_malformed_options(tmp_path, options):
    """ValueErrors, and nothing comes into being."""
    with pytest.raises(ValueError):
        refreeze.create_template(day(0), tmp_path / "r", **options)
    assert not (tmp_path / "r").exists()


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "refreeze", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command(tmp_path):
    """Options by their names; JSON; exit codes 0, 1 and 2; stderr stays empty."""
    file = file_of(tmp_path, 0)
    done = run(
        "create-template",
        file,
        tmp_path / "r",
        *("--global-start", "2000-01-01", "--global-end", "2000-12-31", "--freq", "1h"),
        *("--dim", "lat=-20:20:10", "--chunking", "time:100", "--compression", "blosc:zstd:3"),
        *("--packing", "--packing-bits", "16"),
        *("--packing-manual-ranges", '{"t": {"min": 250, "max": 330}}'),
        *("--attribute", "a=b", "--json", "--quiet"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert (report["commits"], report["mode"]) == (1, "template")
    assert opened(tmp_path / "r").sizes == {"time": 8784, "lat": 5, "lon": 4}
    assert run("create-template", file, tmp_path / "r").returncode == 1
    assert run("create-template", file, tmp_path / "s", "--chunking", "x").returncode == 2
    assert run("create-template", tmp_path / "no.nc", tmp_path / "s").returncode == 1
    assert not (tmp_path / "s").exists()


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SourceNotFoundError):
        refreeze.create_template(tmp_path / "no.nc", tmp_path / "r")
    (tmp_path / "text.nc").write_text("no data")
    with pytest.raises(MismatchError, match="neither"):
        refreeze.create_template(tmp_path / "text.nc", tmp_path / "r")


def test_what_has_no_effect_is_said(tmp_path):
    """Options that need another one: a warning names both; the layout shows shards as they are stored."""
    told = {"access_pattern": "spatial", "packing_manual_ranges": {"t": {"min": 0, "max": 1}}}
    report = refreeze.create_template(day(0), tmp_path / "r", dry_run=True, **told)
    assert [text for text in report.warnings if "no effect" in text] == [
        "access_pattern has no effect without intelligent_chunking",
        "packing_manual_ranges has no effect without packing",
    ]
    shards = {"chunking": {"time": 6}, "shards": {"time": 12}}
    report = refreeze.create_template(day(0), tmp_path / "r", **shards)
    assert report.warnings == ()
    assert next(a["chunk_shape"] for a in report.layout if a["name"] == "t") == [12, 3, 4]


def test_a_range_without_times_is_shown_as_it_was_given(tmp_path):
    with pytest.raises(MismatchError, match="no time from 2002 to 2001 by"):
        refreeze.create_template(day(0), tmp_path / "r", global_start="2002", global_end="2001")
