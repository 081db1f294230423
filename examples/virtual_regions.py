"""An archive that refers to the chunks of NetCDF files: a template, then references, nothing copied.

Run it with a folder to work in, or without for a temporary one. It needs refreeze[writers].
"""

import sys
import tempfile
from pathlib import Path

import icechunk
import numpy as np
import xarray as xr

import refreeze

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
target = folder / "archive.icechunk"

files = []
for number in range(3):
    hours = np.arange(24 * number, 24 * number + 24)
    day = xr.Dataset(
        {"t2m": (("time", "x"), hours[:, None] + np.zeros(4, "f4"), {"units": "K"})},
        coords={"time": np.datetime64("2024-01-01", "ns") + hours * np.timedelta64(1, "h")},
    )
    path = folder / f"day{number}.nc"
    day.to_netcdf(path, engine="h5netcdf", encoding={"t2m": {"chunksizes": (12, 4), "zlib": True}})
    files.append(path)

# Chunks and codecs are those of the file.
refreeze.create_template(files[0], target, global_end="2024-01-31", references=True)
report = refreeze.write_region(files, target, references=True)
print(f"{report.files} files in {report.commits} commit")
coverage = refreeze.coverage(target, ["t2m"]).arrays[0]
print(f"{coverage.virtual} references, {coverage.native} chunks copied")

access = {f"file://{folder.absolute()}/": icechunk.credentials.LocalFileSystemAccess}
repo = icechunk.Repository.open(
    icechunk.local_filesystem_storage(str(target)), authorize_virtual_chunk_access=access
)
archive = xr.open_zarr(repo.readonly_session("main").store, consolidated=False, chunks=None)
print(f"the last hour is {float(archive.t2m[71, 0])}")
