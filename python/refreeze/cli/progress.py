"""What the command line shows while it works: live bars, or a line every ten seconds.

Everything goes to standard error; results are not its business.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from rich.progress import Progress, ProgressColumn, TaskID

__all__ = ["FilesDisplay", "ProgressDisplay"]

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


class _Display:
    """Live bars on a terminal, a line every ten seconds elsewhere, nothing where it is to be quiet.

    Parameters
    ----------
    stream
        Where to write.
    quiet
        Write nothing.
    """

    _first_stage = ""
    """What the first bar says before there is an event."""

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._bars: Progress | None = None
        self._total: TaskID | None = None
        self._last_line = time.monotonic()

    def _columns(self) -> tuple[ProgressColumn, ...]:
        """Return the columns of the bars; none: those that the library has by itself."""
        return ()

    def __enter__(self) -> Self:
        if not self._quiet and self._stream.isatty():
            from rich.console import Console
            from rich.progress import Progress

            console = Console(file=self._stream)
            self._bars = Progress(*self._columns(), console=console, transient=True)
            self._total = self._bars.add_task(self._first_stage, total=None, figures="")
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

    def _line(self, text: Callable[[], str]) -> None:
        """Write a line, unless one was written a moment ago."""
        if not self._quiet and time.monotonic() - self._last_line >= LINE_INTERVAL:
            self._last_line = time.monotonic()
            print(text(), file=self._stream, flush=True)


class ProgressDisplay(_Display):
    """Shows the events of an ingest; use it as a context manager and call it with each event.

    A terminal gets a bar in total and one for each of the arrays that were listed last.
    """

    _first_stage = "metadata"

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        super().__init__(stream, quiet=quiet)
        self._arrays: dict[str, TaskID] = {}
        self._began: tuple[float, int] | None = None
        self.stage = ""
        """Stage of the last event; empty before the first."""

    def _columns(self) -> tuple[ProgressColumn, ...]:
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

        return (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
        )

    def __call__(self, event: dict[str, Any]) -> None:
        """Show an event of `refreeze.ingest`'s ``progress``."""
        self.stage = event["stage"]
        if self._bars is not None:
            self._show(self._bars, event)
        else:
            stage = _STAGES.get(self.stage, self.stage)
            self._line(lambda: f"{stage}: {_figures(event)}{self._speed(event)}")

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


class FilesDisplay(_Display):
    """Shows how many files are written."""

    _first_stage = "writing"

    def __call__(self, event: dict[str, Any]) -> None:
        """Show an event of `refreeze.write_region`'s ``progress``."""
        done, total, stage = event["files_done"], event["files_total"], event["stage"]
        if self._bars is not None and self._total is not None:
            self._bars.update(self._total, completed=done, total=total, description=stage)
        else:
            self._line(lambda: f"{stage}: {done:,} of {total:,} files, {event['bytes']:,} bytes")
