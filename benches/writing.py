"""What writing costs: a template of ten years, regions beside xarray's own, many files by workers.

Prints a table. Every case is a process of its own, which imports and writes a small file before its
clock starts. Not part of `run.py`, which compares listings and ingests; nothing here needs a server.
``--scale`` makes it smaller.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import xarray as xr

import refreeze
from harness import ROOT

ORIGIN = np.datetime64("2000-01-01", "ns")
HOUR = np.timedelta64(1, "h")
CHUNKING = {"time": 24, "lat": 100, "lon": 200}
BY_XARRAY = "xarray.to_zarr(region=)"
BY_REFREEZE: dict[str, dict[str, Any]] = {
    "refreeze.write_region": {},
    "the same, memory 64MiB": {"memory": "64MiB"},
    "the same, not checked": {"missing_check_vars": "none"},
}
ROUNDS = 5
GRIDS = ((361, 720), (721, 1440))
"""Of half a degree and of a quarter, the grid of the template of ten years."""
PACKAGE = ROOT / "target" / "bench"
"""Of the optimised build, that what is measured is imported from."""


def day(number: int, lat: int, lon: int) -> xr.Dataset:
    """Return a day of noise, which does not compress."""
    hours = np.arange(24 * number, 24 * number + 24)
    values = np.random.default_rng(number).normal(280, 10, (24, lat, lon)).astype("f4")
    return xr.Dataset(
        {"t2m": (("time", "lat", "lon"), values, {"units": "K"})},
        coords={
            "time": ORIGIN + hours * HOUR,
            "lat": np.linspace(-90, 90, lat),
            "lon": np.arange(lon) * 360 / lon,
        },
    )


def files_of(folder: Path, count: int, lat: int, lon: int) -> list[Path]:
    """Write days into NetCDF files."""
    folder.mkdir()
    files = [folder / f"day{number:04d}.nc" for number in range(count)]
    for number, path in enumerate(files):
        day(number, lat, lon).to_netcdf(path, engine="h5netcdf")
    return files


def template(file: Path, target: Path, days: int) -> Path:
    """Make a template for so many days."""
    end = str(ORIGIN + days * 24 * HOUR - HOUR)
    refreeze.create_template(file, target, global_end=end, chunking=CHUNKING)
    return target


def by_xarray(files: list[Path], target: Path) -> None:
    """Write regions as xarray does, each a commit."""
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    for file in files:
        session = repo.writable_session("main")
        with xr.open_dataset(file, chunks=None) as data:
            data.drop_vars(["lat", "lon"]).to_zarr(
                session.store, region={"time": "auto"}, consolidated=False, zarr_format=3
            )
        session.commit(file.name)


def ten_years(folder: Path) -> None:
    """Make a template of ten hourly years of three variables on a quarter of a degree."""
    grid = day(0, 4, 8)
    refreeze.create_template(
        grid.assign(u=grid.t2m, v=grid.t2m),
        folder / "ten-years",
        global_start="2000-01-01",
        global_end="2009-12-31",
        dim={"lat": "-90:90:0.25", "lon": "0:359.75:0.25"},
        chunking=CHUNKING,
    )


def one_case(case: str, folder: Path, workers: int) -> dict[str, float]:
    """Measure a case in this process: seconds on the clock and of the CPU, and memory."""
    small = sorted((folder / "small").glob("*.nc"))
    files = sorted((folder / "large").glob("*.nc"))
    if case == BY_XARRAY:
        by_xarray(small[:1], folder / "first")
    else:
        refreeze.write_region(small[0], folder / "first")
    if case in (BY_XARRAY, *BY_REFREEZE, "one commit"):
        target = folder / "target"
    elif case == "many":
        target = folder / "many"
    clock, before = time.monotonic(), _cpu()
    if case == "template":
        ten_years(folder)
    elif case == "many":
        refreeze.write_region(small, target, workers=workers)
    elif case == "one commit":
        refreeze.write_region(files, target)
    elif case == BY_XARRAY:
        by_xarray(files, target)
    else:
        for file in files:
            refreeze.write_region(file, target, **BY_REFREEZE[case])
    return {
        "wall": time.monotonic() - clock,
        "cpu": _cpu() - before,
        "peak": _peak_mb(),
    }


def _peak_mb() -> float:
    # What `getrusage` says begins with the memory of the process that has started this one.
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1.024 / 1000


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def measured(case: str, folder: Path, workers: int = 1) -> dict[str, Any]:
    """Measure a case in a process of its own."""
    command = [sys.executable, __file__, "--case", case, str(folder), "--workers", str(workers)]
    environment = os.environ | {"PYTHONPATH": str(PACKAGE), "ICECHUNK_LOG": "error"}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def medians(cases: list[str], folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Measure cases in turn, several times, each time into a new template."""
    found: dict[str, list[dict[str, float]]] = {case: [] for case in cases}
    large = sorted((folder / "large").glob("*.nc"))
    for _ in range(rounds):
        for case in cases:
            template(large[0], folder / "target", len(large))
            found[case].append(measured(case, folder))
            shutil.rmtree(folder / "target")
    return {
        case: {key: statistics.median(each[key] for each in all_of) for key in all_of[0]}
        for case, all_of in found.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.case:
        print(json.dumps(one_case(asked.case[0], Path(asked.case[1]), asked.workers)))
        return
    many = max(8, int(1000 * asked.scale))
    rows: list[tuple[str, str, dict[str, float], str]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = files_of(folder / "small", many, 4, 8)
        template(small[0], folder / "many", many)
        template(small[0], folder / "first", 1)
        figures = measured("template", folder)
        stored = (file.stat().st_size for file in (folder / "ten-years").rglob("*"))
        rows.append(("template of ten years", f"{sum(stored) / 1000:,.0f} kB", figures, ""))
        # Small ones differ in nothing.
        for lat, lon in GRIDS if asked.scale > 0.1 else GRIDS[:1]:  # noqa: PLR2004
            large = files_of(
                folder / "large", 10, max(4, int(lat * asked.scale)), max(8, int(lon * asked.scale))
            )
            label = f"{len(large)} files of {large[0].stat().st_size / 1e6:,.1f} MB"
            by_case = medians([BY_XARRAY, *BY_REFREEZE, "one commit"], folder, asked.rounds)
            reference = by_case[BY_XARRAY]["wall"]
            rows += [
                (case, label, figures, f"{reference / figures['wall']:.2f}")
                for case, figures in by_case.items()
            ]
            shutil.rmtree(folder / "large")
        figures = measured("many", folder, asked.workers)
        rows.append((f"{asked.workers} workers", f"{many:,} files of 24 steps", figures, ""))
    print("| case | data | wall s | CPU s | throughput of xarray's | peak MB |")
    print("|---|---|---|---|---|---|")
    for case, data, each, ratio in rows:
        print(
            f"| {case} | {data} | {each['wall']:.2f} | {each['cpu']:.2f} | {ratio} "
            f"| {each['peak']:,.0f} |"
        )


# Workers import this program anew.
if __name__ == "__main__":
    main()
