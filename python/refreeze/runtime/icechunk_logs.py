"""Keeps one warning of Icechunk quiet where its cause is taken care of.

Whoever opens a repository on a local disk is told that concurrent commits are not safe there.
refreeze holds the folder's lock while it commits, so that they are.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import icechunk

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["locked_commits", "quiet_opening"]

_FILTER = "warn,icechunk_arrow_object_store=error,icechunk_storage::readback=error"
_VARIABLE = "ICECHUNK_LOG"
"""Whoever sets it wants to see what Icechunk has to say."""


def locked_commits() -> None:
    """Do without the warning in this process, which is our own."""
    if _VARIABLE not in os.environ:
        icechunk.set_logs_filter(_FILTER)


@contextmanager
def quiet_opening() -> Iterator[None]:
    """Do without the warning while a repository is opened; then Icechunk logs as by default."""
    if _VARIABLE in os.environ:
        yield
        return
    icechunk.set_logs_filter(_FILTER)
    try:
        yield
    finally:
        icechunk.set_logs_filter(None)
