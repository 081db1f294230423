"""`replacing`: a folder or file on local disk that is exchanged for a new one in one step.

The kernel exchanges two names atomically (renameat2 with RENAME_EXCHANGE); whoever is killed
leaves the old or the new behind, and a folder beside it that the next call sweeps.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from refreeze.exceptions import ConflictError, TargetError

__all__ = ["replacing"]

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextmanager
def replacing(path: Any) -> Iterator[Path]:
    """Replace a folder store or a file on local disk by what the block writes, or not at all.

    Parameters
    ----------
    path
        What is to be replaced, or created: any folder (a plain Zarr store, a Parquet data set) or
        file.

    Yields
    ------
    pathlib.Path
        A path beside it, where nothing is yet. What stands there when the block ends without an
        error takes the place of ``path`` in one step; what was there may be read until then.

    Raises
    ------
    TargetError
        The path is in an object store, the block wrote nothing, or the file system cannot exchange
        names.
    ConflictError
        The path changed its kind while the block ran, or another process replaced it.

    Examples
    --------
    >>> with refreeze.replacing("store.zarr") as new:  # doctest: +SKIP
    ...     (xr.open_zarr("store.zarr") + 1).to_zarr(new)
    """
    place = _local(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    _sweep(place)
    before = _identity(place)
    beside = place.parent / f"{_prefix(place)}{uuid.uuid4().hex[:12]}"
    beside.mkdir()
    handle = os.open(beside, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        new = beside / place.name
        yield new
        if not os.path.lexists(new):
            raise TargetError(
                f"nothing was written to {new}, so {place} stays as it is",
                "write to the path that the context manager gives",
            )
        _sync(new)
        if _identity(place) != before:
            raise ConflictError(
                f"{place} was replaced by somebody else meanwhile; it stays as it is",
                "read it and write again",
            )
        if before is None:
            new.rename(place)
        else:
            _exchange(new, place)
        _sync_folder(place.parent)
    finally:
        # Before the lock ends: whoever sweeps finds either a locked folder or none.
        shutil.rmtree(beside, ignore_errors=True)
        os.close(handle)


def _local(path: Any) -> Path:
    text = os.fspath(path)
    scheme, separator, _rest = text.partition("://")
    if separator and scheme.lower() != "file":
        raise TargetError(
            f"{scheme}:// cannot exchange two stores: object storage has no rename, so that readers "
            "would see a mixture of old and new",
            "keep the data in an Icechunk repository and use refreeze.write, which is atomic there",
        )
    if separator:
        from urllib.parse import unquote, urlsplit

        text = unquote(urlsplit(text).path)
    place = Path(text).expanduser().absolute()
    # A link stays a link: what it leads to is replaced.
    return place.resolve() if place.is_symlink() else place


def _prefix(place: Path) -> str:
    return f".{place.name}.refreeze-"


def _identity(place: Path) -> tuple[int, int] | None:
    try:
        found = place.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _sweep(place: Path) -> None:
    """Remove what killed processes have left: folders whose lock is free."""
    for entry in place.parent.glob(f"{_escaped(_prefix(place))}*"):
        if not entry.is_dir() or entry.is_symlink():
            continue
        with suppress(OSError):
            handle = os.open(entry, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(entry, ignore_errors=True)
            finally:
                os.close(handle)


def _escaped(text: str) -> str:
    import glob

    return glob.escape(text)


def _sync(new: Path) -> None:
    """Bring everything that was written to the disk, before names are exchanged."""
    if new.is_file():
        _sync_file(new)
    else:
        for folder, _, files in os.walk(new):
            for name in files:
                _sync_file(Path(folder, name))
            _sync_folder(Path(folder))
    _sync_folder(new.parent)


def _sync_file(path: Path) -> None:
    with suppress(PermissionError, FileNotFoundError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


_sync_folder = _sync_file


def _exchange(new: Path, place: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    call = getattr(libc, "renameat2", None)
    if sys.platform == "linux" and call is not None:
        result = call(
            _AT_FDCWD,
            os.fsencode(new),
            _AT_FDCWD,
            os.fsencode(place),
            ctypes.c_uint(_RENAME_EXCHANGE),
        )
        code = ctypes.get_errno()
    elif (call := getattr(libc, "renamex_np", None)) is not None:
        result = call(os.fsencode(new), os.fsencode(place), ctypes.c_uint(_RENAME_EXCHANGE))
        code = ctypes.get_errno()
    else:
        result, code = -1, errno.ENOSYS
    if result == 0:
        return
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        if place.is_file() and new.is_file():
            # A file replaces a file atomically on every POSIX file system.
            os.replace(new, place)  # noqa: PTH105 the builtin names its guarantee
            return
        raise TargetError(
            f"the file system of {place} cannot exchange two names; it stays as it is",
            "use a file system that can (ext4, xfs, btrfs, tmpfs, APFS), or refreeze.write",
        )
    raise TargetError(f"cannot exchange {new} and {place}: {os.strerror(code)}")
