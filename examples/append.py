"""Appends to an Icechunk repository, day after day, what a Zarr store has grown by.

Run it with a folder to work in, or without for a temporary one. It needs xarray to read the result.
Only what is new is listed, plus a last chunk that was not full. If nothing is new, nothing is
written.
"""

import sys
import tempfile
from pathlib import Path

import icechunk
import numpy as np
import xarray as xr
import zarr

import refreeze

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
source, target = folder / "air.zarr", folder / "air.icechunk"

root = zarr.create_group(source, overwrite=True)
for name, chunks, names in (("t2m", (4, 5), ("time", "x")), ("time", (100,), ("time",))):
    shape = (10, 10)[: len(chunks)]
    root.create_array(name, shape=shape, dtype="i4", chunks=chunks, dimension_names=names)
root["time"].attrs["units"] = "days since 2000-01-01"
root["time"][:] = np.arange(10)
root["t2m"][:] = np.arange(100).reshape(10, 10)
report = refreeze.ingest(source, target)
print(f"ingested {report.references_written} references")

for day in range(10, 15):
    root["time"].append(np.array([day], "i4"))
    root["t2m"].append(np.arange(10, dtype="i4")[None] + 10 * day)
    report = refreeze.ingest(source, target, mode="append", append_dim="time")
    print(f"day {day}: {report.added} references added, {report.changed} changed")

report = refreeze.ingest(source, target, mode="append", append_dim="time")
print(f"commits when nothing is new: {report.commits}")

repo = icechunk.Repository.open(
    icechunk.local_filesystem_storage(str(target)),
    authorize_virtual_chunk_access=icechunk.containers_credentials(
        {f"{folder.as_uri()}/air.zarr/": icechunk.credentials.LocalFileSystemAccess}
    ),
)
result = xr.open_zarr(repo.readonly_session("main").store, consolidated=False, chunks=None)
print(f"identical: {result.identical(xr.open_zarr(source, consolidated=False, chunks=None))}")
