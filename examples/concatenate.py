"""Joins an archive that is cut into yearly Zarr stores, each of which counts its own days from 0.

Run it with a folder to work in, or without for a temporary one. It needs xarray.
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
target = folder / "air.icechunk"
years = (2001, 2002, 2003)

for year in years:
    root = zarr.create_group(folder / f"{year}.zarr", overwrite=True)
    t2m = root.create_array(
        "t2m", shape=(365, 4), dtype="f4", chunks=(73, 4), dimension_names=("time", "x")
    )
    t2m[:] = np.random.default_rng(year).normal(size=(365, 4))
    time = root.create_array(
        "time", shape=(365,), dtype="i4", chunks=(365,), dimension_names=("time",)
    )
    time[:] = np.arange(365)
    time.attrs["units"] = f"days since {year}-01-01"

stores = [folder / f"{year}.zarr" for year in years]
report = refreeze.ingest(stores[:2], target, concat_dim="time")
print(f"{len(report.sources)} stores in one array of shape {report.arrays[0].shape}")
print(f"containers: {len(report.containers)}")

# The next year, a year later: it continues where the target ends.
report = refreeze.ingest(stores[2], target, mode="append", concat_dim="time")
print(f"now of shape {report.arrays[0].shape}")

access = {f"{store.as_uri()}/": icechunk.credentials.LocalFileSystemAccess for store in stores}
repo = icechunk.Repository.open(
    icechunk.local_filesystem_storage(str(target)),
    authorize_virtual_chunk_access=icechunk.containers_credentials(access),
)
result = xr.open_zarr(repo.readonly_session("main").store, consolidated=False, chunks=None)
opened = [xr.open_zarr(store, consolidated=False, chunks=None) for store in stores]
print(f"times: {result.time.values[[0, -1]]}")
print(f"identical: {result.identical(xr.concat(opened, 'time'))}")
