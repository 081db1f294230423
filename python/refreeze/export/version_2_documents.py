"""Metadata documents of version 2, for readers of references that know no version 3.

A version 2 source's own documents are kept. Which chunks are missing decides what the fill value of a
converted one may be, because xarray takes version 2's fill value for a mask.
"""

from __future__ import annotations

import base64
import json
import struct
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import UnsupportedArrayError
from refreeze.metadata.layout import ARRAY_DIMENSIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Version2", "group_documents", "version_2"]

_V2 = 2
_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
_NUMBERS = "fciub"


@dataclass(frozen=True)
class Version2:
    """Both documents of an array, and a warning."""

    zarray: dict[str, Any]
    zattrs: dict[str, Any]
    warning: str | None = None


def version_2(
    document: Mapping[str, Any],
    dimension_names: Sequence[str | None] | None,
    chunk_shape: Sequence[int],
    *,
    missing: int,
) -> Version2:
    """Return an array's documents, for chunk keys with ``.`` between coordinates.

    Parameters
    ----------
    document
        ``zarr.json``, or ``.zarray`` with ``attributes`` beside.
    chunk_shape
        Elements of a stored chunk, none of them zero.
    missing
        Chunks that are not there.

    Raises
    ------
    UnsupportedArrayError
        Version 2 cannot express the array; names the codec or data type.
    """
    names = {}
    if dimension_names is None and not chunk_shape:
        dimension_names = ()  # a scalar's are known
    if dimension_names is not None and None not in dimension_names:
        names = {ARRAY_DIMENSIONS: list(dimension_names)}
    if document.get("zarr_format") == _V2:
        kept = {
            name: document.get(name)
            for name in ("shape", "dtype", "compressor", "fill_value", "order", "filters")
        }
        kept |= {"zarr_format": 2, "chunks": list(chunk_shape), "dimension_separator": "."}
        kept["order"] = kept["order"] or "C"
        return Version2(kept, {**(document.get("attributes") or {}), **names})
    return _from_version_3(document, names, chunk_shape, missing)


def group_documents(document: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return ``.zgroup`` and ``.zattrs`` of a version 3 group document."""
    return {"zarr_format": 2}, json.loads(document).get("attributes") or {}


def _from_version_3(
    document: Mapping[str, Any],
    names: dict[str, Any],
    chunk_shape: Sequence[int],
    missing: int,
) -> Version2:
    from zarr.core.metadata import ArrayV3Metadata

    order, filters, compressor, endian = _codecs(document["codecs"], len(document["shape"]))
    with warnings.catch_warnings():
        # zarr warns of data types that the specification does not list.
        warnings.simplefilter("ignore")
        metadata = ArrayV3Metadata.from_dict(dict(document))
        kind = metadata.data_type.to_native_dtype()
        as_json = _plain(metadata.data_type.to_json_scalar(metadata.fill_value, zarr_format=2))
        default = _plain(
            metadata.data_type.to_json_scalar(metadata.data_type.default_scalar(), zarr_format=2)
        )
    if kind.kind == "V":
        raise UnsupportedArrayError(f"its data type {document['data_type']} has no version 2 here")
    text = "|O" if kind.kind in "OT" else kind.newbyteorder(endian).str
    attributes = dict(document.get("attributes") or {})
    mask = _decoded(attributes.pop("_FillValue", None), kind.kind)
    fill, mask, said = _fill(as_json, default, mask, missing, kind.kind)
    if mask is not None:
        attributes["_FillValue"] = mask
    zarray = {
        "zarr_format": 2,
        "shape": list(document["shape"]),
        "chunks": list(chunk_shape),
        "dtype": text,
        "compressor": compressor,
        "fill_value": fill,
        "order": order,
        "filters": filters or None,
        "dimension_separator": ".",
    }
    return Version2(zarray, {**attributes, **names}, said)


def _fill(
    value: Any, default: Any, mask: Any, missing: int, kind: str
) -> tuple[Any, Any, str | None]:
    """Return the fill value, the ``_FillValue`` beside it, and what readers have to know."""
    if mask is not None and _same(mask, value):
        return value, None, None
    is_nan = value == "NaN"
    if not missing:
        # No chunk needs a fill value, and none is what xarray takes for a mask.
        return (value, None, None) if is_nan and mask is None else (None, mask, None)
    if is_nan:
        said = None if mask is None else f"xarray no longer masks {mask}, which its attributes name"
        return value, None, said
    if _same(value, default):
        said = None
        if kind == "f":
            said = (
                "chunks are missing and its fill value is 0: no fill value is recorded, because "
                "xarray would mask real zeros; VirtualiZarr reads NaN there"
            )
        return None, mask, said
    said = (
        f"chunks are missing, and version 2 makes xarray mask every value equal to its fill value "
        f"{value}, real ones too"
    )
    if mask is not None:
        said += f"; {mask}, which its attributes name, is no longer masked"
    return value, None, said


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) or (_is_nan(one) and _is_nan(other))


def _is_nan(value: Any) -> bool:
    return value == "NaN" or (isinstance(value, float) and value != value)  # noqa: PLR0124 only NaN


def _plain(value: Any) -> Any:
    """Return a scalar as JSON has it; False and 0.0 are 0 alike for comparisons."""
    return value.item() if hasattr(value, "item") else value


def _decoded(value: Any, kind: str) -> Any:
    """Return ``_FillValue`` as version 2 attributes have it: a number, NaN as text."""
    if value is None:
        return None
    if kind == "f" and isinstance(value, str):
        try:
            (number,) = struct.unpack("<d", base64.standard_b64decode(value))
        except (ValueError, struct.error):
            return value
        return "NaN" if number != number else number  # noqa: PLR0124 only NaN
    return value


def _codecs(
    codecs: Sequence[Mapping[str, Any]], ndim: int
) -> tuple[str, list[dict[str, Any]], dict[str, Any] | None, Any]:
    """Return order, filters, compressor and byte order."""
    order, endian = "C", "<"
    before: list[dict[str, Any]] = []
    after: list[dict[str, Any]] = []
    serialised = False
    for codec in codecs:
        name = str(codec["name"] if isinstance(codec, dict) else codec)
        options = dict(codec.get("configuration") or {}) if isinstance(codec, dict) else {}
        if name == "transpose" and not serialised and not before:
            given = options.get("order")
            turned = list(range(ndim - 1, -1, -1))
            if given in (turned, "F"):
                order = "F" if ndim > 1 else "C"
            elif given not in (list(range(ndim)), "C"):
                raise UnsupportedArrayError(f"version 2 has no transposition to {given}")
        elif name == "bytes":
            serialised = True
            endian = ">" if options.get("endian") == "big" else "<"
        elif name in {"vlen-utf8", "vlen-bytes"}:
            serialised = True
            before.append({"id": name})
        elif name == "sharding_indexed":
            raise UnsupportedArrayError(
                "its chunks are shards (codec sharding_indexed), which Kerchunk's readers cannot read"
            )
        else:
            (after if serialised else before).append(_codec(name, options))
    # The last is what version 2 has a place of its own for.
    compressor = after.pop() if after else None
    return order, [*before, *after], compressor, endian


def _codec(name: str, options: dict[str, Any]) -> dict[str, Any]:
    match name:
        case "blosc":
            return {
                "id": "blosc",
                "cname": options.get("cname", "zstd"),
                "clevel": options.get("clevel", 5),
                "shuffle": _SHUFFLES.get(options.get("shuffle", "noshuffle"), 0),
                "blocksize": options.get("blocksize", 0),
            }
        case "gzip":
            return {"id": "gzip", "level": options.get("level", 5)}
        case "zstd":
            level, checksum = options.get("level", 0), options.get("checksum", False)
            return {"id": "zstd", "level": level, "checksum": checksum}
        case "crc32c":
            return {"id": "crc32c", "location": "end"}
    if name.startswith("numcodecs."):
        return {"id": name.removeprefix("numcodecs."), **options}
    raise UnsupportedArrayError(f"version 2 has no codec for {name}")
