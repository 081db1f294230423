"""The benchmarks run, on little data: figures are of no interest here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def printed_by(script, options, folder):
    """Run a benchmark; what goes wrong is said on stderr, which pytest shows with a failure."""
    command = [sys.executable, ROOT / "benches" / script, *options]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=folder)
    return ran.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario",
    [
        "start",
        "listing",
        "append",
        "reading",
        "checking",
        "clouds",
        "files",
        "formats",
        "compression",
    ],
)
def test_a_scenario_measures_what_it_compares(tmp_path, scenario):
    """Every tool of a scenario has a row with the figures that its tables show, on disk as JSON too."""
    options = ["--only", scenario, "--scale", "0.001", "--runs", "1", "--package", ROOT / "python"]
    files = [
        "--endpoint",
        ROOT / "target" / "debug" / "refreeze-endpoint",
        "--output",
        tmp_path / "results",
    ]
    table = printed_by("run.py", [*options, *files], tmp_path)
    assert table.strip() == (tmp_path / "results.md").read_text().strip()
    (section,) = json.loads((tmp_path / "results.json").read_text())["sections"]
    assert len({row["tool"] for row in section["rows"]}) > 1
    assert section["checks"]
    assert all(row["rss"] > row["cpu"] > 0 for row in section["rows"])
    assert all(set(section["columns"]) <= set(row) for row in section["rows"])


@pytest.mark.slow
def test_writing_is_measured(tmp_path):
    """Every case has its line: a template, regions by two tools, many files by workers."""
    pytest.importorskip("dask")
    options = ["--scale", "0.01", "--workers", "1", "--rounds", "1"]
    table = printed_by("writing.py", options, tmp_path)
    for case in ("template", "refreeze.write_region", "xarray.to_zarr", "one commit", "1 workers"):
        assert f"| {case}" in table
