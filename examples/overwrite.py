"""Replaces a repository's content with a reprocessed store, in one step, and then goes back.

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

for version, chunks in ((1, (4, 4)), (2, (8, 2))):
    root = zarr.create_group(folder / f"v{version}.zarr", overwrite=True)
    t2m = root.create_array(
        "t2m", shape=(12, 4), dtype="f4", chunks=chunks, dimension_names=("time", "x")
    )
    t2m[:] = np.full((12, 4), version)

refreeze.ingest(folder / "v1.zarr", target)
report = refreeze.ingest(folder / "v2.zarr", target, mode="overwrite")
print(f"before: {report.previous_snapshot_id}, now: {report.snapshot_id}")

access = {
    f"{(folder / name).as_uri()}/": icechunk.credentials.LocalFileSystemAccess
    for name in ("v1.zarr", "v2.zarr")
}
repo = icechunk.Repository.open(
    icechunk.local_filesystem_storage(str(target)),
    authorize_virtual_chunk_access=icechunk.containers_credentials(access),
)


def mean() -> float:
    """Return what readers of the branch see."""
    store = repo.readonly_session("main").store
    return float(xr.open_zarr(store, consolidated=False, chunks=None).t2m.mean())


print(f"readers see {mean()}")
repo.reset_branch("main", report.previous_snapshot_id)
print(f"after going back they see {mean()}")
