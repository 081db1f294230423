"""Pictures of `refreeze coverage`, looked at: colours of sizes and ages, chosen dimensions, huge grids, pages with hover."""

from __future__ import annotations

import csv
import html
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from matplotlib import colormaps
from matplotlib.image import imread

import refreeze
from refreeze.verbs.coverage import GridOfArray
from refreeze.verbs.coverage_report import Coverage, array_coverage
from refreeze.verbs.coverage_tally import Tally
from s3_server import servers_required
from scenarios import run

DAY = 86_400


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write 4 by 3 by 2 chunks: sizes grow along x, ages along y, and one column of z is missing."""
    path = tmp_path / "s.zarr"
    array = zarr.open_group(path, mode="w").create_array(
        "air", shape=(4, 3, 2), chunks=(1, 1, 1), dtype="u1", compressors=None,
        dimension_names=("x", "y", "z"),
    )  # fmt: skip
    array[:] = 1
    now = time.time()
    for x in range(4):
        for y in range(3):
            for z in range(2):
                chunk = path / f"air/c/{x}/{y}/{z}"
                chunk.write_bytes(b"1" * (100 * (x + 1)))
                os.utime(chunk, (now - 10 * y * DAY, now - 10 * y * DAY))
    (path / "air/c/2/1/0").unlink()
    (path / "air/c/3/2/0").unlink()
    (path / "air/c/3/2/1").unlink()
    return path


def pixels(report: Coverage, picture: Path, color: str, at: list[tuple[float, float]]) -> Any:
    """Return the colours of a saved picture at positions of the first array's bins."""
    figure = report.plot(color=color)
    figure.canvas.draw()
    image = imread(picture)
    places = [figure.axes[0].transData.transform(one) for one in at]
    return [image[image.shape[0] - 1 - round(y), round(x), :3] for x, y in places]


@pytest.mark.parametrize(
    ("color", "cells", "fractions"),
    [
        ("present", [(0, 0), (2, 1), (3, 2)], [1.0, 0.5, 0.0]),
        ("size", [(0, 0), (2, 0), (3, 0)], [0.0, 2 / 3, 1.0]),
        ("age", [(0, 0), (0, 1), (0, 2)], [0.0, 0.5, 1.0]),
    ],
)
def test_colours_tell_what_was_chosen(
    source: Path, tmp_path: Path, color: str, cells: Any, fractions: list[float]
) -> None:
    """Of the command's picture: fractions on 0 to 1, sizes and ages from the least to the largest."""
    picture = tmp_path / "map.png"
    done = run("coverage", source, "--dims", "x,y", "--color", color, "--output", picture)
    assert done.code == 0, done.err
    report = refreeze.coverage(source, dims=["x", "y"])
    found = pixels(report, picture, color, [(x + 0.5, y + 0.5) for x, y in cells])
    wanted = [colormaps["viridis"](fraction)[:3] for fraction in fractions]
    np.testing.assert_allclose(found, wanted, atol=0.02)


def test_any_two_dimensions_and_the_others_aggregated(source: Path, tmp_path: Path) -> None:
    """The first one is horizontal; a cell counts the chunks of all that is not shown."""
    table = tmp_path / "map.csv"
    done = run("coverage", source, "--dims", "z,x", "--output", table)
    assert done.code == 0, done.err
    rows = list(csv.DictReader(table.open()))
    assert {(row["x_dim"], row["y_dim"]) for row in rows} == {("z", "x")}
    present = {(int(row["x_start"]), int(row["y_start"])): int(row["present"]) for row in rows}
    assert len(rows) == 8
    assert {row["possible"] for row in rows} == {"3"}
    expected = {(z, x): 3 for z in range(2) for x in range(4)} | {(0, 2): 2, (0, 3): 2, (1, 3): 2}
    assert present == expected


def test_a_grid_of_a_million_by_a_thousand_is_readable(tmp_path: Path) -> None:
    """Bands of a picture of 800 by 400 bins have the colours of what is there of them."""
    grid = (1_000_000, 1_000)
    tally = Tally(grid, [0, 1])
    tally.map_present[:] = tally.map_possible()
    tally.map_present[200:400] //= 2
    tally.map_present[600:800, 100:] = 0
    tally.counts[0][:], tally.counts[1][:] = grid[1], grid[0]
    tally.present, tally.smallest, tally.largest = int(tally.map_present.sum()), 1, 1
    array = GridOfArray("/air", grid, (1, 1), ("time", "lat"))
    report = Coverage("s3://b/a.zarr", (array_coverage(array, tally, dict.fromkeys(array.names)),))
    picture = tmp_path / "map.png"
    report.save(picture)
    at = [(100.5, 200.5), (300.5, 200.5), (500.5, 10.5), (700.5, 50.5), (700.5, 200.5)]
    wanted = [colormaps["viridis"](fraction)[:3] for fraction in (1.0, 0.5, 1.0, 1.0, 0.0)]
    np.testing.assert_allclose(pixels(report, picture, "present", at), wanted, atol=0.02)
    assert picture.stat().st_size < 200_000
    report.save(tmp_path / "map.html")
    assert (tmp_path / "map.html").stat().st_size < 3_000_000


BROWSER = """
const fs = require('fs');
const page = fs.readFileSync(process.argv[2], 'utf8');
const map = page.match(/data-map="([^"]*)"/)[1].replaceAll('&quot;', '"').replaceAll('&amp;', '&');
const data = JSON.parse(map);
const line = {textContent: ''};
let image;
const canvas = {
  dataset: {map}, nextElementSibling: line,
  getContext: () => ({
    createImageData: (w, h) => ({data: new Array(4 * w * h)}),
    putImageData: (made) => { image = made.data; },
  }),
  getBoundingClientRect: () => ({left: 10, top: 20, width: 400, height: 300}),
};
global.document = {currentScript: {previousElementSibling: {querySelector: () => canvas}}};
eval(page.match(/<script>([^]*?)<\\/script>/)[1]);
const told = [];
for (const [x, y] of [[15, 25], [260, 170], [409, 319]]) {
  canvas.onmousemove({clientX: x, clientY: y});
  told.push(line.textContent);
}
canvas.onmouseleave();
const w = data.values.length;
const colour = (x, y) => image.slice(4 * (y * w + x), 4 * (y * w + x) + 4);
console.log(JSON.stringify({told, left: line.textContent, full: colour(0, 0), none: colour(3, 2)}));
"""


def test_a_page_tells_what_the_pointer_is_over(source: Path, tmp_path: Path) -> None:
    """The page's own program, run with a canvas that is none; the page needs nothing else."""
    node = shutil.which("node")
    if node is None:
        (pytest.fail if servers_required() and shutil.which("npm") else pytest.skip)("needs node")
    page = tmp_path / "map.html"
    assert run("coverage", source, "--dims", "x,y", "--output", page).code == 0
    text = page.read_text()
    assert not re.search(r"https?://|\bsrc=|\bhref=|@import|url\(", text)
    (tmp_path / "browser.js").write_text(BROWSER)
    command = [node, str(tmp_path / "browser.js"), str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["told"] == [
        "x 0:1, y 0:1: 1 of the chunks present",
        "x 2:3, y 1:2: 0.5 of the chunks present",
        "x 3:4, y 2:3: 0 of the chunks present",
    ]
    assert found["left"].strip() == ""
    assert found["full"] != found["none"]
    assert (found["full"][3], found["none"][3]) == (255, 255)


def test_a_notebook_shows_table_and_pictures(source: Path) -> None:
    """`_repr_html_` escapes what comes from outside and holds the same canvas as a page."""
    report = refreeze.coverage(source)
    text = report._repr_html_()
    assert "<table>" in text
    values = json.loads(html.unescape(text.split('data-map="')[1].split('"')[0]))["values"]
    assert np.array(values).shape == (4, 3)
    hostile = Coverage("s3://b/<script>", report.arrays)
    assert "<script>" not in hostile._repr_html_().split("<table>")[0]
