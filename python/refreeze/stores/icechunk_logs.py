"""Keeps Icechunk's warning of local commits from those whom refreeze's lock protects from them.

Icechunk warns whenever a storage on local disk is made, because commits of several processes at once can
be lost there. Where refreeze opens the repository it holds a lock for each commit. A storage that a
user has made has warned before refreeze sees it.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["hide_local_warnings", "without_local_warnings"]

_FILTER = "ICECHUNK_LOG"
"""The variable that icechunk reads its filter from."""
_QUIET = "warn,icechunk_arrow_object_store=error,icechunk_storage::readback=error"
"""The second is about answers that are lost on a network."""


@contextmanager
def without_local_warnings() -> Iterator[None]:
    """Hide the warnings in a block of code, unless ``ICECHUNK_LOG`` says what is to be shown."""
    import icechunk

    if os.environ.get(_FILTER):
        yield
        return
    icechunk.set_logs_filter(_QUIET)
    try:
        yield
    finally:
        icechunk.set_logs_filter(None)


def hide_local_warnings() -> None:
    """Hide the warnings for good, in a process of our own."""
    import icechunk

    if not os.environ.get(_FILTER):
        icechunk.set_logs_filter(_QUIET)
