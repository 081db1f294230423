"""What of an array is listed in a source: each piece as an array of that source of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from refreeze.metadata.specs import ArraySpec

if TYPE_CHECKING:
    from refreeze.metadata.specs import Piece
    from refreeze.planning.source_slice import Box

__all__ = ["Part", "part_of", "parts_of"]

Part = tuple[ArraySpec, "Box"]


def parts_of(array: ArraySpec, source: int) -> list[Part]:
    """Return what of an array is listed in a source."""
    if array.pieces is None:
        return [(array, _whole(array))] if array.source == source else []
    return [part_of(array, piece) for piece in array.pieces if piece.source == source]


def part_of(array: ArraySpec, piece: Piece) -> Part:
    """Return a piece as chunks of the array in the source."""
    spec = ArraySpec(
        path=array.path,
        source_path=piece.source_path,
        document=b"",
        shape=piece.shape,
        chunk_shape=piece.chunk_shape,
        key_encoding=piece.key_encoding,
        separator=piece.separator,
        copied=False,
    )
    target = zip(piece.target, piece.shift, strict=True)
    return spec, tuple((start + by, stop + by) for (start, stop), by in target)


def _whole(array: ArraySpec) -> Box:
    return tuple((0, count) for count in array.grid_shape)
