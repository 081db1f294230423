"""What every command costs before it has anything to do: a small store, as a whole process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import zarr

from harness import Bench, Endpoint, Subject, median_row
from sections import Check, Section, workspace

if TYPE_CHECKING:
    from pathlib import Path

_MOST = 0.35
"""CPU seconds, from starting Python to its end."""


def _write(folder: Path, version: Literal[2, 3]) -> None:
    """Write two arrays of ten chunks, their metadata consolidated as version 2 stores have it."""
    group = zarr.create_group(folder, zarr_format=version)
    for name in ("t2m", "msl"):
        array = group.create_array(name, shape=(20, 4), chunks=(2, 4), dtype="f4")
        array[:] = np.ones((20, 4), "f4")
    if version == 2:  # noqa: PLR2004 (the version's number)
        zarr.consolidate_metadata(folder, zarr_format=2)


def start(bench: Bench, _: bool) -> Section:
    """Import refreeze and ingest two small arrays, of both versions of Zarr."""
    columns = ["runs", "wall", "cpu", "rss"]
    title = "A small store on local disk: `import refreeze` and an ingest, the whole process"
    case = "two arrays of ten chunks"
    section = Section("start", title, columns)
    versions: tuple[Literal[2, 3], ...] = (2, 3)
    with workspace() as fresh, Endpoint([]) as endpoint:
        for version in versions:
            tool, folder = f"Zarr version {version}", fresh()
            _write(folder, version)
            rows = []
            for _turn in range(3 * bench.runs):
                arguments = {"folder": str(folder), "target": str(fresh())}
                subject = Subject(tool, "refreeze_ingest_folder", arguments)
                rows.append(bench.once(endpoint, case, subject))
            section.rows.append(median_row(rows))
            cpu = section.rows[-1]["cpu"]
            section.checks.append(Check(f"{tool}: CPU seconds", cpu, _MOST, at_least=False))
    return section
