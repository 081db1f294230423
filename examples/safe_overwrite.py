"""Overwrites data that was lazily loaded from the very place it is written to, without losing it.

Run it with a folder to work in, or without for a temporary one. It needs refreeze[writers].
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


def opened() -> xr.Dataset:
    """Open the newest state lazily."""
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    store = repo.readonly_session("main").store
    return xr.open_zarr(store, consolidated=False)


air = xr.Dataset({"t2m": (("time", "x"), np.full((48, 4), 280.0))})
refreeze.write(air.chunk({"time": 12}), target)

lazy = opened()
stale = opened()
report = refreeze.write(lazy + 1, target, mode="overwrite")
print(f"warmer: {float(opened().t2m.mean())}, before: snapshot {report.replaced_snapshot_id}")

# What was read before that commit must not replace what is newer.
try:
    refreeze.write(stale * 2, target, mode="overwrite")
except refreeze.exceptions.ConflictError as error:
    print(f"refused: {error.message}")

# A plain Zarr store on a local disk: written beside, then exchanged in one step.
plain = folder / "plain.zarr"
for value in (1, 2):
    with refreeze.replacing(plain) as new:
        zarr.create_array(new, shape=(8,), chunks=(4,), dtype="i4")[:] = value
print(f"plain: {zarr.open_array(plain, mode='r')[:].tolist()}")
