"""What a scenario yields: rows, checks of figures, and how near a row comes to what is possible."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

MIB = 1 << 20
GRID = [1_000, 10, 100]
"""A million chunks, most of them along time."""


@dataclass(frozen=True)
class Check:
    """A figure that must not pass its target."""

    what: str
    value: float
    target: float
    at_least: bool = True

    @property
    def holds(self) -> bool:
        """Whether it does not."""
        return self.value >= self.target if self.at_least else self.value <= self.target


@dataclass
class Section:
    """A scenario's outcome."""

    name: str
    title: str
    columns: list[str]
    """Which figures of the rows are shown, in order; see `tables`."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def of(self, case: str, tool: str) -> dict[str, Any]:
        """Return one row."""
        return next(row for row in self.rows if row["case"] == case and row["tool"] == tool)

    def ratio(
        self,
        what: str,
        case: str,
        than: str,
        target: float,
        key: str,
        *,
        tool: str = "refreeze",
    ) -> None:
        """Check how many times less of `key` a tool takes than the other one."""
        value = self.of(case, than)[key] / self.of(case, tool)[key]
        self.checks.append(Check(f"{case}: {what}", value, target))


def limit(row: dict[str, Any], seconds: float) -> None:
    """Note what no program could be quicker than, and how near the row comes to it."""
    row |= {"limit_s": seconds, "share": seconds / row["wall"]}


class Fresh:
    """A path that does not exist yet, for each subject that needs a target."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count()

    def __call__(self) -> Path:
        """Return the next one."""
        return self._folder / f"repo{next(self._numbers)}"


@contextmanager
def workspace() -> Iterator[Fresh]:
    """Yield paths below a folder that is removed in the end."""
    with tempfile.TemporaryDirectory(prefix="refreeze-bench-") as folder:
        yield Fresh(Path(folder))
