"""Pictures and tables of a coverage: matplotlib figures, an xarray dataset, rows for files.

What is drawn are the bins of `refreeze.verbs.coverage_tally.Tally`; what is missing is decided there.
"""

from __future__ import annotations

import math
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from refreeze.exceptions import TargetError
from refreeze.verbs.coverage_tally import edges

if TYPE_CHECKING:
    from refreeze.verbs.coverage_report import ArrayCoverage, Coverage

__all__ = ["COLORS", "bins_of", "cells", "dataset", "figure", "rows", "scale_of"]

COLORS = ("present", "size", "age")
_UNITS = {"present": "of the chunks present", "size": "bytes a chunk", "age": "days old"}
_DRAWN = 12
"""Arrays in one figure."""
_TICKS = 6


def cells(array: ArrayCoverage, color: str = "present") -> Any:
    """Return the values of a picture, by x and y; NaN where a bin has none."""
    tally = array.tally
    if color not in COLORS:
        raise ValueError(f"unknown color {color!r} (known: {', '.join(COLORS)})")
    with np.errstate(divide="ignore", invalid="ignore"):
        if color == "size":
            return tally.map_bytes / tally.map_present
        if color == "age":
            return (time.time() - tally.map_seconds / tally.map_timed) / 86_400
        return tally.map_present / tally.map_possible()


def scale_of(values: np.ndarray[Any, Any], color: str) -> tuple[float, float, str]:
    """Return both ends of the colour scale and its unit; the fraction present has a fixed one."""
    known = values[np.isfinite(values)]
    if color == "present" or not len(known):
        return 0.0, 1.0, _UNITS[color]
    return float(known.min()), float(known.max()), _UNITS[color]


def bins_of(array: ArrayCoverage, which: int) -> list[tuple[str, int, int, Any, Any]]:
    """Return a picture's bins along x (0) or y (1): dimension, first and last element and label."""
    tally = array.tally
    axis = tally.axes[which]
    name, length = array.dims[axis], array.shape[axis]
    chunk = max(array.chunk_shape[axis], 1)
    bounds = edges(array.grid_shape[axis], tally.shape[which]) * chunk
    labels = array.labels.get(name)
    found = []
    for start, stop in pairwise(bounds):
        first, last = int(start), min(int(stop), length)
        named = labels is not None and last > first
        found.append(
            (
                name,
                first,
                last,
                labels[first] if labels is not None and named else None,
                labels[last - 1] if labels is not None and named else None,
            )
        )
    return found


def dataset(coverage: Coverage) -> Any:
    """Return the pictures as an ``xarray.Dataset``; see `Coverage.to_xarray`."""
    import xarray as xr

    cuts: dict[str, list[tuple[str, int, int, Any, Any]]] = {}
    variables: dict[str, Any] = {}
    coords: dict[str, Any] = {}
    for array in coverage.arrays:
        name = array.path.strip("/")
        values = cells(array)
        dims = []
        for which in range(len(array.tally.axes)):
            bins = bins_of(array, which)
            dim = bins[0][0] if bins else array.dims[array.tally.axes[which]]
            if cuts.setdefault(dim, bins) != bins:
                dim = f"{name}/{dim}"
                cuts[dim] = bins
            dims.append(dim)
            coords[dim] = (dim, [one[1] for one in bins])
            if bins and bins[0][3] is not None:
                coords[f"{dim}_label"] = (dim, np.array([str(one[3]) for one in bins]))
        shaped = values.reshape(values.shape[: len(dims)]) if len(dims) < 2 else values  # noqa: PLR2004 x and y
        shaped = shaped[tuple(slice(0 if not array.possible else None) for _ in dims)]
        if array.possible:
            # A coordinate's own coverage must not take its name.
            key = f"{name}_present" if name in cuts or name in array.dims else name
            variables[key] = (tuple(dims), shaped, {"long_name": "fraction of chunks present"})
    known = {dim for _, (dims, *_) in variables.items() for dim in dims}
    coords = {name: value for name, value in coords.items() if value[0] in known}
    clashing = {name: f"{name}_present" for name in variables if name in coords}
    variables = {clashing.get(name, name): value for name, value in variables.items()}
    return xr.Dataset(variables, coords, {"url": coverage.url})


def figure(coverage: Coverage, array: str | None = None, *, color: str = "present") -> Any:
    """Draw arrays below each other; see `Coverage.plot`."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise TargetError(
            "pictures are drawn with matplotlib, which is not installed",
            "pip install 'refreeze[plot]', or write .html, .parquet or .csv",
        ) from error
    chosen = [one for one in coverage.arrays if one.possible]
    if array is not None:
        chosen = [
            one
            for one in chosen
            if array.strip("/") in (one.path.strip("/"), one.path.rpartition("/")[2])
        ]
        if not chosen:
            raise ValueError(f"no array {array} with chunks is in this coverage")
    # Long ones tell more; a figure of a hundred would tell nothing.
    drawn = sorted(chosen, key=lambda one: -one.possible)[:_DRAWN]
    drawn = [one for one in chosen if one in drawn]
    drawing = Figure(figsize=(12, 1 + 3.2 * max(len(drawn), 1)), dpi=120, layout="constrained")
    FigureCanvasAgg(drawing)
    if not drawn:
        drawing.suptitle(f"{coverage.url}: no chunks are possible")
        return drawing
    for axes, one in zip(drawing.subplots(len(drawn), 1, squeeze=False)[:, 0], drawn, strict=True):
        _draw(drawing, axes, one, color)
    left_out = len(chosen) - len(drawn)
    drawing.suptitle(
        coverage.url + (f" ({left_out} smaller arrays are not shown)" if left_out else "")
    )
    return drawing


def _draw(drawing: Any, axes: Any, array: ArrayCoverage, color: str) -> None:
    values = cells(array, color)
    low, high, unit = scale_of(values, color)
    image = axes.imshow(
        values.T,
        aspect="auto",
        interpolation="nearest",
        origin="upper",
        cmap="viridis",
        vmin=low,
        vmax=high,
        extent=(0, values.shape[0], values.shape[1], 0),
    )
    axes.set_title(f"{array.path}: {array.present:,} of {array.possible:,} chunks", loc="left")
    drawing.colorbar(image, ax=axes, label=unit)
    for which, side in ((0, axes.xaxis), (1, axes.yaxis)):
        if which >= len(array.tally.axes):
            side.set_ticks([])
            continue
        bins = bins_of(array, which)
        step = max(math.ceil(len(bins) / _TICKS), 1)
        shown = bins[::step]
        side.set_ticks(
            [index + 0.5 for index in range(0, len(bins), step)],
            labels=[str(first if label is None else label) for _, first, _, label, _ in shown],
        )
        side.set_label_text(array.dims[array.tally.axes[which]])


def rows(coverage: Coverage) -> dict[str, list[Any]]:
    """Return the cells of all pictures as columns; elements, not chunks, bound a cell."""
    columns: dict[str, list[Any]] = {
        name: []
        for name in (
            "array", "x_dim", "x_start", "x_stop", "x_first_label", "x_last_label",
            "y_dim", "y_start", "y_stop", "y_first_label", "y_last_label",
            "possible", "present", "fraction", "bytes", "modified",
        )
    }  # fmt: skip
    for array in coverage.arrays:
        if not array.possible:
            continue
        tally = array.tally
        nothing = [("", 0, 1, None, None)]
        xs = bins_of(array, 0) if tally.axes else nothing
        ys = bins_of(array, 1) if len(tally.axes) > 1 else nothing
        possible, fraction = tally.map_possible(), cells(array)
        for i, x in enumerate(xs):
            for j, y in enumerate(ys):
                timed = int(tally.map_timed[i, j])
                values = (
                    array.path, *x[:3], _label(x[3]), _label(x[4]), *y[:3], _label(y[3]), _label(y[4]),
                    int(possible[i, j]), int(tally.map_present[i, j]), float(fraction[i, j]),
                    int(tally.map_bytes[i, j]), float(tally.map_seconds[i, j] / timed) if timed else None,
                )  # fmt: skip
                for column, value in zip(columns.values(), values, strict=True):
                    column.append(value)
    return columns


def _label(label: Any) -> str | None:
    return None if label is None else str(label)
