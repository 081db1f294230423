"""What writing costs: a template of ten years, regions beside xarray's own, many files by workers.

Prints a table. Not part of `run.py`, which compares listings and ingests; nothing here needs a
server. ``--scale`` makes it smaller.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import xarray as xr

import refreeze

ORIGIN = np.datetime64("2000-01-01", "ns")
HOUR = np.timedelta64(1, "h")
CHUNKING = {"time": 24, "lat": 100, "lon": 200}


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


def measured(work: Callable[[], Any]) -> tuple[float, float]:
    """Return seconds on the clock and of the CPU, children included."""

    def cpu() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(each.ru_utime + each.ru_stime for each in used)

    clock, before = time.monotonic(), cpu()
    work()
    return time.monotonic() - clock, cpu() - before


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--workers", type=int, default=4)
    scale = parser.parse_args()
    lat, lon = max(4, int(361 * scale.scale)), max(8, int(720 * scale.scale))
    many = max(8, int(1000 * scale.scale))
    rows: list[tuple[str, str, float, float]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        grid = day(0, 4, 8)
        ten_years = folder / "ten-years"
        seconds = measured(
            lambda: refreeze.create_template(
                grid.assign(u=grid.t2m, v=grid.t2m),
                ten_years,
                global_start="2000-01-01",
                global_end="2009-12-31",
                dim={"lat": "-90:90:0.25", "lon": "0:359.75:0.25"},
                chunking=CHUNKING,
            )
        )
        size = sum(file.stat().st_size for file in ten_years.rglob("*") if file.is_file())
        rows.append(("template of ten years", f"{size / 1000:,.0f} kB", *seconds))

        files = files_of(folder, 10, lat, lon)
        label = f"10 files of {files[0].stat().st_size / 1e6:,.1f} MB"
        for tool, work in (
            ("refreeze.write_region", lambda to: [refreeze.write_region(f, to) for f in files]),
            ("xarray.to_zarr(region=)", lambda to: by_xarray(files, to)),
            ("refreeze, one commit", lambda to: refreeze.write_region(files, to)),
        ):
            target = template(files[0], folder / tool.replace(" ", "-"), 10)
            rows.append((tool, label, *measured(lambda w=work, t=target: w(t))))  # type: ignore[misc]

        small = files_of(folder, many, 4, 8)
        target = template(small[0], folder / "many", many)
        seconds = measured(lambda: refreeze.write_region(small, target, workers=scale.workers))
        rows.append((f"{scale.workers} workers", f"{many:,} files of 24 steps", *seconds))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print("| case | data | wall s | CPU s |\n|---|---|---|---|")
    for case, data, wall, cpu in rows:
        print(f"| {case} | {data} | {wall:.2f} | {cpu:.2f} |")
    print(f"\nPeak memory of this process: {peak:,.0f} MB.")


# Workers import this program anew.
if __name__ == "__main__":
    main()
