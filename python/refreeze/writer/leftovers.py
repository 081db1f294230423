"""What a process that was killed while it created a repository on a local disk has left behind."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["clear_left_over"]

_FOLDERS_OF_ICECHUNK = {"snapshots", "transactions", "manifests", "chunks", "overwritten"}
_UNFINISHED = re.compile(r"repo#\d+")
"""The file that makes a repository, while the object_store crate writes it: it is renamed after."""


def clear_left_over(folder: Path) -> None:
    """Remove what a creation that was killed has left; the lock is held, nobody else is at it."""
    entries = list(folder.iterdir())
    if any(
        entry.name not in _FOLDERS_OF_ICECHUNK and not _UNFINISHED.fullmatch(entry.name)
        for entry in entries
    ):
        return
    files = [path for path in folder.rglob("*") if path.is_file()]
    # A creation writes one snapshot and one log before the repository is there.
    if len(files) <= 4:  # noqa: PLR2004 these and their temporary files
        for entry in entries:
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
