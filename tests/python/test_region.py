"""`write_region`: data of files in the place that their labels say, or an error that says why not."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
import zarr

import refreeze
from archives_for_tests import HOUR, commits, day, file_of, opened, repository
from refreeze.exceptions import (
    IncompleteError,
    MismatchError,
    RegionError,
    SourceNotFoundError,
    TargetNotFoundError,
)

pytest.importorskip("dask")


def template(path, days=10, data=None, **options):
    options = {"global_end": f"2000-01-{days:02d}", "chunking": "time:100", **options}
    refreeze.create_template(day(0) if data is None else data, path, **options)
    return path


@pytest.fixture
def target(tmp_path):
    return template(tmp_path / "r")


def whole(days=10):
    return xr.concat([day(k) for k in range(days)], "time", data_vars="minimal")


def test_files_of_every_kind(tmp_path, target):
    """NetCDF, Zarr and open data sets, one or several, in any order: each call is one commit."""
    before = commits(target)
    report = refreeze.write_region(file_of(tmp_path, 3), target)
    assert (report.commits, report.files, report.mode) == (1, 1, "region")
    assert report.regions[0]["region"] == {"time": [72, 96], "lat": [0, 3], "lon": [0, 4]}
    day(1).to_zarr(tmp_path / "day1.zarr", consolidated=False)
    refreeze.write_region([tmp_path / "day1.zarr", day(0), str(file_of(tmp_path, 2))], target)
    refreeze.write_region([day(k) for k in range(4, 10)], target)
    assert commits(target) == before + 3
    assert opened(target).t.equals(whole().t)


@pytest.mark.parametrize("dim", ["time", "lat", "lon"])
def test_reversed_axes_are_flipped(target, dim):
    refreeze.write_region(day(2).isel({dim: slice(None, None, -1)}), target)
    assert opened(target).t.isel(time=slice(48, 72)).equals(day(2).t)


def test_other_order_of_dimensions_and_chunks(tmp_path):
    """The file's dimensions in another order, the target's chunks across all of them."""
    target = template(tmp_path / "r", chunking="time:7,lat:2,lon:3")
    for number in range(10):
        refreeze.write_region(day(number).transpose("lon", "time", "lat"), target)
    assert opened(target).t.equals(whole().t)


def test_labels_that_differ_by_rounding(tmp_path):
    """float32 and float64, and 1e-12 beside it, are the same label."""
    data = day(0).assign_coords(lat=np.array([0.1, 0.2, 0.3]))
    target = template(tmp_path / "r", data=data)
    refreeze.write_region(data.assign_coords(lat=data.lat.astype("f4")), target)
    later = day(1).assign_coords(lat=data.lat + 1e-12)
    refreeze.write_region(later, target)
    assert opened(target).t[24:48].values.tolist() == day(1).t.values.tolist()


TROUBLE = {
    "half an hour": (
        lambda d: d.assign_coords(time=d.time + np.timedelta64(30, "m")),
        "00:30.*nearest.*01:00",
    ),
    "partly outside": (
        lambda d: d.assign_coords(time=d.time + 20 * 24 * HOUR),
        "2000-01-22.*nearest.*2000-01-10T23",
    ),
    "a gap": (lambda d: d.isel(time=[0, 1, 3]), "after.*01:00.*comes.*03:00"),
    "twice": (lambda d: d.isel(time=[0, 1, 1, 2]), "twice"),
    "shuffled": (lambda d: d.isel(time=[0, 2, 1]), "follow"),
    "another latitude": (lambda d: d.assign_coords(lat=[-10.0, 0.5, 10.0]), "0.5.*nearest.*0.0"),
    "no labels": (lambda d: d.drop_vars("time"), "no labels"),
}


@pytest.mark.parametrize("kind", TROUBLE)
def test_what_does_not_match_is_refused(target, kind):
    """The error says which label, where, and the nearest; nothing is committed."""
    change, said = TROUBLE[kind]
    before = commits(target)
    with pytest.raises(RegionError) as error:
        refreeze.write_region(change(day(1)), target)
    assert re.search(said, str(error.value))
    assert commits(target) == before


def test_given_regions(target):
    """They are checked against the labels, wherever chunks end; without labels they count."""
    refreeze.write_region(day(1), target, region={"time": slice(24, 48)})
    refreeze.write_region(day(1), target, region="time=24:48,lat=0:3")
    refreeze.write_region(day(2).drop_vars("time"), target, region=["time=48:72", "lat=:"])
    assert opened(target).t[24:72].equals(whole().t[24:72])
    for region, said in (
        ({"time": slice(0, 24)}, "contradicts.*element 24.*time=24:48"),
        ({"time": slice(24, 47)}, "23 elements.*24"),
        ({"depth": slice(0, 1)}, "depth.*time"),
        ({"time": slice(24, 48, 2)}, "step"),
    ):
        with pytest.raises(RegionError) as error:
            refreeze.write_region(day(1), target, region=region)
        assert re.search(said, str(error.value).replace("\n", " "))
    with pytest.raises(ValueError):
        refreeze.write_region(day(1), target, region="time=a:b")


MISFITS = {
    "units": (lambda d: d.assign(t=d.t.assign_attrs(units="degC")), "degC.*K"),
    "type": (lambda d: d.astype("f8"), "float64.*float32"),
    "variable": (lambda d: d.assign(q=d.t), "'q'"),
    "dimension": (lambda d: d.rename(lon="x"), "'x'"),
    "fewer dimensions": (lambda d: d.isel(lat=0, drop=True), "dimensions"),
    "calendar": (
        lambda d: d.assign_coords(
            time=xr.date_range(
                "2000-01-02", periods=24, freq="h", calendar="noleap", use_cftime=True
            )
        ),
        "noleap.*standard",
    ),
    "nothing": (lambda d: d.drop_vars("t"), "no variable"),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_what_does_not_go_with_the_template(target, kind):
    change, said = MISFITS[kind]
    with pytest.raises(MismatchError) as error:
        refreeze.write_region(change(day(1)), target)
    assert re.search(said, str(error.value))


@pytest.mark.parametrize("kind", [*TROUBLE, *MISFITS])
def test_an_update_of_a_region_refuses_the_same(target, kind):
    """`write` asks for labels, units and types as `write_region` does, in words or in slices."""
    change, said = (TROUBLE | MISFITS)[kind]
    before = commits(target)
    for region in ("auto", {"time": "auto"}):
        with pytest.raises((RegionError, MismatchError)) as error:
            refreeze.write(change(day(1)), target, mode="update", region=region)
        assert re.search(said, str(error.value))
    assert commits(target) == before


def test_an_update_of_a_region_finds_its_place(target):
    """By labels, also of a reversed axis; slices are checked; chunks that are shared keep the rest."""
    refreeze.write(day(2).isel(lat=slice(None, None, -1)), target, mode="update", region="auto")
    refreeze.write(day(1).chunk({"time": 5}), target, mode="update", region={"time": "auto"})
    refreeze.write(day(0), target, mode="update", region={"time": slice(0, 24)})
    with pytest.raises(RegionError, match="contradicts"):
        refreeze.write(day(3), target, mode="update", region={"time": slice(0, 24)})
    assert opened(target).t[:72].equals(whole(3).t)


def test_casts_have_to_be_allowed(target):
    refreeze.write_region(day(1, dtype="f8"), target, cast=True)
    assert opened(target).t[24:48].values.tolist() == day(1).t.values.tolist()
    too_large = day(1, dtype="f8")
    too_large["t"][0, 0, 0] = 1e300
    with pytest.raises(MismatchError, match="cannot hold"):
        refreeze.write_region(too_large, target, cast=True)


def test_other_units_of_time_are_the_same_labels(tmp_path, target):
    """Files that count hours from their own beginning, and times as data, are re-encoded exactly."""
    data = day(2)
    data.time.encoding = {"units": "hours since 2000-01-03", "dtype": "i4"}
    refreeze.write_region(file_of(tmp_path, 2, data), target)
    assert opened(target).t[48:72].equals(day(2).t)


def packed(path):
    ranges = {"t": {"min": 0, "max": 30}}
    return template(path, packing=True, packing_manual_ranges=ranges)


def test_values_out_of_the_packed_range(tmp_path):
    """An error that names one, or clipped, or missing, as is asked for."""
    target = packed(tmp_path / "r")
    with pytest.raises(MismatchError, match="out of the packed range"):
        refreeze.write_region(day(1), target)
    refreeze.write_region(day(1), target, packing_range_exceeded_action="clip")
    assert opened(target).t[47, 0, 0] == pytest.approx(30)
    refreeze.write_region(day(1), target, packing_range_exceeded_action="nan")
    assert np.isnan(opened(target).t[47, 0, 0])
    assert opened(target).t[24, 0, 0] == pytest.approx(24, abs=1e-3)


def test_values_that_would_be_missing(tmp_path, monkeypatch):
    """They are written again as often as is asked for, then it is an error and not a commit."""
    data = day(0)
    data.t.encoding["_FillValue"] = np.float32(5)
    target = template(tmp_path / "r", data=data)
    before = commits(target)
    with pytest.raises(IncompleteError, match=r"t are there.*missing"):
        refreeze.write_region(day(0), target)
    assert commits(target) == before
    refreeze.write_region(day(0), target, missing_check_vars="none")
    with pytest.raises(IncompleteError):
        refreeze.write_region(day(0), target, missing_check_vars=["t"])


@pytest.mark.parametrize("held", [False, True], ids=["given", "held by a converter"])
@pytest.mark.parametrize("case", [(2, 2, True), (2, 1, False)])
def test_retries_on_missing(target, monkeypatch, case, held):
    """N retries are N + 1 attempts, wherever the option stands."""
    failures, retries, fine = case
    options = {"retries_on_missing": retries}
    write = refreeze.write_region
    if held:
        write, options = refreeze.ZarrConverter(**options).write_region, {}
    real, left = zarr.Array.__setitem__, [failures]

    def lossy(self, place, values):
        if left[0]:
            left[0] -= 1
            values = np.full_like(values, np.nan)
        real(self, place, values)

    monkeypatch.setattr(zarr.Array, "__setitem__", lossy)
    if fine:
        write(day(1), target, **options)
        assert opened(target).t[24:48].equals(day(1).t)
    else:
        with pytest.raises(IncompleteError, match="2 attempts"):
            write(day(1), target, **options)


def test_missing_values_stay_missing_and_count_as_written(target):
    data = day(1)
    data["t"][...] = np.nan
    refreeze.write_region(data, target)
    store = repository(target).readonly_session("main").store
    assert zarr.open_array(store, path="t", mode="r").nchunks_initialized == 1


def test_variables_that_every_file_has_in_full(tmp_path):
    """The first file writes them; another with other values is refused, or leaves them out."""
    mask = xr.DataArray(np.arange(3.0), dims="lat")
    target = template(tmp_path / "r", data=day(0).assign(mask=mask))
    refreeze.write_region([day(0).assign(mask=mask), day(1).assign(mask=mask)], target)
    refreeze.write_region(day(2).assign(mask=mask), target)
    with pytest.raises(MismatchError, match=r"mask.*other values"):
        refreeze.write_region(day(3).assign(mask=mask + 1), target)
    refreeze.write_region(day(3).assign(mask=mask + 1), target, drop_variables="mask")
    assert opened(target).mask.values.tolist() == [0, 1, 2]
    assert opened(target).t[:96].equals(whole(4).t)


def test_dry_runs_and_progress(target):
    before, events = commits(target), []
    report = refreeze.write_region(day(1), target, dry_run=True)
    assert (report.dry_run, report.snapshot_id, report.commits) == (True, None, 0)
    assert commits(target) == before
    refreeze.write_region([day(1), day(2)], target, progress=events.append)
    assert [event["stage"] for event in events] == ["write", "write", "commit", "done"]
    assert events[-1]["files_done"] == events[-1]["files_total"] == 2


def test_two_files_with_the_same_elements(target):
    with pytest.raises(MismatchError, match="same elements"):
        refreeze.write_region([day(1), day(2).isel(time=slice(0, 5)), day(2)], target)


def test_places_that_are_not_there(tmp_path, target):
    with pytest.raises(SourceNotFoundError):
        refreeze.write_region(tmp_path / "no.nc", target)
    with pytest.raises(TargetNotFoundError):
        refreeze.write_region(day(1), tmp_path / "nowhere")
    with pytest.raises(TargetNotFoundError, match="create-template"):
        refreeze.write_region(day(1), target, group="other")


def test_the_converter(tmp_path):
    """Options held for both calls; names that nobody knows are TypeErrors."""
    converter = refreeze.ZarrConverter(
        chunking={"time": 100, "lat": 3, "lon": 4}, compression="blosc:zstd:3", retries_on_missing=1
    )
    converter.create_template(
        template_dataset=day(0),
        output_path=str(tmp_path / "r"),
        global_start="2000-01-01",
        global_end="2000-01-10",
        compute=False,
        intelligent_chunking=True,
        access_pattern="temporal",
    )
    for number in range(10):
        converter.write_region(str(file_of(tmp_path, number)), str(tmp_path / "r"))
    converter.write_region(
        input_file=day(1), zarr_path=tmp_path / "r", region={"time": slice(24, 48)}
    )
    assert opened(tmp_path / "r").t.equals(whole().t)
    with pytest.raises(TypeError, match="colour"):
        refreeze.ZarrConverter(colour=1)
    with pytest.raises(TypeError, match="colour"):
        converter.create_template(day(0), tmp_path / "s", colour=1)
    with pytest.raises(TypeError, match="freq"):
        converter.write_region(day(0), tmp_path / "r", freq="1h")


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "refreeze", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command(tmp_path, target):
    """Several files by two workers are one commit; errors of data exit 1, malformed options 2."""
    files, before = [file_of(tmp_path, k) for k in range(5)], commits(target)
    done = run("write-region", *files, target, "--workers", 2, "--json", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert (report["commits"], report["files"]) == (1, 5)
    assert report["snapshot_id"] == repository(target).lookup_branch("main")
    assert commits(target) == before + 1
    assert opened(target).t[:120].equals(whole(5).t)
    wrong = run("write-region", files[0], target, "--region", "time=1:25,lat=0:3", "--json")
    assert wrong.returncode == 1
    assert json.loads(wrong.stdout)["error"]["type"] == "RegionError"
    assert run("write-region", files[0], target, "--region", "time").returncode == 2
    assert run("write-region", files[0], target, "--retries-on-missing", "x").returncode == 2
    assert run("write-region", target).returncode == 2


@pytest.mark.parametrize("calendar", ["standard", "360_day"])
def test_bounds_of_times(tmp_path, calendar):
    """They have the units of their coordinate, which each file may count from another beginning."""

    def month(number):
        times = xr.date_range(
            "2000-01-01", periods=4, freq="MS", calendar=calendar, use_cftime=calendar != "standard"
        )
        middle = times[number : number + 1] + np.timedelta64(14, "D").astype("m8[us]").item()
        edges = np.stack([times[number : number + 1], times[number + 1 : number + 2]], axis=1)
        data = xr.Dataset(
            {"t": ("time", [float(number)]), "time_bnds": (("time", "bnds"), edges)},
            coords={"time": ("time", middle, {"bounds": "time_bnds"})},
        )
        data.time.encoding = {
            "units": f"days since 2000-{number + 1:02d}-01",
            "calendar": calendar,
            "dtype": "f8",
        }
        path = tmp_path / f"month{number}.nc"
        data.to_netcdf(path, engine="h5netcdf")
        return path

    files = [month(k) for k in range(3)]
    labels = xr.concat([xr.open_dataset(file) for file in files], "time")
    refreeze.create_template(
        labels.drop_encoding().assign_coords(
            time=labels.time.drop_attrs(deep=False).assign_attrs(bounds="time_bnds")
        ),
        tmp_path / "r",
    )
    for file in files:
        refreeze.write_region(file, tmp_path / "r")
    assert opened(tmp_path / "r").time_bnds.values.tolist() == labels.time_bnds.values.tolist()
    assert opened(tmp_path / "r").t.values.tolist() == [0, 1, 2]
