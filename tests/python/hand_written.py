"""Zarr stores written by hand, as other writers have them: documents as JSON text, chunks as bytes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stores_for_tests import Result, ingest, open_dataset

if TYPE_CHECKING:
    import refreeze


def write(path: Path, content: Any) -> None:
    """Write a file: text and bytes as they are, anything else as JSON, with NaN as Python writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def group_v2(path: Path, attributes: Any = None) -> Path:
    """Write the documents of a version 2 group."""
    write(path / ".zgroup", {"zarr_format": 2})
    if attributes is not None:
        write(path / ".zattrs", attributes)
    return path


def group_v3(path: Path, attributes: Any = None, **members: Any) -> Path:
    """Write the document of a version 3 group."""
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes or {}}
    write(path / "zarr.json", document | members)
    return path


def array_v2(
    path: Path,
    data: Any,
    chunks: Sequence[int],
    *,
    attributes: Any = None,
    encode: Callable[[bytes], bytes] = bytes,
    **members: Any,
) -> Path:
    """Write a version 2 array, whole; `encode` makes the stored bytes of a chunk."""
    data = np.asarray(data)
    document = {
        "zarr_format": 2,
        "shape": list(data.shape),
        "chunks": list(chunks),
        "dtype": data.dtype.str,
        "compressor": None,
        "fill_value": None,
        "order": "C",
        "filters": None,
    }
    write(path / ".zarray", document | members)
    dimensions = {"_ARRAY_DIMENSIONS": list("xyz"[: data.ndim])}
    write(path / ".zattrs", dimensions | (attributes or {}))
    for at, chunk in _chunks(data, chunks):
        write(path / (".".join(map(str, at)) or "0"), encode(chunk.tobytes()))
    return path


def array_v3(
    path: Path, data: Any, chunks: Sequence[int], *, attributes: Any = None, **members: Any
) -> Path:
    """Write a version 3 array, whole and uncompressed."""
    data = np.asarray(data)
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(data.shape),
        "data_type": data.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "attributes": attributes or {},
        "dimension_names": list("xyz"[: data.ndim]),
    }
    write(path / "zarr.json", document | members)
    for at, chunk in _chunks(data, chunks):
        write(path / "/".join(["c", *map(str, at)]), chunk.tobytes())
    return path


def consolidate_v2(path: Path, *, leave_out: Sequence[str] = ()) -> Path:
    """Write `.zmetadata` of the documents below a group, but for some keys."""
    documents = {
        str(file.relative_to(path)): json.loads(file.read_text())
        for file in sorted(path.rglob(".z*"))
        if file.name != ".zmetadata"
    }
    kept = {key: document for key, document in documents.items() if key not in leave_out}
    write(path / ".zmetadata", {"zarr_consolidated_format": 1, "metadata": kept})
    return path


def consolidate_v3(path: Path) -> Path:
    """Write what is below a version 3 group into its document."""
    root = json.loads((path / "zarr.json").read_text())
    below = {
        str(file.parent.relative_to(path)): json.loads(file.read_text())
        for file in sorted(path.rglob("zarr.json"))
        if file.parent != path
    }
    consolidated = {"kind": "inline", "must_understand": False, "metadata": below}
    write(path / "zarr.json", root | {"consolidated_metadata": consolidated})
    return path


def same_values(source: Path, target: Path, **options: Any) -> Result:
    """Ingest, and compare what xarray makes of source and result: values, masks, data types."""
    result = ingest(str(source), str(target), **options)
    expected, actual = open_dataset(source).load(), result.dataset().load()
    assert set(expected.variables) == set(actual.variables)
    for name in expected.variables:
        assert actual[name].variable.equals(expected[name].variable), name
        assert actual[name].dtype.newbyteorder("=") == expected[name].dtype.newbyteorder("=")
        assert actual[name].dims == expected[name].dims
    return result


def paths(report: refreeze.IngestReport) -> list[str]:
    """Return the paths of a report's arrays."""
    return sorted(array.path for array in report.arrays)


def _chunks(data: Any, chunks: Sequence[int]) -> Any:
    grid = [range(-(-size // chunk)) for size, chunk in zip(data.shape, chunks, strict=True)]
    for at in itertools.product(*grid):
        whole = np.zeros(chunks, data.dtype)
        part = data[tuple(slice(i * c, (i + 1) * c) for i, c in zip(at, chunks, strict=True))]
        whole[tuple(slice(0, size) for size in part.shape)] = part
        yield at, whole
