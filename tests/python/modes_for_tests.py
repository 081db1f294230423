"""What the tests of append, overwrite, update, concatenation and merging share: growing stores and two cores.

Every scenario runs twice: on a core in memory, where what is planned is carried out and read, and
through icechunk.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
import zarr

import refreeze
from fake_core import FakeCore
from refreeze import _refreeze
from scenarios import local_repository
from stores_for_tests import open_dataset

if TYPE_CHECKING:
    from pathlib import Path

    import icechunk
    import pytest

REPLACED = ("ingest", "open_target")
"""Functions of the core that the one in memory stands for."""
DAYS = "days since 2000-01-01"
EPOCH = np.datetime64("2000-01-01", "D")
LAYOUTS: dict[str, dict[str, Any]] = {
    "air": {"chunks": (3, 2)},
    "wind": {"chunks": (4, 4)},
    "sharded": {"shards": (6, 4), "chunks": (2, 2)},
    "holes": {"chunks": (2, 2)},
    "dotted": {"chunks": (6, 4), "chunk_key_encoding": {"name": "v2", "separator": "."}},
}


class World:
    """One of the two cores, and targets in a folder."""

    def __init__(self, folder: Path, fake: FakeCore | None) -> None:
        self.folder = folder
        self.fake = fake
        self.target = folder / "target"

    def ingest(self, source: Any, **options: Any) -> Any:
        """Ingest into the target."""
        return refreeze.ingest(source, self.target, **options)

    def store(self) -> Any:
        """Return the target's branch as a Zarr store."""
        if self.fake is not None:
            return self.fake.repositories[str(self.target)].zarr_store()
        return local_repository(self.target).readonly_session("main").store

    def dataset(self, group: str | None = None, **options: Any) -> xr.Dataset:
        """Open the target with xarray and read all of it."""
        return open_dataset(self.store(), group, **options).load()

    def array(self, path: str) -> Any:
        """Open an array of the target with zarr-python."""
        return zarr.open_array(self.store(), path=path, mode="r", zarr_format=3)

    def chunks(self, path: str) -> set[tuple[int, ...]]:
        """Return the coordinates of the chunks that an array of the target has."""
        if self.fake is not None:
            return set(self.fake.repositories[str(self.target)].chunks[f"/{path}"])
        from zarr.core.sync import sync

        session = local_repository(self.target).readonly_session("main")

        async def collect() -> set[tuple[int, ...]]:
            return {tuple(at) async for at in session.chunk_coordinates(f"/{path}")}

        return sync(collect())

    def tip(self) -> str:
        """Return the snapshot that readers see."""
        if self.fake is not None:
            return self.fake.repositories[str(self.target)].snapshot_id
        return str(local_repository(self.target).lookup_branch("main"))

    def repository(self) -> icechunk.Repository:
        """Return the repository, which the core in memory does not have."""
        return local_repository(self.target)


def world_of(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return the world of a core, ``memory`` or ``icechunk``."""
    if kind == "icechunk":
        return World(folder, None)
    fake = FakeCore()
    for name in REPLACED:
        monkeypatch.setattr(_refreeze, name, getattr(fake, name), raising=False)
    return World(folder, fake)


def write(
    folder: Path,
    start: int,
    stop: int,
    *,
    units: str = DAYS,
    names: tuple[str, ...] = tuple(LAYOUTS),
    dtype: str = "i8",
    version: Any = 3,
    month: int = 6,
    attributes: dict[str, Any] | None = None,
) -> Path:
    """Write days `start` to `stop` of an archive of four places; `units` count as they say.

    Values follow from day and place, so that any two stores agree where they overlap. ``month`` is
    the chunk length of a coordinate that is referenced.
    """
    root = zarr.open_group(
        folder, mode="w", zarr_format=version, attributes={"title": "archive"} | (attributes or {})
    )
    for name in names:
        layout = dict(LAYOUTS[name])
        if version == 2:
            layout = {"chunks": layout["chunks"]}
        _create(root, name, (0, 4), ("time", "x"), "f4", fill_value=np.nan, **layout)
    _create(
        root,
        "time",
        (0,),
        ("time",),
        dtype,
        chunks=(5,),
        fill_value=-1,
        attributes={"units": units},
    )
    _create(root, "month", (0,), ("time",), "i4", chunks=(month,), fill_value=-1)
    for name in names:
        root[name].attrs["coordinates"] = "month"
    _create(root, "x", (4,), ("x",), "f8", chunks=(4,), fill_value=np.nan)[:] = np.arange(4) / 2
    _create(root, "height", (4,), ("x",), "f4", chunks=(2,), fill_value=np.nan)[:] = np.arange(4)
    _create(root, "crs", (), (), "i4", fill_value=0)[...] = 7
    grow(folder, start, start, stop, units=units)
    return settled(folder)


def grow(folder: Path, first: int, old: int, new: int, *, units: str = DAYS) -> Path:
    """Write days `old` to `new` behind what a store holds since day `first`; nothing else is touched."""
    root = zarr.open_group(folder, mode="a")
    days = np.arange(old, new)
    begin = np.datetime64(units.removeprefix("days since "), "D")
    for name, array in root.arrays():
        if _dimensions(array)[:1] != ("time",):
            continue
        array.resize((new - first, *array.shape[1:]))
        place = slice(old - first, new - first)
        if name == "time":
            array[place] = (EPOCH + days - begin).astype("i8")
        elif name == "month":
            array[place] = days // 30
        elif new > old:
            array[place] = values(name, days)
    return settled(folder)


def values(name: str, days: Any) -> Any:
    """Return what a variable holds on some days."""
    number = sorted(LAYOUTS).index(name) + 1
    found = np.add.outer(np.asarray(days) * 10.0, np.arange(4.0)) + number * 1000
    if name == "holes":
        # Whole chunks of it are not there.
        found[(np.asarray(days) // 2) % 3 == 1] = np.nan
    return found.astype("f4")


def rewrite(folder: Path, name: str, day: slice, value: float) -> None:
    """Write other values into a store, as a reprocessing does."""
    array = zarr.open_group(folder, mode="a")[name]
    assert isinstance(array, zarr.Array)
    array[day] = value
    settled(folder)


def settled(folder: Path) -> Path:
    """Let files be older than any reference to them, to the whole second."""
    for file in folder.rglob("*"):
        if file.is_file() and file.stat().st_mtime > 1_700_000_100:
            count = next(_clock)
            os.utime(file, (1_700_000_000 - 1_000_000 + count,) * 2)
    return folder


def _ticks() -> Any:
    count = 0
    while True:
        count += 1
        yield count


_clock = _ticks()


def source(folder: Path, **region: slice) -> xr.Dataset:
    """Open a source, or a part of it, with xarray and read it."""
    return open_dataset(zarr.storage.LocalStore(folder)).isel(region).load()


def assert_same(actual: xr.Dataset, expected: xr.Dataset) -> None:
    """Compare everything that xarray shows."""
    xr.testing.assert_identical(actual, expected)
    for name in expected.variables:
        assert actual[name].dtype == expected[name].dtype, name


def _create(
    root: zarr.Group, name: str, shape: Any, dimensions: tuple[str, ...], dtype: str, **options: Any
) -> Any:
    attributes = options.pop("attributes", {})
    if root.metadata.zarr_format == 2:
        attributes = attributes | {"_ARRAY_DIMENSIONS": list(dimensions)}
    else:
        options["dimension_names"] = dimensions
    return root.create_array(name, shape=shape, dtype=dtype, attributes=attributes, **options)


def _dimensions(array: zarr.Array[Any]) -> tuple[str, ...]:
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    return tuple(names or ())  # type: ignore[arg-type]  # of text
