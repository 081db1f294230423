"""Metadata documents for Icechunk: version 3, with Icechunk's chunk keys.

zarr-python does the conversion of version 2; what it leaves out and xarray relies on is added
here: a fill value where version 2 had none, dimension names, and the mask.
"""

from __future__ import annotations

import base64
import dataclasses
import struct
import warnings
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import UnsupportedArrayError

if TYPE_CHECKING:
    import numpy as np
    from zarr.core.group import GroupMetadata
    from zarr.core.metadata import ArrayV2Metadata, ArrayV3Metadata

__all__ = [
    "array_document",
    "chunk_keys",
    "dimension_names",
    "group_document",
    "stored_chunk_shape",
]

_DIMENSIONS = "_ARRAY_DIMENSIONS"


def group_document(metadata: GroupMetadata | None) -> bytes:
    """Return the version 3 document of a group (of an empty one for None).

    Consolidated metadata is left out: in a copy it would go stale.
    """
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.group import GroupMetadata

    attributes = dict(metadata.attributes) if metadata is not None else {}
    plain = GroupMetadata(attributes=attributes, zarr_format=3, consolidated_metadata=None)
    return plain.to_buffer_dict(default_buffer_prototype())["zarr.json"].to_bytes()


def array_document(metadata: ArrayV2Metadata | ArrayV3Metadata) -> bytes:
    """Return the version 3 document under which Icechunk holds an array.

    Raises
    ------
    UnsupportedArrayError
        The array has storage transformers.
    TypeError, ValueError
        zarr cannot express the array in version 3.
    """
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.chunk_key_encodings import DefaultChunkKeyEncoding
    from zarr.core.metadata import ArrayV2Metadata

    with warnings.catch_warnings():
        # zarr warns of data types that the version 3 specification does not list; the source
        # has them already.
        warnings.simplefilter("ignore")
        v3 = _v3_from_v2(metadata) if isinstance(metadata, ArrayV2Metadata) else metadata
        if v3.storage_transformers:
            raise UnsupportedArrayError("the array has storage transformers")
        keyed = dataclasses.replace(v3, chunk_key_encoding=DefaultChunkKeyEncoding(separator="/"))
        return keyed.to_buffer_dict(default_buffer_prototype())["zarr.json"].to_bytes()


def chunk_keys(metadata: ArrayV2Metadata | ArrayV3Metadata) -> tuple[str, str]:
    """Return the name and the separator of the encoding of an array's chunk keys.

    Raises
    ------
    UnsupportedArrayError
        The encoding is neither ``default`` nor ``v2``.
    """
    from zarr.core.metadata import ArrayV2Metadata

    if isinstance(metadata, ArrayV2Metadata):
        return "v2", metadata.dimension_separator
    encoding = metadata.chunk_key_encoding
    name = getattr(encoding, "name", type(encoding).__name__)
    if name not in {"default", "v2"}:
        raise UnsupportedArrayError(f"unknown chunk key encoding {name} (known: default, v2)")
    return name, encoding.separator  # type: ignore[attr-defined]  # both known ones have it


def stored_chunk_shape(metadata: ArrayV2Metadata | ArrayV3Metadata) -> tuple[int, ...]:
    """Return the elements of one stored object along each dimension: the shard, if sharded.

    Raises
    ------
    UnsupportedArrayError
        The chunk grid is not regular.
    """
    from zarr.core.metadata import ArrayV2Metadata

    if isinstance(metadata, ArrayV2Metadata):
        shape: Any = metadata.chunks
    else:
        grid: Any = metadata.chunk_grid
        shape = getattr(grid, "chunk_shape", None)
        if shape is None or "Rectilinear" in type(grid).__name__:
            raise UnsupportedArrayError(
                f"a {type(grid).__name__} cannot be referenced; only regular chunk grids can"
            )
    # Version 2 stores of empty arrays may have chunks of length zero.
    return tuple(
        chunk or int(length == 0) for chunk, length in zip(shape, metadata.shape, strict=True)
    )


def dimension_names(metadata: ArrayV2Metadata | ArrayV3Metadata) -> tuple[str | None, ...] | None:
    """Return an array's dimension names, from wherever its version keeps them."""
    from zarr.core.metadata import ArrayV2Metadata

    if isinstance(metadata, ArrayV2Metadata):
        names: Any = metadata.attributes.get(_DIMENSIONS)
    else:
        names = metadata.dimension_names
    return None if names is None else tuple(names)


def _v3_from_v2(metadata: ArrayV2Metadata) -> ArrayV3Metadata:
    from zarr.metadata.migrate_v3 import _convert_array_metadata

    attributes = dict(metadata.attributes)
    names = dimension_names(metadata)
    attributes.pop(_DIMENSIONS, None)
    fill_value = metadata.fill_value
    # To xarray, a version 2 array's fill value is its `_FillValue`; in version 3 that attribute
    # has to be there, in the form that xarray writes.
    masked = attributes.pop("_FillValue", None) if fill_value is None else fill_value
    if masked is not None:
        encoded = _encoded_fill_value(masked, metadata.dtype.to_native_dtype())
        if encoded is not None:
            attributes["_FillValue"] = encoded
    if fill_value is None:
        # Version 3 needs one. What zarr reads for missing chunks without one is the default.
        default: Any = metadata.dtype.default_scalar()
        metadata = dataclasses.replace(metadata, fill_value=default)
    converted = _convert_array_metadata(metadata)
    return dataclasses.replace(
        converted,
        attributes=attributes,
        dimension_names=names,
    )


def _encoded_fill_value(value: Any, dtype: np.dtype[Any]) -> Any:
    """Return ``_FillValue`` as xarray writes it into version 3 attributes.

    Floats become base64 of their little-endian double, complex numbers a pair of those. None for
    types whose attribute xarray cannot read back (text, times).
    """

    def double(number: Any) -> str:
        return base64.standard_b64encode(struct.pack("<d", float(number))).decode()

    match dtype.kind:
        case "f":
            return double(value)
        case "c":
            number = complex(value)
            return [double(number.real), double(number.imag)]
        case "b":
            return bool(value)
        case "i" | "u":
            return int(value)
        case _:
            return None
