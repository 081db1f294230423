"""Metadata documents for Icechunk: version 3, with Icechunk's chunk keys.

zarr-python does the conversion of version 2; what it leaves out and xarray relies on is added
here: a fill value where version 2 had none, dimension names, and the mask.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import UnsupportedArrayError
from refreeze.metadata.attributes import of_array, of_version_2_array
from refreeze.metadata.layout import ARRAY_DIMENSIONS
from refreeze.metadata.version_2_codecs import prove, version_3_codecs

if TYPE_CHECKING:
    from zarr.core.metadata import ArrayV2Metadata, ArrayV3Metadata

    from refreeze.metadata.attributes import Attributes

__all__ = [
    "array_document",
    "chunk_keys",
    "dimension_names",
    "loses_mask",
    "stored_chunk_shape",
]


def array_document(
    metadata: ArrayV2Metadata | ArrayV3Metadata,
) -> tuple[bytes, Attributes]:
    """Return the version 3 document under which Icechunk holds an array, and its attributes.

    Raises
    ------
    UnsupportedArrayError
        The array has storage transformers, or codecs or attributes that version 3 cannot express.
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
        if isinstance(metadata, ArrayV2Metadata):
            v3, attributes = _v3_from_v2(metadata)
        else:
            kind = metadata.data_type.to_native_dtype().kind
            v3, attributes = metadata, of_array(metadata.attributes, kind)
        if v3.storage_transformers:
            raise UnsupportedArrayError("the array has storage transformers")
        keyed = dataclasses.replace(
            v3,
            chunk_key_encoding=DefaultChunkKeyEncoding(separator="/"),
            attributes=attributes.values,
        )
        stored = keyed.to_buffer_dict(default_buffer_prototype())["zarr.json"].to_bytes()
    return stored, attributes


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
        names: Any = metadata.attributes.get(ARRAY_DIMENSIONS)
    else:
        names = metadata.dimension_names
    return None if names is None else tuple(names)


def loses_mask(metadata: ArrayV2Metadata | ArrayV3Metadata) -> bool:
    """Whether xarray masks values of this array that it cannot mask in the result.

    Text has no form of ``_FillValue`` that xarray reads in version 3.
    """
    from zarr.core.metadata import ArrayV2Metadata

    if not isinstance(metadata, ArrayV2Metadata):
        return False
    value: Any = metadata.fill_value
    if value is None:
        value = metadata.attributes.get("_FillValue")
    kind = metadata.dtype.to_native_dtype().kind
    # Of text of variable length xarray does not mask the empty one.
    return value is not None and (kind in "SU" or (kind in "OT" and value != ""))


def _v3_from_v2(metadata: ArrayV2Metadata) -> tuple[ArrayV3Metadata, Attributes]:
    from zarr.core.chunk_key_encodings import DefaultChunkKeyEncoding
    from zarr.core.metadata import ArrayV3Metadata
    from zarr.core.metadata.v3 import RegularChunkGridMetadata

    # xarray hides what begins like this in version 2: netCDF-C's notes about its own layout.
    shown = {
        name: value
        for name, value in metadata.attributes.items()
        if name != ARRAY_DIMENSIONS and not name.lower().startswith("_nc")
    }
    kind = metadata.dtype.to_native_dtype().kind
    attributes = of_version_2_array(shown, metadata.fill_value, kind)
    fill_value = metadata.fill_value
    if fill_value is None:
        # Version 3 needs one. What zarr reads for missing chunks without one is the default.
        default: Any = metadata.dtype.default_scalar()
        fill_value = default
    converted = ArrayV3Metadata(
        shape=metadata.shape,
        data_type=metadata.dtype,
        chunk_grid=RegularChunkGridMetadata(chunk_shape=stored_chunk_shape(metadata)),
        chunk_key_encoding=DefaultChunkKeyEncoding(separator="/"),
        fill_value=fill_value,
        codecs=version_3_codecs(metadata),
        attributes=attributes.values,
        dimension_names=dimension_names(metadata),
        storage_transformers=None,
    )
    prove(metadata, converted)
    return converted, attributes
