"""What the tests of the parser share: stores in every key layout, registries, repositories, and the loop of the README."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import icechunk
import numpy as np
import virtualizarr
import xarray as xr
import zarr
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import LocalStore

import refreeze

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

OVERSIZED = "have a chunk shape larger than their array"
"""VirtualiZarr's warning of a region, or an array, that is less than one chunk."""


@dataclass(frozen=True)
class Layout:
    """A version of Zarr and an encoding of chunk keys."""

    zarr_format: Any
    encoding: str
    separator: Any

    def __str__(self) -> str:
        return f"zarr{self.zarr_format}-{self.encoding}{self.separator}"

    def key(self, coords: Sequence[int]) -> str:
        """Return the key of a chunk, relative to its array."""
        if self.encoding == "default":
            return self.separator.join(["c", *map(str, coords)])
        return self.separator.join(map(str, coords)) or "0"


LAYOUTS = [
    Layout(2, "v2", "."),
    Layout(2, "v2", "/"),
    Layout(3, "default", "/"),
    Layout(3, "default", "."),
    Layout(3, "v2", "."),
    Layout(3, "v2", "/"),
]
SLASH = LAYOUTS[2]


def add_array(
    group: zarr.Group,
    name: str,
    data: Any,
    chunks: tuple[int, ...],
    dims: Sequence[str] | None,
    *,
    layout: Layout = SLASH,
    attributes: Mapping[str, Any] | None = None,
    write: bool = True,
    **options: Any,
) -> Any:
    """Create an array in a group and write it; ``dims`` of None: dimensions without names."""
    data = np.asarray(data)
    attrs = dict(attributes or {})
    if dims is not None and layout.zarr_format == 2:
        attrs["_ARRAY_DIMENSIONS"] = list(dims)
    elif dims is not None:
        options["dimension_names"] = dims
    array = group.create_array(
        name,
        shape=data.shape,
        chunks=chunks,
        dtype=data.dtype,
        attributes=attrs,
        chunk_key_encoding={"name": layout.encoding, "separator": layout.separator},
        **options,
    )
    if write:
        array[...] = data
    return array


def write_climate(folder: Path, layout: Layout, times: int = 105) -> Path:
    """Write a store that has what the loop must cope with.

    Variables whose chunks along time are 2 and 3 long, so that their grids pass 10 (and, for the first, 50), chunks
    that are missing, a ragged last chunk, ``time`` and an auxiliary coordinate as one chunk each, a variable without
    time, a mask in integers, packed numbers, and a scalar.
    """
    group = zarr.open_group(folder, mode="w", zarr_format=layout.zarr_format)
    group.attrs.update({"title": "climate", "coordinates": "month"})
    random = np.random.default_rng(0)
    days = {"units": "days since 2000-01-01", "calendar": "standard"}
    nan = {"fill_value": np.nan}
    t2m = random.normal(280, 9, (times, 5)).astype("f4")
    array = add_array(group, "t2m", t2m, (2, 3), ("time", "x"), layout=layout, write=False, **nan)
    array[: times // 2] = t2m[: times // 2]
    array[times // 2 + 9 :] = t2m[times // 2 + 9 :]
    count = np.arange(times * 5, dtype="i4").reshape(times, 5) % 7
    masked = {"_FillValue": 3} if layout.zarr_format == 3 else {}
    add_array(
        group, "count", count, (3, 5), ("time", "x"), layout=layout, fill_value=3, attributes=masked
    )
    packed = {"scale_factor": 0.5, "add_offset": 10.0}
    pressure = random.integers(0, 99, (times, 2, 5)).astype("i2")
    dims = ("time", "level", "x")
    add_array(
        group,
        "pressure",
        pressure,
        (6, 1, 2),
        dims,
        layout=layout,
        attributes=packed,
        fill_value=-1,
    )
    add_array(group, "orography", random.normal(size=5), (2,), ("x",), layout=layout, **nan)
    add_array(
        group,
        "time",
        np.arange(times),
        (times,),
        ("time",),
        layout=layout,
        attributes=days,
        fill_value=-1,
    )
    month = (np.arange(times) // 30 % 12).astype("i2")
    add_array(group, "month", month, (times,), ("time",), layout=layout, fill_value=-1)
    add_array(group, "x", np.linspace(0, 1, 5), (5,), ("x",), layout=layout, **nan)
    add_array(
        group,
        "crs",
        np.int32(4326),
        (),
        (),
        layout=layout,
        attributes={"name": "wgs84"},
        fill_value=-1,
    )
    return folder


def registry_of(folder: Path) -> ObjectStoreRegistry[Any]:
    """Return a registry with one local store."""
    return ObjectStoreRegistry({folder.as_uri(): LocalStore(folder)})


def open_virtual(url: Any, registry: Any, parser: Any, **options: Any) -> xr.Dataset:
    """Open with VirtualiZarr, without its warning of arrays that are less than one chunk."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=f".*{OVERSIZED}", category=UserWarning)
        return virtualizarr.open_virtual_dataset(str(url), registry, parser, **options)


def read(url: Any, registry: Any, parser: Any, group: str = "") -> zarr.Group:
    """Parse, and open the result with zarr."""
    return zarr.open_group(parser(str(url), registry), path=group, mode="r", zarr_format=3)


def new_repository(folder: Path) -> icechunk.Repository:
    """Create a repository in memory that may read everything below a folder."""
    prefix = f"file://{folder}/"
    config = icechunk.RepositoryConfig.default()
    store = icechunk.local_filesystem_store(str(folder))
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, store))
    access: dict[str, Any] = {prefix: icechunk.credentials.LocalFileSystemAccess}
    return icechunk.Repository.create(
        icechunk.in_memory_storage(),
        config,
        authorize_virtual_chunk_access=icechunk.containers_credentials(access),
    )


def append_regions(
    repository: icechunk.Repository,
    url: Any,
    registry: Any,
    dim: str,
    max_refs: int,
    **options: Any,
) -> int:
    """Do the loop of the README; return the number of rounds."""
    regions = refreeze.regions(str(url), registry, dim=dim, max_refs=max_refs)
    rounds = 0
    for region in regions:
        dataset = open_virtual(url, registry, refreeze.ZarrParser(region=region), **options)
        session = repository.writable_session("main")
        if rounds:
            dataset = dataset.drop_vars([n for n, v in dataset.variables.items() if not v.dims])
            dataset.vz.to_icechunk(session.store, append_dim=dim)
        else:
            dataset.vz.to_icechunk(session.store)
        session.commit(str(region))
        rounds += 1
    return rounds


def open_repository(repository: icechunk.Repository, **options: Any) -> xr.Dataset:
    """Open the main branch with xarray and load it."""
    store = repository.readonly_session("main").store
    return xr.open_zarr(store, consolidated=False, chunks=None, **options).load()


def open_source(url: Any, **options: Any) -> xr.Dataset:
    """Open a Zarr store with xarray and load it."""
    return xr.open_zarr(str(url), consolidated=False, chunks=None, **options).load()
