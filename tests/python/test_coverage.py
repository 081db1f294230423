"""Which chunks there are: `refreeze coverage` of stores and repositories, as figures, labels and pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import refreeze
from archives_for_tests import day
from refreeze.exceptions import SourceNotFoundError, TargetNotFoundError

HOURS = 480


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write 480 hours in chunks of 1 by 3 of 6; two days and a half and one single chunk are missing."""
    times = np.datetime64("2019-02-20T00", "h") + np.arange(HOURS)
    data = xr.Dataset(
        {"t2m": (("time", "lat"), np.arange(HOURS * 6, dtype="f4").reshape(HOURS, 6) + 1)},
        {"time": times.astype("datetime64[ns]"), "lat": np.linspace(0, 50, 6)},
    )
    path = tmp_path / "air.zarr"
    data.to_zarr(path, encoding={"t2m": {"chunks": (1, 3)}}, zarr_format=3, consolidated=False)
    start = int((np.datetime64("2019-03-02T00") - times[0]).astype(int))
    for hour in range(start, start + 61):
        for chunk in (path / "t2m" / "c" / str(hour)).iterdir():
            chunk.unlink()
    (path / "t2m" / "c" / "7" / "1").unlink()
    return path


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "refreeze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_ranges_are_told_in_labels(source: Path) -> None:
    """What is missing is told as hours, stop exclusive, and every missing chunk in one range."""
    done = run("coverage", source, "t2m", "--json")
    assert done.returncode == 0, done.stderr
    (array,) = json.loads(done.stdout)["arrays"]
    assert (array["path"], array["possible"], array["missing"]) == ("/t2m", 960, 123)
    assert array["present"] == array["native"] == 837
    assert array["virtual"] == 0
    assert array["density"] == pytest.approx(837 / 960)
    single, days = array["missing_ranges"]
    wanted = ("dim", "start", "stop", "first_label", "last_label", "chunks")
    assert [days[name] for name in wanted] == [
        "time", 240, 301, "2019-03-02T00", "2019-03-04T12", 122
    ]  # fmt: skip
    assert [single[name] for name in wanted] == [
        "time", 7, 8, "2019-02-20T07", "2019-02-20T07", 1
    ]  # fmt: skip
    text = run("coverage", source, "t2m").stdout
    assert "2019-03-02T00 to 2019-03-04T12 (61 steps)" in text


def test_repositories_tell_native_and_virtual(source: Path, tmp_path: Path) -> None:
    """A repository has the same chunks as its source: references, and copied coordinates."""
    target = tmp_path / "air.icechunk"
    refreeze.ingest(str(source), str(target))
    arrays = {array.path: array for array in refreeze.coverage(str(target)).arrays}
    assert (arrays["/t2m"].virtual, arrays["/t2m"].native) == (837, 0)
    assert (arrays["/time"].virtual, arrays["/time"].native) == (0, arrays["/time"].present)
    of_source = refreeze.coverage(str(source), ["t2m"]).arrays[0]
    assert arrays["/t2m"].missing_ranges == of_source.missing_ranges
    assert arrays["/t2m"].bytes == of_source.bytes
    done = run("status", "--coverage", target, "--json")
    shown = {array["path"]: array for array in json.loads(done.stdout)["arrays"]}
    assert shown["/t2m"]["present"] == 837


def test_status_tells_which_part_of_a_template_is_written(tmp_path: Path) -> None:
    """Ranges of labels for each variable, of chunks that exist: whole, partly, and all missing."""
    pytest.importorskip("dask")
    target = tmp_path / "r"
    data = day(0).assign(u=day(0).t)
    refreeze.create_template(data, target, global_end="2000-01-10", chunking="time:24,lat:2")

    def sections() -> dict[str, str]:
        text = run("status", "--coverage", target).stdout
        assert "partly written counts" in text
        return {part.partition(":")[0]: part for part in text.replace("\n/", "\n\n/").split("\n\n")}

    assert "written:" not in sections()["/t"] + sections()["/u"]
    missing = day(1).assign(u=day(1).t)
    missing["t"][...] = np.nan
    refreeze.write_region([missing, day(2).isel(time=slice(0, 5)), day(8)], target)
    of_t, of_u = sections()["/t"], sections()["/u"]
    assert "written: time 2000-01-02T00 to 2000-01-03T23 (48 steps): 4 chunks\n" in of_t
    assert "written: time 2000-01-09T00 to 2000-01-09T23 (24 steps): 2 chunks\n" in of_t
    assert "written: lat -10.0 to 10.0 (3 steps): 6 chunks, not all of them" in of_t
    assert "written: time 2000-01-02T00 to 2000-01-02T23 (24 steps): 2 chunks\n" in of_u
    done = run("status", "--coverage", target, "--json")
    (array,) = [each for each in json.loads(done.stdout)["arrays"] if each["path"] == "/u"]
    fields = {"path", "possible", "present", "missing", "density", "native", "virtual"}
    assert fields | {"missing_ranges", "written_ranges"} <= set(array)
    fields = {"dim", "start", "stop", "first_label", "last_label", "chunks"}
    assert all(fields <= set(each) for each in array["missing_ranges"])
    assert array["written_ranges"][0] == {
        "dim": "time",
        "start": 24,
        "stop": 48,
        "first_label": "2000-01-02T00",
        "last_label": "2000-01-02T23",
        "chunks": 2,
        "whole": True,
    }


def test_every_missing_chunk_is_in_one_range(tmp_path: Path) -> None:
    """Whole slabs come first, what is left along the dimension that it takes least of."""
    from refreeze.verbs.coverage_tally import Tally

    random = np.random.default_rng(7)
    for _ in range(50):
        grid = tuple(random.integers(1, 7, size=random.integers(1, 4)))
        there = random.random(grid) < random.random()
        there[:: random.integers(2, 4)] = False
        tally = Tally([int(n) for n in grid], [0])
        coords = [axis.astype("u4") for axis in np.nonzero(there)]
        sizes = np.full(len(coords[0]), 8, dtype="u8")
        tally.add(coords, sizes, np.full(len(sizes), -1), virtual=0)
        assert sum(run.chunks for run in tally.missing()) == there.size - there.sum()
        assert tally.map_present.sum() == there.sum()


def test_a_picture_shows_the_gap(source: Path, tmp_path: Path) -> None:
    """The picture has a size, and the colours of 0 and 1 at places that are known."""
    from matplotlib import colormaps
    from matplotlib.image import imread

    report = refreeze.coverage(str(source), ["t2m"], dims=["time", "lat"])
    assert report.arrays[0].tally.map_present.shape == (480, 2)
    output = tmp_path / "map.png"
    assert run("coverage", source, "t2m", "--output", output).returncode == 0
    image = imread(output)
    figure = report.plot()
    figure.canvas.draw()
    axes = figure.axes[0]
    height, width = image.shape[:2]
    assert (width, height) == (1440, 504)
    for hour, fraction in ((100, 1.0), (270, 0.0)):
        x, y = axes.transData.transform((hour + 0.5, 0.5))
        pixel = image[height - 1 - round(y), round(x), :3]
        np.testing.assert_allclose(pixel, colormaps["viridis"](fraction)[:3], atol=0.02)


@pytest.mark.parametrize("suffix", ["svg", "html", "csv", "parquet"])
def test_other_outputs(source: Path, tmp_path: Path, suffix: str) -> None:
    """Pages load nothing from elsewhere; tables hold each cell with its fraction."""
    output = tmp_path / f"map.{suffix}"
    assert run("coverage", source, "t2m", "--output", output, "--dims", "time").returncode == 0
    content = output.read_bytes()
    if suffix == "parquet":
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(output).to_pylist()
        assert len(table) == 480
        assert [row["fraction"] for row in table[239:242]] == [1.0, 0.0, 0.0]
        assert table[240]["x_first_label"] == "2019-03-02T00"
    elif suffix == "html":
        assert b"canvas" in content
        assert b"src=" not in content
        assert b"href=" not in content
    else:
        assert len(content) > 1000


def test_python_shows_xarray_and_html(source: Path) -> None:
    """A notebook gets a table, xarray the fractions by element."""
    report = refreeze.coverage(str(source), ["t2m"])
    data = report.to_xarray()
    assert float(data["t2m"].sel(time=240).sum()) == 0
    assert float(data["t2m"].sel(time=7).sum()) == 1
    assert "2019-03-02T00" in report._repr_html_()


def test_a_sparse_grid_is_binned(tmp_path: Path) -> None:
    """A million by a thousand possible chunks take a picture of 800 by 400."""
    import zarr

    group = zarr.open_group(tmp_path / "wide.zarr", mode="w", zarr_format=3)
    array = group.create_array("x", shape=(1_000_000, 1_000), chunks=(1, 1), dtype="u1")
    array[5, 3] = 1
    (covered,) = refreeze.coverage(str(tmp_path / "wide.zarr")).arrays
    assert covered.present == 1
    assert covered.tally.map_present.shape == (800, 400)
    assert sum(one.chunks for one in covered.missing_ranges) == 10**9 - 1


def test_what_is_not_there_is_said(source: Path, tmp_path: Path) -> None:
    """Missing arrays, places and dimensions are errors of their classes and exit codes."""
    target = tmp_path / "air.icechunk"
    refreeze.ingest(str(source), str(target))
    with pytest.raises(SourceNotFoundError, match="no array wind"):
        refreeze.coverage(str(source), ["wind"])
    with pytest.raises(TargetNotFoundError, match="no array wind"):
        refreeze.coverage(str(target), ["wind"])
    with pytest.raises(SourceNotFoundError):
        refreeze.coverage(str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="dimension level"):
        refreeze.coverage(str(source), dims=["level"])
    assert run("coverage", source, "--output", "map.pdf").returncode == 2
    assert run("coverage", tmp_path / "nothing").returncode == 1


def test_list_shows_what_a_repository_holds(source: Path, tmp_path: Path) -> None:
    """`list REPOSITORY --array NAME` streams manifests into the same tables."""
    import pyarrow.parquet

    target, output = tmp_path / "air.icechunk", tmp_path / "t2m.parquet"
    refreeze.ingest(str(source), str(target))
    done = run("list", target, "--array", "t2m", "--json", "--output", output)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["chunks"] == 837
    table = pyarrow.parquet.read_table(output)
    assert table.num_rows == 837
    assert set(table["kind"].to_pylist()) == {"virtual"}
    assert table["chunk_0"].to_pylist()[:2] == [0, 0]
    assert json.loads(run("list", source, "--array", "t2m", "--json").stdout)["chunks"] == 837
    assert run("list", target, "--array", "wind").returncode == 1
