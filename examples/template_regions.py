"""A template of a year, then daily files written into it: one by one, and several by workers.

Run it with a folder to work in, or without for a temporary one. It needs refreeze[writers].
"""

import sys
import tempfile
from pathlib import Path

import icechunk
import numpy as np
import xarray as xr

import refreeze


def write_day(folder: Path, number: int) -> Path:
    """Write a day of hourly data into a NetCDF file."""
    hours = np.arange(24 * number, 24 * number + 24)
    values = 280 + np.sin(hours / 24)[:, None] + np.zeros(4)
    data = xr.Dataset(
        {"t2m": (("time", "x"), values, {"units": "K"})},
        coords={"time": np.datetime64("2024-01-01", "ns") + hours * np.timedelta64(1, "h")},
    )
    path = folder / f"day{number:03d}.nc"
    data.to_netcdf(path, engine="h5netcdf")
    return path


def main() -> None:
    """Make the archive."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    files = [write_day(folder, number) for number in range(5)]
    target = folder / "archive.icechunk"
    refreeze.create_template(
        files[0],
        target,
        global_start="2024-01-01",
        global_end="2024-12-31",
        chunking="time:100",
        compression="blosc:zstd:3",
        packing=True,
        packing_manual_ranges={"t2m": {"min": 200, "max": 350}},
    )
    # Any number of processes may do this at once; each call is one commit.
    print(refreeze.write_region(files[3], target).regions[0]["region"])
    # Several files as one commit, by workers that share no chunk.
    report = refreeze.write_region([*files[:3], files[4]], target, workers=2)
    print(f"{report.files} files, {report.commits} commit")
    try:
        half_an_hour_late = xr.open_dataset(files[0]).assign_coords(
            time=lambda data: data.time + np.timedelta64(30, "m")
        )
        refreeze.write_region(half_an_hour_late, target)
    except refreeze.exceptions.RegionError as error:
        print(f"refused: {error.message}")
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    archive = xr.open_zarr(repo.readonly_session("main").store, consolidated=False, chunks=None)
    print(f"{int(archive.t2m[:, 0].count())} of {archive.sizes['time']} hours are there")


# Workers import this program anew.
if __name__ == "__main__":
    main()
