"""Assigns to a part of a stored array what numpy would assign, touching only the chunks concerned.

Every kind of index that numpy takes has numpy's meaning, including which dimensions come first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import zarr

__all__ = ["assign"]


def assign(
    array: zarr.Array[Any], indices: Any, data: np.ndarray[Any, Any], *, dry_run: bool = False
) -> bool:
    """Do ``array[indices] = data`` in a stored array.

    Parameters
    ----------
    dry_run
        Only check that it can be done.

    Returns
    -------
    Whether anything was selected.

    Raises
    ------
    IndexError
        The indices are out of bounds, or no indices.
    ValueError
        The data does not go into the selection.
    """
    if isinstance(indices, list):
        indices = np.asarray(indices) if indices else np.empty(0, "i8")
    if isinstance(indices, np.ndarray) and indices.dtype.hasobject:
        raise IndexError("indices are integers, slices, boolean masks, or arrays of those")
    # One byte that is seen in the array's shape: numpy says what the selection looks like.
    shape = np.broadcast_to(np.zeros((), "?"), array.shape)[indices].shape
    while data.ndim > len(shape) and data.shape[0] == 1:
        data = data[0]
    try:
        values = np.broadcast_to(data, shape)
    except ValueError:
        raise ValueError(
            f"data of shape {data.shape} does not go into the selection, which has shape {shape}"
        ) from None
    if 0 in shape:
        return False
    if dry_run:
        return True
    if (slices := _as_slices(array.shape, indices)) is not None:
        lengths = [
            len(range(*part.indices(size))) for part, size in zip(slices, array.shape, strict=True)
        ]
        array.set_basic_selection(slices, values.reshape(lengths))
        return True
    _scatter(array, indices, values)
    return True


def _as_slices(shape: tuple[int, ...], indices: Any) -> tuple[slice, ...] | None:
    """Return the index as forward slices, if it is one of integers and forward slices."""
    parts = list(indices) if isinstance(indices, tuple) else [indices]
    plain = (int, np.integer, slice, type(Ellipsis))
    if any(isinstance(part, bool | np.bool_) or not isinstance(part, plain) for part in parts):
        return None
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        parts[at : at + 1] = [slice(None)] * (len(shape) - len(parts) + 1)
    parts += [slice(None)] * (len(shape) - len(parts))
    slices = []
    for part, size in zip(parts, shape, strict=True):
        if isinstance(part, slice):
            start, stop, step = part.indices(size)
            if step < 1:
                return None
            slices.append(slice(start, stop, step))
        else:
            start = int(part) % size
            slices.append(slice(start, start + 1))
    return tuple(slices)


def _scatter(array: zarr.Array[Any], indices: Any, values: np.ndarray[Any, Any]) -> None:
    """Write element by element; of several values for one element the last counts, as in numpy."""
    coordinates = []
    for axis, size in enumerate(array.shape):
        along = np.arange(size).reshape([-1 if k == axis else 1 for k in range(array.ndim)])
        coordinates.append(np.broadcast_to(along, array.shape)[indices].ravel())
    flat = np.ravel_multi_index(coordinates, array.shape)
    _, last = np.unique(flat[::-1], return_index=True)
    chosen = len(flat) - 1 - last
    array.set_coordinate_selection(
        tuple(each[chosen] for each in coordinates), values.ravel()[chosen]
    )
