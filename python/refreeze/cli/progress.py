"""What the command line shows while it works: live bars, or a line every ten seconds.

Everything goes to standard error; results are not its business.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, TextIO

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress, TaskID

__all__ = ["ProgressDisplay"]

LINE_INTERVAL = 10.0
"""Seconds between two lines without a terminal."""
BARS = 8
"""Arrays with a bar of their own at a time."""

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
        Where to write. A terminal gets live bars, one in total and one for each of the arrays
        that were listed last; anything else gets plain lines.
    quiet
        Write nothing.
    """

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._bars: Progress | None = None
        self._total: TaskID | None = None
        self._arrays: dict[str, TaskID] = {}
        self._began: tuple[float, int] | None = None
        self._last_line = time.monotonic()
        self.stage = ""
        """Stage of the last event; empty before the first."""

    def __enter__(self) -> Self:
        if not self._quiet and self._stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[figures]}"),
                TimeElapsedColumn(),
                console=Console(file=self._stream),
                transient=True,
            )
            self._total = self._bars.add_task("metadata", total=None, figures="")
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        """Show an event of `refreeze.ingest`'s ``progress``."""
        self.stage = event["stage"]
        if self._quiet:
            return
        if self._bars is not None:
            self._show(self._bars, event)
        elif time.monotonic() - self._last_line >= LINE_INTERVAL:
            self._last_line = time.monotonic()
            print(
                f"{_STAGES.get(self.stage, self.stage)}: {_figures(event)}{self._speed(event)}",
                file=self._stream,
                flush=True,
            )

    def _show(self, bars: Progress, event: dict[str, Any]) -> None:
        if self._total is not None:
            bars.update(
                self._total,
                description=_STAGES.get(self.stage, self.stage),
                total=event["chunks_possible"] or None,
                completed=event["chunks_found"],
                figures=_figures(event) + self._speed(event),
            )
        array = event["array"]
        if not array:
            return
        task = self._arrays.pop(array, None)
        if task is None:
            task = bars.add_task(array, total=event["array_chunks_possible"] or None, figures="")
        self._arrays[array] = task
        bars.update(
            task,
            completed=event["array_chunks_found"],
            figures=f"{event['array_chunks_found']:,} of {event['array_chunks_possible']:,} chunks",
        )
        if len(self._arrays) > BARS:
            oldest = next(iter(self._arrays))
            bars.remove_task(self._arrays.pop(oldest))

    def _speed(self, event: dict[str, Any]) -> str:
        """Chunks found a second since listing began, and the time left if all of them exist."""
        found, now = event["chunks_found"], time.monotonic()
        if self._began is None:
            # What an earlier attempt has committed is there from the beginning.
            self._began = (now, found)
            return ""
        began, before = self._began
        if now - began < 1 or found <= before:
            return ""
        rate = (found - before) / (now - began)
        left = max(event["chunks_possible"] - found, 0) / rate
        return f", {rate:,.0f} chunks/s, at most {timedelta(seconds=round(left))} left"


def _figures(event: dict[str, Any]) -> str:
    return (
        f"{event['list_requests']:,} requests, {event['keys_listed']:,} keys, "
        f"{event['references_written']:,} references, {event['commits']:,} commits"
    )


class FilesDisplay(AbstractContextManager["FilesDisplay"]):
    """Shows how many files are written: a live bar, or a line every ten seconds.

    Parameters
    ----------
    stream
        Where to write.
    quiet
        Write nothing.
    """

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._bars: Progress | None = None
        self._task: TaskID | None = None
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        if not self._quiet and self._stream.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._bars = Progress(console=Console(file=self._stream), transient=True)
            self._task = self._bars.add_task("writing", total=None)
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        """Show an event of `refreeze.write_region`'s ``progress``."""
        done, total = event["files_done"], event["files_total"]
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=done, total=total, description=event["stage"])
        elif not self._quiet and time.monotonic() - self._last_line >= LINE_INTERVAL:
            self._last_line = time.monotonic()
            print(
                f"{event['stage']}: {done:,} of {total:,} files, {event['bytes']:,} bytes",
                file=self._stream,
                flush=True,
            )
