"""Daily files of an hourly archive, and how repositories that were written of them are read."""

import icechunk
import numpy as np
import xarray as xr

ORIGIN = np.datetime64("2000-01-01T00", "ns")
HOUR = np.timedelta64(1, "h")


def day(number, steps=24, lat=3, lon=4, dtype="f4", **attributes):
    """Return a day's data set; each value says where it belongs."""
    hours = np.arange(number * steps, (number + 1) * steps)
    values = hours[:, None, None] + np.arange(lat)[:, None] / 10 + np.zeros(lon)
    return xr.Dataset(
        {"t": (("time", "lat", "lon"), values.astype(dtype), {"units": "K", **attributes})},
        coords={
            "time": ORIGIN + hours * HOUR,
            "lat": np.linspace(-10.0, 10.0, lat),
            "lon": np.arange(float(lon)),
        },
        attrs={"title": "a test"},
    )


def file_of(folder, number, data=None, **encoding):
    """Write a day into a NetCDF file and return its path."""
    path = folder / f"day{number:02d}.nc"
    data = day(number) if data is None else data
    data.to_netcdf(path, engine="h5netcdf", encoding={"t": encoding} if encoding else None)
    return path


def repository(path, **access):
    storage = icechunk.local_filesystem_storage(str(path))
    allowed = dict.fromkeys(access.get("prefixes", ()), icechunk.credentials.LocalFileSystemAccess)
    return icechunk.Repository.open(storage, authorize_virtual_chunk_access=allowed or None)


def opened(path, **access):
    """Open the newest state with xarray, lazily and without dask."""
    store = repository(path, **access).readonly_session("main").store
    return xr.open_zarr(store, consolidated=False, chunks=None)


def commits(path):
    return len(list(repository(path).ancestry(branch="main")))
