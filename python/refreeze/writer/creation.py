"""Arrays that are to be created: keywords in the spellings of zarr 2 and 3, and what they ask for.

Pure but for a store in memory, in which an array is made to see whether keywords contradict the
one that is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import zarr
from zarr.storage import MemoryStore

__all__ = ["as_array", "cast_to", "check_stored", "creation_keywords"]

_NAMES = (
    "attributes",
    "chunk_key_encoding",
    "chunks",
    "compressors",
    "dimension_names",
    "dtype",
    "fill_value",
    "filters",
    "order",
    "serializer",
    "shards",
)
_VERSION_2 = {"compressor": "compressors", "dimension_separator": "chunk_key_encoding"}


def as_array(data: Any) -> np.ndarray[Any, Any]:
    """Make a numpy array of data.

    Raises
    ------
    TypeError
        It cannot become one: ragged lists, objects.
    """
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise TypeError(f"the data cannot become a numpy array: {error}") from None
    if array.dtype.hasobject:
        raise TypeError(
            f"the data cannot become a numpy array of numbers or text: {type(data).__name__} "
            "gives an array of objects"
        )
    return array


def creation_keywords(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Translate keywords into those of ``zarr.create_array``.

    Raises
    ------
    ValueError
        A keyword does not exist, or is given in two spellings.
    """
    given: dict[str, Any] = {}
    for name, value in keywords.items():
        if name == "zarr_format":
            if value not in (None, 3):
                raise ValueError("zarr_format: an Icechunk repository holds format 3 only")
            continue
        target = _VERSION_2.get(name, name)
        if target not in _NAMES:
            raise ValueError(
                f"unknown keyword {name!r} (known: {', '.join(sorted({*_NAMES, *_VERSION_2}))})"
            )
        if target in given:
            raise ValueError(f"{name!r} and {target!r} say the same twice; give one of them")
        if name == "dimension_separator":
            value = {"name": "default", "separator": value}  # noqa: PLW2901 the newer spelling
        if target in {"compressors", "filters"}:
            value = _codecs(value)  # noqa: PLW2901 the newer spelling
        if target == "chunks" and isinstance(value, int) and not isinstance(value, bool):
            value = (value,)  # noqa: PLW2901 as zarr 2 takes it
        given[target] = value
    return given


def _codecs(value: Any) -> Any:
    """Turn codecs of zarr 2 (numcodecs) into those of zarr 3."""
    if value is None or isinstance(value, str):
        return "auto" if value in ("default", "auto") else value
    if isinstance(value, list | tuple):
        return tuple(_codec(codec) for codec in value)
    return (_codec(value),)


def _codec(codec: Any) -> Any:
    module = type(codec).__module__
    if not (module.startswith("numcodecs") and hasattr(codec, "get_config")):
        return codec
    from zarr import codecs
    from zarr.codecs import numcodecs as wrapped

    config = dict(codec.get_config())
    name = config.pop("id")
    if name == "zstd":
        return codecs.ZstdCodec(level=config["level"], checksum=bool(config.get("checksum")))
    if name == "gzip":
        return codecs.GzipCodec(level=config["level"])
    if name == "blosc":
        shuffle: Any = {0: "noshuffle", 1: "shuffle", 2: "bitshuffle"}.get(
            config["shuffle"], "shuffle"
        )
        return codecs.BloscCodec(
            cname=config["cname"], clevel=config["clevel"], shuffle=shuffle, blocksize=0
        )
    for candidate in vars(wrapped).values():
        if getattr(candidate, "codec_name", None) in (name, f"numcodecs.{name}"):
            return candidate(**config)
    raise ValueError(f"compressor {name!r} has no counterpart in format 3")


def check_stored(array: zarr.Array[Any], keywords: Mapping[str, Any]) -> None:
    """Refuse keywords that contradict a stored array.

    Raises
    ------
    ValueError
        Names the first keyword that does.
    """
    stored = array.metadata.to_dict()
    for name, value in keywords.items():
        if name == "attributes":
            contradicts = any(array.attrs.get(key) != value[key] for key in value)
        elif name == "dtype":
            contradicts = np.dtype(value) != array.dtype
        elif name == "chunks":
            wanted = tuple(value) if isinstance(value, list | tuple) else None
            contradicts = wanted is not None and not _same_chunks(array, wanted)
        elif name == "shards":
            contradicts = value is not None and array.shards != tuple(value)
        elif name == "order" or value == "auto":
            contradicts = False
        else:
            contradicts = _like(array, name, value)[_FIELDS[name]] != stored[_FIELDS[name]]
        if contradicts:
            raise ValueError(
                f"{name}={value!r} contradicts the stored array {array.path!r}, which has "
                f"{_shown(array, name)}; leave it out, or overwrite the array"
            )


_FIELDS = {
    "chunk_key_encoding": "chunk_key_encoding",
    "compressors": "codecs",
    "dimension_names": "dimension_names",
    "fill_value": "fill_value",
    "filters": "codecs",
    "serializer": "codecs",
}


def _same_chunks(array: zarr.Array[Any], wanted: tuple[Any, ...]) -> bool:
    if len(wanted) < array.ndim:
        wanted = (*wanted, *array.shape[len(wanted) :])
    return len(wanted) == array.ndim and all(
        have == want or want is None or (want == -1)
        for have, want in zip(array.chunks, wanted, strict=True)
    )


def _like(array: zarr.Array[Any], name: str, value: Any) -> dict[str, Any]:
    """Return the document of an array like the stored one, with one keyword instead."""
    keywords: dict[str, Any] = {
        "shape": array.shape,
        "chunks": array.chunks,
        "shards": array.shards,
        "dtype": array.dtype,
        "compressors": array.compressors,
        "filters": array.filters,
        "serializer": array.serializer,
        "fill_value": array.fill_value,
        name: value,
    }
    return zarr.create_array(MemoryStore(), **keywords).metadata.to_dict()


def _shown(array: zarr.Array[Any], name: str) -> str:
    known = {
        "attributes": dict(array.attrs),
        "dimension_names": getattr(array.metadata, "dimension_names", None),
    }
    value = known[name] if name in known else getattr(array, name, None)
    return f"{name}={value!r}"


def cast_to(data: np.ndarray[Any, Any], dtype: np.dtype[Any], where: str) -> np.ndarray[Any, Any]:
    """Convert data to a stored type, without a change of any value but float rounding.

    Raises
    ------
    ValueError
        The stored type cannot hold the data.
    """
    if data.dtype == dtype:
        return data
    if np.can_cast(data.dtype, dtype, "safe") or (
        dtype.kind in "fc"
        and data.dtype.kind in "iufcb"
        and not (dtype.kind < data.dtype.kind == "c")
    ):
        if data.dtype.kind == "c" and dtype.kind == "f":
            raise ValueError(f"{where} is stored as {dtype}, which cannot hold {data.dtype}")
        return data.astype(dtype)
    if data.dtype.kind in "iufb" and dtype.kind in "iub":
        with np.errstate(invalid="ignore", over="ignore"):
            converted = data.astype(dtype)
            if np.array_equal(converted, data):
                return converted
    raise ValueError(
        f"{where} is stored as {dtype}, which cannot hold these values of type {data.dtype}; "
        "overwrite it to change the type"
    )
