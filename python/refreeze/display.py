"""What the command line shows while it works: a live bar, or a line every ten seconds.

Everything goes to standard error; results are not its business.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Self, TextIO

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress, TaskID

__all__ = ["ProgressDisplay"]

LINE_INTERVAL = 10.0
"""Seconds between two lines without a terminal."""

_STAGES = {
    "metadata": "metadata",
    "list": "listing",
    "commit": "committing",
    "check": "reading back",
    "publish": "publishing",
    "done": "done",
}


class ProgressDisplay(AbstractContextManager["ProgressDisplay"]):
    """Shows the events of an ingest; use it as a context manager and call it with each event.

    Parameters
    ----------
    stream
        Where to write. A terminal gets a live bar, anything else plain lines.
    quiet
        Write nothing.
    """

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._last_line = time.monotonic()
        self.stage = ""
        """Stage of the last event; empty before the first."""

    def __enter__(self) -> Self:
        if not self._quiet and self._stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                TextColumn("{task.description:<12}"),
                BarColumn(),
                TextColumn("{task.fields[figures]}"),
                TimeElapsedColumn(),
                console=Console(file=self._stream),
                transient=True,
            )
            self._task = self._bar.add_task("metadata", total=None, figures="")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        """Show an event of `refreeze.ingest`'s ``progress``."""
        self.stage = event["stage"]
        stage = _STAGES.get(self.stage, self.stage)
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task,
                description=stage,
                total=event["chunks_possible"] or None,
                completed=event["references_written"],
                figures=_figures(event),
            )
        elif not self._quiet and time.monotonic() - self._last_line >= LINE_INTERVAL:
            self._last_line = time.monotonic()
            print(f"{stage}: {_figures(event)}", file=self._stream, flush=True)


def _figures(event: dict[str, Any]) -> str:
    return (
        f"{event['list_requests']:,} requests, {event['keys_listed']:,} keys, "
        f"{event['references_written']:,} references, {event['commits']:,} commits"
    )
