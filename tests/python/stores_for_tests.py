"""What the tests share to write Zarr stores, to open results with the icechunk wheel, and to compare the two.

A comparison is exact: values before and after decoding, attributes, data types, dimension names, chunks, fill values
and which chunks there are. References are held against a brute-force list of the files below each array.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import icechunk
import numpy as np
import xarray as xr
import zarr
from zarr.core.sync import sync

import refreeze

METADATA_FILES = {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"}


@dataclass(frozen=True)
class Result:
    """An ingest's report, and what it wrote as any reader of Icechunk opens it."""

    report: refreeze.IngestReport
    repository: icechunk.Repository
    session: icechunk.Session

    @property
    def store(self) -> Any:
        """The published branch as a Zarr store."""
        return self.session.store

    def group(self, path: str = "") -> zarr.Group:
        """Open a group of the result with zarr-python."""
        return zarr.open_group(self.store, path=path, mode="r", zarr_format=3)

    def array(self, path: str) -> Any:
        """Open an array of the result with zarr-python."""
        return zarr.open_array(self.store, path=path, mode="r", zarr_format=3)

    def dataset(self, group: str | None = None, **options: Any) -> xr.Dataset:
        """Open a group of the result with xarray."""
        return open_dataset(self.store, group, **options)

    def document(self, path: str) -> Any:
        """Return the metadata document of a node as it is stored."""
        from zarr.core.buffer import default_buffer_prototype

        key = f"{path}/zarr.json".lstrip("/")
        return json.loads(sync(self.store.get(key, default_buffer_prototype())).to_bytes())

    def chunks(self, path: str) -> set[tuple[int, ...]]:
        """Return the grid coordinates of the chunks that an array has."""

        async def collect() -> set[tuple[int, ...]]:
            found = self.session.chunk_coordinates(f"/{path.strip('/')}")
            return {tuple(coordinates) async for coordinates in found}

        return sync(collect())

    def locations(self) -> list[str]:
        """Return the decoded URLs of all virtual chunks, relative to nothing."""
        prefixes = {
            container.name: prefix
            for prefix, container in (self.repository.config.virtual_chunk_containers or {}).items()
        }
        found = []
        for location in self.session.all_virtual_chunk_locations():
            scheme, _, rest = location.partition("://")
            if scheme == "vcc":
                name, _, rest = rest.partition("/")
                found.append(prefixes[name] + unquote(rest))
            else:
                found.append(unquote(location))
        return sorted(found)


def open_result(
    report: refreeze.IngestReport,
    storage: icechunk.Storage | None = None,
    credentials: Any = icechunk.credentials.LocalFileSystemAccess,
    branch: str = "main",
) -> Result:
    """Open an ingested repository as its report says: only its container is authorised."""
    authorised = {report.container: credentials} if report.container else {}
    repository = icechunk.Repository.open(
        storage or icechunk.local_filesystem_storage(report.target),
        authorize_virtual_chunk_access=icechunk.containers_credentials(authorised),
    )
    return Result(report, repository, repository.readonly_session(branch))


def ingest(source: Any, target: Any, **options: Any) -> Result:
    """Ingest into a repository on local disk and open it."""
    return open_result(refreeze.ingest(source, target, **options))


def ingest_and_compare(source: Path, target: Path, **options: Any) -> Result:
    """Ingest a whole local store and hold the result against it in every respect."""
    result = ingest(str(source), str(target), **options)
    expected = zarr.open_group(zarr.storage.LocalStore(source), mode="r")
    assert_same_tree(expected, result.group())
    assert_references_are_the_files(result, source, expected)
    return result


def open_dataset(store: Any, group: str | None = None, **options: Any) -> xr.Dataset:
    """Open a Zarr store with xarray, by its own metadata documents."""
    dataset: xr.Dataset = xr.open_zarr(
        store, group=group, consolidated=False, chunks=None, **options
    )
    return dataset


def assert_same_tree(expected: zarr.Group, actual: zarr.Group) -> None:
    """Compare groups and arrays as zarr-python reads them, with everything below."""
    assert _attributes(expected) == _attributes(actual)
    nodes, found = dict(expected.members()), dict(actual.members())
    assert nodes.keys() == found.keys()
    for name, node in nodes.items():
        assert isinstance(found[name], zarr.Group) == isinstance(node, zarr.Group)
        if isinstance(node, zarr.Group):
            assert_same_tree(node, found[name])  # type: ignore[arg-type]  # compared above
        else:
            assert_same_array(node, found[name])


def assert_same_array(expected: Any, actual: Any) -> None:
    """Compare two arrays as zarr-python reads them; the actual one is of version 3."""
    assert actual.shape == expected.shape
    assert native(actual.dtype) == native(expected.dtype)
    assert actual.shards == expected.shards
    assert [chunk for chunk in actual.chunks if chunk] == [c for c in expected.chunks if c]
    if expected.metadata.zarr_format == 3:
        assert actual.metadata.dimension_names == expected.metadata.dimension_names
        assert actual.metadata.codecs == expected.metadata.codecs
        assert dict(actual.attrs) == dict(expected.attrs)
    else:
        assert actual.metadata.dimension_names == _dimension_names(expected)
        assert _attributes(actual) == _attributes(expected)
    if expected.fill_value is not None:
        assert_same_values(np.asarray(actual.fill_value), np.asarray(expected.fill_value))
    assert_same_values(np.asarray(actual[...]), np.asarray(expected[...]))


def assert_same_values(actual: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    """Compare to the last bit, NaN payloads aside."""
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(actual, expected)
    if expected.dtype.kind in "fc":
        np.testing.assert_array_equal(np.signbit(actual.real), np.signbit(expected.real))


def assert_same_dataset(source: Any, result: Result, group: str | None = None) -> xr.Dataset:
    """Compare what xarray makes of a source and of the result, decoded and as stored; return the former."""
    undecoded: dict[str, Any] = {"mask_and_scale": False, "decode_times": False}
    for options in ({}, undecoded):
        expected = open_dataset(source, **options).load()
        actual = result.dataset(group, **options).load()
        xr.testing.assert_identical(actual, expected)
        assert set(actual.coords) == set(expected.coords)
        for name in expected.variables:
            assert native(actual[name].dtype) == native(expected[name].dtype), name
            assert _encoding(actual[name]) == _encoding(expected[name])
    return open_dataset(source).load()


def assert_references_are_the_files(result: Result, source: Path, group: zarr.Group) -> None:
    """Check that every chunk in the result is a file of the source and the other way round."""
    virtual: list[Path] = []
    reports = {array.path.lstrip("/"): array for array in result.report.arrays}
    for path, array in group.members(max_depth=None):
        if isinstance(array, zarr.Group):
            continue
        files = chunk_files(source / array.path, array)
        assert result.chunks(path) == set(files), path
        report = reports[path]
        possible = int(np.prod(report.grid_shape, dtype=np.int64))
        assert report.chunks_in_region == possible
        assert report.missing == possible - len(files)
        assert report.references == (0 if report.loaded else len(files))
        if not report.loaded:
            virtual += files.values()
    assert result.locations() == sorted(f"file://{file}" for file in virtual)
    assert result.report.references_written == len(virtual)
    assert result.report.bytes_referenced == sum(file.stat().st_size for file in virtual)


def chunk_files(folder: Path, array: Any) -> dict[tuple[int, ...], Path]:
    """Return an array's chunk files by grid coordinates, found by asking for every possible one.

    Any file that is left over fails: the tests that want foreign keys do not use this.
    """
    stored = array.shards or array.chunks
    grid = [
        -(-length // chunk) if chunk else 0
        for length, chunk in zip(array.shape, stored, strict=True)
    ]
    files = {}
    for coordinates in itertools.product(*map(range, grid)):
        file = folder / array.metadata.encode_chunk_key(coordinates)
        if file.is_file():
            files[coordinates] = file
    everything = {file for file in folder.rglob("*") if file.is_file()}
    assert {file.name for file in everything - set(files.values())} <= METADATA_FILES
    return files


def write_array(group: zarr.Group, name: str, dtype: Any = "<f4", **options: Any) -> Any:
    """Create an array of 7 by 5 in ragged chunks of 3 by 2, of which five have been written."""
    dimensions = options.pop("dimensions", ("y", "x"))
    attributes = options.pop("attributes", {})
    if group.metadata.zarr_format == 2:
        attributes = attributes | {"_ARRAY_DIMENSIONS": list(dimensions)}
    else:
        options["dimension_names"] = dimensions
    array = group.create_array(
        name, shape=(7, 5), dtype=dtype, attributes=attributes, **{"chunks": (3, 2)} | options
    )
    data = np.arange(1, 36).reshape(7, 5)
    if array.dtype.kind in "mM":
        data = data.astype("i8")
    data = data.astype(object if array.dtype.kind in "OT" else array.dtype)
    array[:3, :4] = data[:3, :4]
    array[6:] = data[6:]
    return array


def native(dtype: Any) -> Any:
    """Return a data type in this machine's byte order."""
    return dtype if dtype.kind == "T" else dtype.newbyteorder("=")


def _attributes(node: Any) -> dict[str, Any]:
    """Return attributes but those by which versions 2 and 3 differ."""
    return {
        name: value
        for name, value in node.attrs.items()
        if name not in {"_ARRAY_DIMENSIONS", "_FillValue"}
    }


def _dimension_names(array: Any) -> tuple[str, ...] | None:
    names = array.attrs.get("_ARRAY_DIMENSIONS")
    return None if names is None else tuple(names)


def _encoding(variable: xr.DataArray) -> dict[str, Any]:
    """Return the parts of xarray's encoding that both versions of Zarr have, comparable."""
    kept = {}
    for name, value in variable.encoding.items():
        if name in {"compressors", "filters", "serializer", "fill_value"}:
            continue
        if name == "dtype":
            kept[name] = str(native(np.dtype(value)))
        elif name in {"_FillValue", "missing_value"}:
            kept[name] = repr(np.asarray(value, variable.encoding.get("dtype")).tolist())
        else:
            kept[name] = value
    return kept


def write_mixed_store(source: Path) -> Path:
    """Write a store with coordinates, packed data, a nested group, missing chunks and shards."""
    data = np.arange(70.0).reshape(7, 10)
    data[2, 3] = np.nan
    xr.Dataset(
        {"air": (("time", "x"), data, {"units": "K"})},
        coords={"time": ("time", np.arange(7)), "x": ("x", np.linspace(0, 1, 10))},
        attrs={"title": "air"},
    ).to_zarr(
        source,
        zarr_format=2,
        consolidated=False,
        encoding={
            "air": {"dtype": "i2", "scale_factor": 0.5, "_FillValue": -1, "chunks": (2, 3)},
            "time": {"chunks": (3,)},
        },
    )
    write_array(zarr.open_group(source, mode="a", zarr_format=2).create_group("one/two"), "ice")
    return source


def open_group(path: Path, zarr_format: Any = 3, **options: Any) -> zarr.Group:
    """Create a group at a path, even at one that zarr would take for a URL (`?`, `#`)."""
    store = zarr.storage.LocalStore(path)
    return zarr.open_group(store, mode="w", zarr_format=zarr_format, **options)
