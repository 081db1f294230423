"""Tells a caller how far something that writes is: the events of ``progress=`` and the log.

One shape of events for arrays and one for files; what is written is the callers' business.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ClassVar

__all__ = ["ArrayProgress", "FileProgress", "Progress"]

Progress = Callable[[dict[str, Any]], None]
"""A function that is called with events."""

_log = logging.getLogger("refreeze")


class _Counted:
    """Counts what is written and its bytes, and tells of both."""

    _unit: ClassVar[str]
    """What is counted, as the events name it."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self.begin()

    def begin(self) -> None:
        """Count from the beginning: the work is done, or done again."""
        self._done = self._bytes = 0

    def stage(self, stage: str, name: str = "") -> None:
        """Tell what is being done: ``read``, ``write``, ``commit`` or ``done``."""
        if self._progress is not None:
            self._progress(
                {
                    "stage": stage,
                    self._unit: name,
                    f"{self._unit}s_done": self._done,
                    f"{self._unit}s_total": self._total,
                    "bytes": self._bytes,
                }
            )


class ArrayProgress(_Counted):
    """Events of `write` and `ZarrSaver`: ``{"stage", "array", "arrays_done", "arrays_total", "bytes"}``.

    Bytes are those of the data, before it is encoded. After a conflict they begin anew.
    """

    _unit = "array"

    def add(self, array: str, size: int) -> None:
        """Count some bytes of an array as written."""
        self._bytes += size
        self.stage("write", array)

    def finished(self, array: str, size: int = 0) -> None:
        """Count an array as written."""
        self._done += 1
        _log.info("%s: written", array)
        self.add(array, size)


class FileProgress(_Counted):
    """Events of `write_region` and `create_template`: ``{"stage", "file", "files_done", "files_total", "bytes"}``."""

    _unit = "file"

    def finished(self, file: str, region: Any, size: int) -> None:
        """Count a file as written."""
        self._done += 1
        self._bytes += size
        _log.info("%s: %s", file, region)
        self.stage("write", file)
