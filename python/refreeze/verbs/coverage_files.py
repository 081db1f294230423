"""Writes a coverage to a file: a picture, a page, or a table of what a picture shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from refreeze.runtime.output import whole_or_absent
from refreeze.verbs.coverage_html import page
from refreeze.verbs.coverage_picture import figure, rows

if TYPE_CHECKING:
    from refreeze.verbs.coverage_report import Coverage

__all__ = ["FORMATS", "save"]

FORMATS = (".png", ".svg", ".html", ".parquet", ".csv")


def save(coverage: Coverage, path: Any, *, color: str = "present") -> None:
    """Write a picture or a table beside its place, and move it there; see `Coverage.save`."""
    output = Path(path)
    if output.suffix not in FORMATS:
        raise ValueError(f"{output.name} ends in none of {', '.join(FORMATS)}")
    with whole_or_absent(output) as unfinished:
        if output.suffix in {".png", ".svg"}:
            figure(coverage, color=color).savefig(unfinished, format=output.suffix[1:])
        elif output.suffix == ".html":
            unfinished.write_text(page(coverage, color=color), encoding="utf-8")
        else:
            _write_table(coverage, unfinished, output.suffix)


def _write_table(coverage: Coverage, path: Path, suffix: str) -> None:
    from arro3.core import Array, DataType, Table
    from arro3.io import write_csv, write_parquet

    texts = {"array", "x_dim", "y_dim"}
    kinds = {"fraction": DataType.float64(), "modified": DataType.float64()}
    table = Table.from_pydict(
        {
            name: Array(
                values,
                kinds.get(
                    name,
                    DataType.string() if name in texts or "label" in name else DataType.int64(),
                ),
            )
            for name, values in rows(coverage).items()
        }
    )
    write: Any = write_parquet if suffix == ".parquet" else write_csv
    with path.open("wb") as file:
        write(table, file)
