"""Values of a source's arrays: of coordinates that are copied, compared or cut.

A box of an array is listed, read chunk by chunk and decoded: a chunk is missing only if the listing
has been proven complete without it. Which boxes are wanted is decided by the modes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import ListingError
from refreeze.metadata.chunk_codec import check_chunk, decoded_box, with_shape
from refreeze.stores.reading import ListedChunk, Reader
from refreeze.stores.reading_errors import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from refreeze.metadata.specs import ArraySpec
    from refreeze.stores.resolve import Source

__all__ = ["read_box"]

_ATTEMPTS = 3
_CONCURRENCY = 16
_V2 = 2


def read_box(source: Source, spec: ArraySpec, box: Sequence[tuple[int, int]]) -> Any:
    """Read a box of an array as it is stored: not masked, not scaled.

    Parameters
    ----------
    source
        The store that the array is in.
    spec
        The array.
    box
        Start and stop along each dimension, in elements.

    Returns
    -------
    numpy.ndarray
        Of the shape of the box.

    Raises
    ------
    ListingError, AccessError
        The store cannot be read, or a chunk cannot be decoded; names the chunk's key.
    UnsupportedArrayError
        A chunk is there and cannot be reached.
    """
    document = with_shape(spec.document, spec.shape)
    listed = _listed(source, spec, box)
    reader = Reader(source)
    beside = "/".join(filter(None, (spec.source_path, _document_name(spec))))
    for _ in range(_ATTEMPTS):
        read = reader.chunks(list(listed.values()), beside) if listed else []
        chunks = dict(zip(listed, read, strict=True))
        try:
            return decoded_box(document, chunks, box)
        except Exception as error:  # noqa: BLE001 whatever a codec raises of bytes that are wrong
            failure = error
    for at, chunk in chunks.items():
        try:
            check_chunk(document, chunk)
        except Exception as error:
            raise _undecodable(source, listed[at].key, error) from error
    raise _undecodable(source, spec.source_path, failure) from failure


def _undecodable(source: Source, key: str, error: Exception) -> ListingError:
    return ListingError(
        f"{source.url.rstrip('/')}/{key} cannot be decoded: {type(error).__name__}: "
        f"{one_line(error)}",
        "the chunk is damaged; leave its array out with --skip",
    )


def _listed(
    source: Source, spec: ArraySpec, box: Sequence[tuple[int, int]]
) -> dict[tuple[int, ...], ListedChunk]:
    """List the chunks that hold elements of a box."""
    from refreeze import _refreeze

    if math.prod(stop - start for start, stop in box) == 0:
        return {}
    chunks = [
        (start // chunk, -(-stop // chunk))
        for (start, stop), chunk in zip(box, spec.chunk_shape, strict=True)
    ]
    stream = _refreeze.list_chunks(
        source.store,
        source.path,
        spec,
        region=chunks,
        paths=False,
        flat=True,
        concurrency=_CONCURRENCY,
        undated=True,
    )
    listed = {}
    for batch in stream:
        coords = [batch.column(f"chunk_{axis}").to_pylist() for axis in range(len(spec.shape))]
        sizes, e_tags = batch.column("size").to_pylist(), batch.column("e_tag").to_pylist()
        for row, (size, e_tag) in enumerate(zip(sizes, e_tags, strict=True)):
            at = tuple(axis[row] for axis in coords)
            listed[at] = ListedChunk(_key(spec, at), size, e_tag)
    return listed


def _key(spec: ArraySpec, coords: tuple[int, ...]) -> str:
    parts = [str(coord) for coord in coords]
    if spec.key_encoding == "default":
        parts = ["c", *parts]
    name = spec.separator.join(parts) or "0"
    return f"{spec.source_path}/{name}" if spec.source_path else name


def _document_name(spec: ArraySpec) -> str:
    return ".zarray" if spec.source_format == _V2 else "zarr.json"
