"""Where an array's chunks are, from its metadata document alone: shape, grid, chunk keys, names.

Data type and codecs are not looked at; what is wrong is refused before any library interprets the
document. Sources: the Zarr specifications of versions 2 and 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import UnsupportedArrayError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ARRAY_DIMENSIONS", "Layout", "given_names", "layout_of"]

ARRAY_DIMENSIONS = "_ARRAY_DIMENSIONS"
"""The attribute in which xarray keeps dimension names in version 2."""

_LARGEST_LENGTH = 2**64 - 1
_MOST_DIMENSIONS = 64
"""numpy has no arrays of more."""
_MOST_CODECS = 100
_SEPARATORS = ("/", ".")
_VERSION_2 = 2


@dataclass(frozen=True)
class Layout:
    """Shapes are in elements; a chunk is a stored object (the shard, of a sharded array)."""

    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    key_encoding: str
    """``default`` or ``v2``."""
    separator: str
    dimension_names: tuple[str | None, ...] | None
    """None where there are none, or where they are no names."""

    @property
    def addressed_by(self) -> tuple[str, ...]:
        """Names by which dimensions are addressed; ``dim_0``, … where they have none."""
        from refreeze import _refreeze

        return tuple(_refreeze.addressed_names(self.dimension_names, len(self.shape)))


def layout_of(document: Mapping[str, Any]) -> Layout:
    """Read the layout of an array from its document.

    Parameters
    ----------
    document
        ``zarr.json`` of version 3, or ``.zarray`` of version 2 with ``attributes`` beside.

    Raises
    ------
    UnsupportedArrayError
        It names what is wrong, not the array.
    """
    shape = _lengths(document, "shape", least=0)
    if document.get("zarr_format") == _VERSION_2:
        chunks: Any = _lengths(document, "chunks", least=0)
        encoding, separator = "v2", document.get("dimension_separator", ".")
        _check_number(document.get("filters"), "filters")
    else:
        chunks = _regular_grid(document.get("chunk_grid"))
        encoding, separator = _key_encoding(document.get("chunk_key_encoding"))
        _check_codecs(document.get("codecs"))
    if separator not in _SEPARATORS:
        raise UnsupportedArrayError(f"the separator of its chunk keys is {separator!r}, not / or .")
    if len(chunks) != len(shape):
        raise UnsupportedArrayError(
            f"it has {len(shape)} dimensions, its chunks have {len(chunks)}"
        )
    for axis, (chunk, length) in enumerate(zip(chunks, shape, strict=True)):
        # Older writers gave empty dimensions chunks of length zero.
        if chunk == 0 and length > 0:
            raise UnsupportedArrayError(f"its chunks have length 0 along dimension {axis}")
    return Layout(
        shape=shape,
        chunk_shape=tuple(chunk or 1 for chunk in chunks),
        key_encoding=encoding,
        separator=separator,
        dimension_names=_names(given_names(document), len(shape)),
    )


def given_names(document: Mapping[str, Any]) -> Any:
    """Return what a document has in the place of dimension names; None if there is nothing.

    Version 2 has no place for them: xarray keeps them in an attribute, and netCDF-C in a member of
    the document, where xarray looks for them too.
    """
    if document.get("zarr_format") != _VERSION_2:
        return document.get("dimension_names")
    attributes = document.get("attributes")
    if isinstance(attributes, dict) and attributes.get(ARRAY_DIMENSIONS) is not None:
        return attributes[ARRAY_DIMENSIONS]
    netcdf = document.get("_NCZARR_ARRAY")
    paths = netcdf.get("dimrefs") if isinstance(netcdf, dict) else None
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        return None
    return [path.rpartition("/")[2] for path in paths]


def _names(names: Any, count: int) -> tuple[str | None, ...] | None:
    """Return dimension names, or None if they are not text (or null) for each dimension."""
    if not isinstance(names, list | tuple) or len(names) != count:
        return None
    if not all(name is None or (isinstance(name, str) and _is_text(name)) for name in names):
        return None
    return tuple(names)


def _is_text(text: str) -> bool:
    """Whether it can be written: JSON can hold halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _lengths(holder: Mapping[str, Any], member: str, *, least: int) -> tuple[int, ...]:
    if member not in holder:
        raise UnsupportedArrayError(f"its metadata has no {member}")
    value = holder[member]
    # One number is what zarr-python takes for one dimension.
    found = [value] if _is_length(value, least) else value
    if not isinstance(found, list | tuple):
        raise UnsupportedArrayError(f"its {member} is not a list of lengths: {value!r}")
    if len(found) > _MOST_DIMENSIONS:
        raise UnsupportedArrayError(
            f"its {member} has {len(found)} dimensions, more than {_MOST_DIMENSIONS}"
        )
    for each in found:
        if not _is_length(each, least):
            raise UnsupportedArrayError(
                f"its {member} holds {_shown(each)}, which is no length: an integer from {least} "
                f"to {_LARGEST_LENGTH}"
            )
    return tuple(found)


def _is_length(value: Any, least: int) -> bool:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return is_number and least <= value <= _LARGEST_LENGTH


def _shown(value: Any) -> str:
    """Return a value's text; that of a huge integer, which Python refuses to make, in words."""
    if isinstance(value, int) and abs(value) > _LARGEST_LENGTH:
        return f"an integer of {value.bit_length()} bits"
    return repr(value)


def _regular_grid(grid: Any) -> tuple[int, ...]:
    if not isinstance(grid, dict) or not isinstance(grid.get("name"), str):
        raise UnsupportedArrayError("its metadata has no chunk_grid with a name")
    if grid["name"] != "regular":
        raise UnsupportedArrayError(
            f"a {grid['name']} chunk grid cannot be referenced; only regular ones can"
        )
    configuration = grid.get("configuration")
    if not isinstance(configuration, dict):
        raise UnsupportedArrayError("its chunk_grid has no configuration")
    shape = configuration.get("chunk_shape")
    if isinstance(shape, list) and any(isinstance(each, list) for each in shape):
        raise UnsupportedArrayError(
            "a rectilinear chunk grid cannot be referenced; only regular ones can"
        )
    return _lengths(configuration, "chunk_shape", least=0)


def _key_encoding(encoding: Any) -> tuple[str, Any]:
    if not isinstance(encoding, dict) or not isinstance(encoding.get("name"), str):
        raise UnsupportedArrayError("its metadata has no chunk_key_encoding with a name")
    name = encoding["name"]
    if name not in {"default", "v2"}:
        raise UnsupportedArrayError(f"unknown chunk key encoding {name} (known: default, v2)")
    configuration = encoding.get("configuration", {})
    if not isinstance(configuration, dict):
        raise UnsupportedArrayError("the configuration of its chunk_key_encoding is no object")
    usual = "/" if name == "default" else "."
    # zarr-python takes a separator beside the name, too.
    return name, configuration.get("separator", encoding.get("separator", usual))


def _check_codecs(codecs: Any) -> None:
    """Refuse more codecs than a library should have to look at, those inside of shards too."""
    _check_number(codecs, "codecs")
    waiting = [codecs]
    count = 0
    while waiting:
        inner = waiting.pop()
        for codec in inner if isinstance(inner, list) else ():
            count += 1
            _check_count(count, "codecs")
            configuration = codec.get("configuration") if isinstance(codec, dict) else None
            if isinstance(configuration, dict):
                waiting += [configuration.get("codecs"), configuration.get("index_codecs")]


def _check_number(codecs: Any, what: str) -> None:
    if isinstance(codecs, list):
        _check_count(len(codecs), what)


def _check_count(count: int, what: str) -> None:
    if count > _MOST_CODECS:
        raise UnsupportedArrayError(f"it has more than {_MOST_CODECS} {what}")
