"""Virtualises a Zarr store region by region with VirtualiZarr, one commit a region.

Needs ``refreeze[virtualizarr]``. Run it with a folder to work in, or without for a temporary one.
The store that it makes has what such stores have: arrays with different chunks, ``time`` as a
single chunk, a variable without time, and a scalar.
"""

import sys
import tempfile
from pathlib import Path

import icechunk
import numpy as np
import virtualizarr
import xarray as xr
import zarr
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import LocalStore

import refreeze

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
source = folder / "air.zarr"

root = zarr.create_group(source, overwrite=True)
options = {"fill_value": np.nan, "dimension_names": ("time", "x")}
for name, chunks in {"t2m": (4, 5), "wind": (6, 10)}.items():
    array = root.create_array(name, shape=(100, 10), dtype="f4", chunks=chunks, **options)
    array[:] = np.random.default_rng(0).normal(size=(100, 10))
time = root.create_array("time", shape=(100,), dtype="i8", chunks=(100,), dimension_names=("time",))
time[:] = np.arange(100)
time.attrs["units"] = "days since 2000-01-01"
height = root.create_array("height", shape=(10,), dtype="f4", chunks=(10,), dimension_names=("x",))
height[:] = np.arange(10) + 1
root.create_array("crs", shape=(), dtype="i4", attributes={"name": "wgs84"})

registry = ObjectStoreRegistry({folder.as_uri(): LocalStore(folder)})
prefix = f"{folder.as_uri()}/"
config = icechunk.RepositoryConfig.default()
config.set_virtual_chunk_container(
    icechunk.VirtualChunkContainer(prefix, icechunk.local_filesystem_store(str(folder)))
)
repo = icechunk.Repository.create(
    icechunk.local_filesystem_storage(str(folder / "air.icechunk")),
    config,
    authorize_virtual_chunk_access=icechunk.containers_credentials(
        {prefix: icechunk.credentials.LocalFileSystemAccess}
    ),
)

first = True
for region in refreeze.regions(str(source), registry, dim="time", max_refs=40):
    parser = refreeze.ZarrParser(region=region)
    vds = virtualizarr.open_virtual_dataset(str(source), registry=registry, parser=parser)
    session = repo.writable_session("main")
    if first:
        vds.vz.to_icechunk(session.store)
    else:
        # VirtualiZarr 2.8 cannot write arrays without dimensions a second time.
        vds = vds.drop_vars([name for name, var in vds.variables.items() if not var.dims])
        vds.vz.to_icechunk(session.store, append_dim="time")
    session.commit(str(region))
    first = False
    print(f"committed {region}")

result = xr.open_zarr(repo.readonly_session("main").store, consolidated=False, chunks=None)
print(f"identical: {result.identical(xr.open_zarr(source, consolidated=False, chunks=None))}")
