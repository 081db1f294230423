"""Makes a region of a repository equal to its source again, after chunks there were rewritten.

Run it with a folder to work in, or without for a temporary one. It needs xarray.
"""

import os
import sys
import tempfile
from pathlib import Path

import icechunk
import xarray as xr
import zarr

import refreeze

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
source, target = folder / "air.zarr", folder / "air.icechunk"

root = zarr.create_group(source, overwrite=True)
t2m = root.create_array(
    "t2m", shape=(12, 4), dtype="f4", chunks=(3, 4), fill_value=0, dimension_names=("time", "x")
)
t2m[:9] = 1
# As if it had been written a while ago: references carry times in whole seconds.
for file in (source / "t2m/c").rglob("*"):
    os.utime(file, (1_700_000_000, 1_700_000_000))
refreeze.ingest(source, target)

t2m[3:6] = 2  # one chunk is rewritten,
t2m[6:9] = 0  # one vanishes, because it holds nothing but the fill value,
t2m[9:12] = 3  # and one is new
report = refreeze.ingest(source, target, mode="update", region={"time": slice(3, 12)})
print(f"{report.added} added, {report.changed} changed, {report.removed} removed")

repo = icechunk.Repository.open(
    icechunk.local_filesystem_storage(str(target)),
    authorize_virtual_chunk_access=icechunk.containers_credentials(
        dict.fromkeys(report.containers, icechunk.credentials.LocalFileSystemAccess)
    ),
)
result = xr.open_zarr(repo.readonly_session("main").store, consolidated=False, chunks=None)
print(f"identical: {result.identical(xr.open_zarr(source, consolidated=False, chunks=None))}")
