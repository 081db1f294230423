"""The arrays of a template: every variable with its full shape, encoding and chunks, without values.

Pure. xarray's lazy zeros stand for data that nobody computes.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from refreeze.exceptions import MismatchError
from refreeze.writer.chunking import chunk_shape
from refreeze.writer.packing import packed_encoding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Wishes", "archive_of", "layout_of_archive"]

_KEPT = ("dtype", "units", "calendar", "scale_factor", "add_offset", "_FillValue", "missing_value")
"""Of a file's encoding: what its numbers mean."""


@dataclass(frozen=True)
class Wishes:
    """What is asked of the arrays."""

    chunking: dict[str, int]
    shards: dict[str, int]
    pattern: str | None
    target_bytes: int
    codecs: dict[str, Any]
    packing_bits: int | None
    ranges: dict[str, tuple[float, float]]
    time_dim: str
    warnings: list[str] = field(default_factory=list)


def archive_of(
    data: xr.Dataset,
    labels: Mapping[str, Any],
    wishes: Wishes,
    from_file: Mapping[str, Mapping[str, Any]],
) -> xr.Dataset:
    """Return the whole archive as a data set.

    Parameters
    ----------
    labels
        New ones, by dimension; others stay as they are.
    from_file
        Chunks and codecs by variable, where references are to have those of the file.

    Raises
    ------
    MismatchError
        A variable cannot be reserved or packed.
    """
    lengths_of_file = {str(name): size for name, size in data.sizes.items()}
    sizes = {n: len(labels[n]) if n in labels else size for n, size in lengths_of_file.items()}
    variables: dict[Any, xr.Variable] = {}
    for name, variable in data.variables.items():
        grown = set(variable.dims) & set(labels)
        if name in labels:
            variables[name] = _coordinate(str(name), labels[str(name)], variable)
        elif name in data.coords and not grown:
            kept = variable.copy().load()
            kept.encoding = _kept(variable)
            if kept.ndim and kept.dtype.kind != "O":
                kept.encoding["chunks"] = tuple(max(1, size) for size in kept.shape)
            variables[name] = kept
        else:
            variables[name] = _unwritten(
                str(name),
                variable,
                sizes=sizes,
                lengths_of_file=lengths_of_file,
                wishes=wishes,
                from_file=from_file.get(str(name)),
            )
    coords = [name for name in data.coords if name in variables]
    for name in labels:
        if name not in variables:
            variables[name] = xr.Variable((name,), labels[name])
            coords.append(name)
    return xr.Dataset(variables, attrs=dict(data.attrs)).set_coords(coords)


def _kept(variable: Any) -> dict[str, Any]:
    return {key: variable.encoding[key] for key in _KEPT if key in variable.encoding}


def _coordinate(name: str, labels: Any, stored: Any) -> xr.Variable:
    made = xr.Variable((name,), labels, dict(stored.attrs))
    made.encoding = _kept(stored)
    if "units" in made.encoding and not _exact(made):
        made.encoding = {
            "units": f"microseconds since {str(labels[0].isoformat()).replace('T', ' ')}",
            "calendar": made.encoding.get("calendar", "standard"),
            "dtype": np.dtype("i8"),
        }
    made.encoding["chunks"] = made.shape
    return made


def _exact(variable: xr.Variable) -> bool:
    """Whether times survive their encoding."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            encoded = xr.conventions.encode_cf_variable(variable, name="labels")
            if encoded.attrs.get("units") != variable.encoding["units"]:
                return False
            back = xr.conventions.decode_cf_variable("labels", encoded)
            return bool(np.array_equal(back.values, variable.values))
    except (ValueError, OverflowError):
        return False


def _unwritten(
    name: str,
    variable: Any,
    *,
    sizes: Mapping[str, int],
    lengths_of_file: Mapping[str, int],
    wishes: Wishes,
    from_file: Mapping[str, Any] | None,
) -> xr.Variable:
    import dask.array

    dims = tuple(map(str, variable.dims))
    shape = tuple(sizes[each] for each in dims)
    dtype = variable.dtype
    if dtype.kind == "O":
        raise MismatchError(
            f"{name} holds {dtype} (text of any length), which a template cannot reserve",
            f"leave it out: drop_variables={name}",
        )
    attributes = dict(variable.attrs)
    encoding = _kept(variable)
    if wishes.packing_bits and dtype.kind == "f":
        encoding = packed_encoding(
            name, attributes, variable.encoding, wishes.ranges, wishes.packing_bits
        )
    stored = np.dtype(encoding.get("dtype", dtype))
    if stored.kind == "f":
        encoding.setdefault("_FillValue", encoding.get("missing_value", math.nan))
    mark = encoding.get("_FillValue", encoding.get("missing_value"))
    if mark is not None:
        # What was never written reads as missing, not as zero.
        encoding["fill_value"] = mark
    elif stored.kind in "iu":
        wishes.warnings.append(
            f"{name} is {stored} without _FillValue: what is not written reads as 0"
        )
    if from_file is not None:
        encoding |= from_file
    else:
        encoding |= wishes.codecs
        encoding["chunks"] = chunk_shape(
            dims,
            shape,
            stored.itemsize,
            asked=wishes.chunking,
            of_file=_chunks_of_file(variable),
            lengths_of_file=lengths_of_file,
            time_dim=wishes.time_dim,
            pattern=wishes.pattern,
            target_bytes=wishes.target_bytes,
        )
        if wishes.shards:
            encoding["shards"] = _shard_shape(name, dims, shape, encoding["chunks"], wishes.shards)
    if not dims:
        encoding.pop("chunks", None)
    zeros = dask.array.zeros(shape, dtype=dtype, chunks=shape)
    made = xr.Variable(dims, zeros, attributes)
    made.encoding = encoding
    return made


def _chunks_of_file(variable: Any) -> tuple[int, ...] | None:
    lengths = variable.encoding.get("chunksizes") or variable.encoding.get("chunks")
    if lengths is None or len(lengths) != variable.ndim:
        return None
    return tuple(int(length) for length in lengths)


def _shard_shape(
    name: str,
    dims: Sequence[str],
    shape: Sequence[int],
    chunks: Sequence[int],
    asked: Mapping[str, int],
) -> tuple[int, ...]:
    lengths = []
    for each, size, chunk in zip(dims, shape, chunks, strict=True):
        length = asked.get(each, chunk)
        if length == -1:
            length = -(-size // chunk) * chunk
        if length % chunk:
            raise ValueError(
                f"shards: {length} along {each} of {name} is no multiple of the chunks of {chunk}"
            )
        lengths.append(length)
    return tuple(lengths)


def layout_of_archive(archive: xr.Dataset) -> list[dict[str, Any]]:
    """Return names, dimensions, shapes, stored chunks (shards where there are some) and types for reports."""
    return [
        {
            "name": str(name),
            "dims": list(map(str, variable.dims)),
            "shape": list(variable.shape),
            "chunk_shape": list(
                variable.encoding.get("shards") or variable.encoding.get("chunks") or variable.shape
            ),
            "dtype": str(np.dtype(variable.encoding.get("dtype", variable.dtype))),
        }
        for name, variable in archive.variables.items()
    ]
