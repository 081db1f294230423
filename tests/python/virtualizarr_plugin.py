"""A conftest for VirtualiZarr's own tests: our parser in the place of theirs, and what the wheel does not ship.

It is copied beside their modules and loaded before them, because they import the parser by name. Missing are the
fixtures of their repository's root; the tutorial's data set, which they download, is made up here; dask is not needed
to write chunks.
"""

from __future__ import annotations

import numpy as np
import pytest
import virtualizarr.parsers
import virtualizarr.parsers.zarr
import virtualizarr.parsers.zarr.zarr
import xarray as xr
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import LocalStore

import refreeze

for module in (virtualizarr.parsers, virtualizarr.parsers.zarr, virtualizarr.parsers.zarr.zarr):
    module.ZarrParser = refreeze.ZarrParser


def tutorial(name="air_temperature", **options):
    """Stand in for `xarray.tutorial.open_dataset`: same names, dimensions and kinds of attributes, smaller."""
    assert name == "air_temperature"
    time = xr.Variable(
        "time", np.arange(20.0) * 6, {"units": "hours since 2013-01-01", "calendar": "standard"}
    )
    lat = xr.Variable(
        "lat", np.linspace(75, 15, 5, dtype="f4"), {"units": "degrees_north", "axis": "Y"}
    )
    lon = xr.Variable(
        "lon", np.linspace(200, 330, 6, dtype="f4"), {"units": "degrees_east", "axis": "X"}
    )
    air = xr.Variable(
        ("time", "lat", "lon"),
        np.random.default_rng(0).normal(280, 10, (20, 5, 6)),
        {"units": "degK", "long_name": "air temperature"},
    )
    dataset = xr.Dataset({"air": air}, {"time": time, "lat": lat, "lon": lon}, {"title": "made up"})
    return dataset if options.get("decode_times") is False else xr.decode_cf(dataset)


xr.tutorial.open_dataset = tutorial
xr.Dataset.chunk = lambda dataset, *_, **__: dataset

# Imported from their root's conftest by modules of which a part is run.
ARRAYBYTES_CODEC = {"name": "bytes", "configuration": {"endian": "little"}}
ZLIB_CODEC = {"name": "numcodecs.zlib", "configuration": {"level": 1}}


@pytest.fixture
def zarr_store(tmp_path, request):
    """Return the path of a store of the format that the test asks for."""
    path = str(tmp_path / "air.zarr")
    encoding = {"air": {"chunks": (10, 3, 6)}}
    tutorial().to_zarr(path, zarr_format=request.param, encoding=encoding, consolidated=False)
    return path


@pytest.fixture
def local_registry():
    """Return a registry that knows every local path."""
    return ObjectStoreRegistry({"file://": LocalStore()})
