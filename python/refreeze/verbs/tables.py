"""Tables in files, written whole or not at all. What is in them is the caller's business."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from refreeze.runtime.output import whole_or_absent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["FORMATS", "check_format", "write_table"]

FORMATS = (".parquet", ".arrow", ".csv")
"""Suffixes of files that tables are written to."""


def check_format(output: Path) -> None:
    """Refuse a file of no known kind, with a `ValueError`."""
    if output.suffix not in FORMATS:
        raise ValueError(f"{output.name} ends in none of {', '.join(FORMATS)}")


def write_table(schema: Any, batches: Iterable[Any], output: Path) -> None:
    """Write record batches beside the file's place, and move it there when it is whole.

    Raises
    ------
    TargetError
        The file cannot be written. What ``batches`` raises is raised as it is.
    """
    from arro3.core import RecordBatchReader
    from arro3.io import write_csv, write_ipc, write_parquet

    write: Any = {".parquet": write_parquet, ".arrow": write_ipc, ".csv": write_csv}[output.suffix]
    watched = _Watched(batches)
    with whole_or_absent(output) as unfinished:
        try:
            with unfinished.open("wb") as file:
                rows = chain(watched, _header(watched, schema))
                write(RecordBatchReader.from_batches(schema, rows), file)
        except Exception:
            if watched.failure is None:
                raise
            raise watched.failure from None


class _Watched:
    """Remembers what batches raise: a writer that reads them makes an error of its own of that."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self._batches = batches
        self.failure: BaseException | None = None
        self.any = False

    def __iter__(self) -> Iterator[Any]:
        try:
            for batch in self._batches:
                self.any = True
                yield batch
        except BaseException as error:
            self.failure = error
            raise


def _header(watched: _Watched, schema: Any) -> Iterator[Any]:
    """Give a batch without rows when there was none at all: with the first, CSV gets its header."""
    from arro3.core import Table

    if not watched.any:
        yield from Table.from_batches([], schema=schema).combine_chunks().to_batches()
