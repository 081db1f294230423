"""Archives that change, and what a repository must show of them: the model of the state machine."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr

__all__ = ["ROWS", "Archive", "Model"]

ROWS = 6
"""Days that are whole chunks of every array."""
WIDTH = 4
LAYOUTS: dict[str, dict[str, Any]] = {
    "air": {"chunks": (3, 2)},
    "soil": {"chunks": (2, 4), "chunk_key_encoding": {"name": "v2", "separator": "."}},
    "sea": {"chunks": (2, 2), "shards": (6, 4)},
}
EPOCH = np.datetime64("2000-01-01", "s")
DAY = np.timedelta64(86_400, "s")
_numbers = itertools.count(1)


def fresh(length: int) -> np.ndarray[Any, Any]:
    """Values that nothing else has; none is the fill value 0."""
    rows = [next(_numbers) for _ in range(length * WIDTH)]
    return np.asarray(rows, "i4").reshape(length, WIDTH)


@dataclass
class Archive:
    """A Zarr store of some days, and its values."""

    folder: Path
    first_day: int
    own_units: bool
    """Whether its time begins at 0, counted from its first day."""
    days: int = 0
    values: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    mask: np.ndarray[Any, Any] = field(default_factory=lambda: fresh(1)[0])

    @classmethod
    def write(cls, folder: Path, first_day: int, days: int, *, own_units: bool) -> Archive:
        """Write a new archive."""
        archive = cls(folder, first_day, own_units)
        archive.values = {name: np.zeros((0, WIDTH), "i4") for name in LAYOUTS}
        root = zarr.open_group(folder, mode="w", zarr_format=3)
        for name, layout in LAYOUTS.items():
            root.create_array(
                name, shape=(0, WIDTH), dtype="i4", fill_value=0, compressors=None,
                dimension_names=("time", "x"), **layout,
            )  # fmt: skip
        start = EPOCH + first_day * DAY if own_units else EPOCH
        root.create_array(
            "time", shape=(0,), chunks=(50,), dtype="i8", fill_value=-1, dimension_names=("time",),
            attributes={"units": f"days since {str(start)[:10]}", "calendar": "standard"},
        )  # fmt: skip
        root.create_array("mask", data=archive.mask, chunks=(2,), dimension_names=("x",))
        archive.grow(days)
        return archive

    def grow(self, days: int) -> None:
        """Add days; a ragged last chunk is written anew."""
        root = zarr.open_group(self.folder, mode="a", zarr_format=3)
        for name in LAYOUTS:
            self.values[name] = np.concatenate([self.values[name], fresh(days)])
            array: Any = root[name]
            array.resize((self.days + days, WIDTH))
            array[self.days :] = self.values[name][self.days :]
        time: Any = root["time"]
        time.resize((self.days + days,))
        zero = 0 if self.own_units else self.first_day
        time[self.days :] = np.arange(self.days, self.days + days) + zero
        self.days += days

    def rewrite(self, name: str, day: int) -> None:
        """Write other values over the chunks of a day."""
        length = self._length(name)
        rows = slice(day // length * length, min((day // length + 1) * length, self.days))
        self.values[name][rows] = fresh(rows.stop - rows.start)
        array: Any = zarr.open_group(self.folder, mode="a", zarr_format=3)[name]
        array[rows] = self.values[name][rows]

    def delete(self, name: str, day: int) -> None:
        """Remove the first chunk of a day; it reads as the fill value."""
        layout = LAYOUTS[name]
        length, width = layout.get("shards", layout["chunks"])
        row = day // length
        key = f"{row}.0" if name == "soil" else f"c/{row}/0"
        (self.folder / name / key).unlink(missing_ok=True)
        self.values[name][row * length : (row + 1) * length, :width] = 0

    def _length(self, name: str) -> int:
        return int(LAYOUTS[name].get("shards", LAYOUTS[name]["chunks"])[0])

    def shown(self) -> Model:
        """Return what a reader of the archive sees."""
        times = EPOCH + (self.first_day + np.arange(self.days)) * DAY
        values = {name: array.copy() for name, array in self.values.items()}
        return Model(values | {"mask": self.mask.copy()}, times)


@dataclass(frozen=True)
class Model:
    """What readers see: values by name, and the times."""

    values: dict[str, np.ndarray[Any, Any]]
    times: np.ndarray[Any, Any]

    def followed_by(self, other: Model) -> Model:
        """Return this and then the days of another archive; what has no days stays."""
        values = {
            name: np.concatenate([array, other.values[name]]) if name in LAYOUTS else array
            for name, array in self.values.items()
        }
        return Model(values, np.concatenate([self.times, other.times]))

    def with_rows(self, rows: slice, archive: Model, start: int) -> Model:
        """Return the same with some days as an archive has them from `start` on; and its mask."""
        source = slice(start, start + rows.stop - rows.start)
        values = {name: array.copy() for name, array in self.values.items()}
        for name in LAYOUTS:
            values[name][rows] = archive.values[name][source]
        return replace(self, values=values | {"mask": archive.values["mask"]})
