"""Reads the objects and lists the folders of a source, for those who read its metadata.

Only what the store says is not there counts as absent: a refusal, a failure or a short answer is
an error that names the key. What documents mean is decided elsewhere, and chunks are listed by the
core.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import ListingError, UnsupportedArrayError
from refreeze.runtime.interruption import Job, in_parallel
from refreeze.stores.reading_errors import store_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from refreeze.stores.resolve import Source

__all__ = ["LARGEST_DOCUMENT", "Folder", "Reader"]

LARGEST_DOCUMENT = 64_000_000
"""Bytes of a metadata document, unless a caller allows more."""

_READERS = 16


@dataclass(frozen=True)
class Folder:
    """What lies directly below a path, by name and in order."""

    folders: list[str]
    objects: list[str]


class Reader:
    """Reads objects of a source; paths and keys are relative to it.

    Parameters
    ----------
    source
        The store and the path in it.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        local = type(source.store).__name__ == "LocalStore"
        self._store = _LocalFolder(source) if local else _ObjectStore(source)

    def documents(
        self, keys: Sequence[str], *, limit: int = LARGEST_DOCUMENT
    ) -> list[bytes | None]:
        """Read objects, many at a time.

        Parameters
        ----------
        keys
            Which objects, such as ``temperature/zarr.json``.
        limit
            Bytes that an object may have; a larger one is not read.

        Returns
        -------
        list of bytes or None
            In the order of the keys; None where the store says that there is no such object.

        Raises
        ------
        UnsupportedArrayError
            An object is larger than the limit.
        AccessError, ListingError
            The store refuses or fails; names the key.
        """
        return self._all(partial(self._store.read, limit=limit), keys)

    def folder(self, path: str) -> Folder:
        """List what lies directly below a path; nothing, if there is no such folder.

        Raises
        ------
        AccessError, ListingError
            The store refuses or fails; names the path.
        """
        return self.folders([path])[0]

    def folders(self, paths: Sequence[str]) -> list[Folder]:
        """List several folders at a time; see `folder`."""
        return self._all(self._store.folder, paths)

    def _all[T](self, read: Callable[[str], T], keys: Sequence[str]) -> list[T]:
        def one(key: str) -> T:
            with store_errors(self._source, key):
                return read(key)

        return in_parallel([Job(lambda _, key=key: one(key), 1) for key in keys], _READERS)  # type: ignore[misc]


class _LocalFolder:
    """A folder of a local file system, read as it is: obstore encodes names, and opens pipes."""

    def __init__(self, source: Source) -> None:
        self._root = Path(source.store.prefix or "/") / source.path

    def read(self, key: str, *, limit: int) -> bytes | None:
        path = self._path(key)
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            if path.is_symlink():
                raise ListingError(
                    f"{path} is a symbolic link that leads nowhere",
                    "fetch what it stands for (git annex get), or remove the link",
                ) from None
            return None
        except ValueError:
            # A null byte, or text that no name can be.
            return None
        if stat.S_ISDIR(status.st_mode):
            return None
        if not stat.S_ISREG(status.st_mode):
            # Opening a pipe would wait for its other end.
            raise ListingError(
                f"{path} is a named pipe, socket or device, not a file",
                "remove it from the store",
            )
        _check_size(str(path), status.st_size, limit)
        with path.open("rb") as file:
            # One byte more, in case it grows meanwhile.
            read = file.read(limit + 1)
        _check_size(str(path), len(read), limit)
        return read

    def folder(self, path: str) -> Folder:
        whole = self._path(path)
        folders: list[str] = []
        objects: list[str] = []
        try:
            with os.scandir(whole) as entries:
                for entry in entries:
                    (folders if _is_folder(entry) else objects).append(entry.name)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return Folder([], [])
        return Folder(sorted(folders), sorted(objects))

    def _path(self, key: str) -> Path:
        return self._root.joinpath(*_components(key))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, through links; one that leads back to where it is, is not."""
    try:
        if not entry.is_dir():
            return False
        if entry.is_symlink():
            there = os.path.realpath(entry.path)
            here = os.path.realpath(Path(entry.path).parent)
            return os.path.commonpath([there, here]) != there
    except OSError:
        # A loop of links.
        return False
    return True


class _ObjectStore:
    """Any other store, through obstore."""

    def __init__(self, source: Source) -> None:
        self._store: Any = source.store
        self._path = source.path
        self._url = source.url.rstrip("/")

    def read(self, key: str, *, limit: int) -> bytes | None:
        import obstore

        try:
            found = obstore.get(self._store, self._key(key))
        except FileNotFoundError:
            return None
        size = found.meta["size"]
        _check_size(f"{self._url}/{key}", size, limit)
        read = bytes(found.bytes())
        if len(read) != size:
            raise ListingError(
                f"cannot read {self._url}/{key}: {len(read)} of {size} bytes came",
                "check the network, then run the command again",
            )
        return read

    def folder(self, path: str) -> Folder:
        import obstore

        prefix = self._key(path)
        listed = obstore.list_with_delimiter(self._store, f"{prefix}/" if prefix else None)
        return Folder(
            sorted(below.rpartition("/")[2] for below in listed["common_prefixes"]),
            sorted(entry["path"].rpartition("/")[2] for entry in listed["objects"]),
        )

    def _key(self, relative: str) -> str:
        return "/".join([*_components(self._path), *_components(relative)])


def _components(path: str) -> list[str]:
    """Take a path apart.

    Raises
    ------
    ListingError
        It would lead out of where it begins.
    """
    parts = [part for part in path.split("/") if part]
    if ".." in parts or "." in parts:
        raise ListingError(
            f"{path!r} is not the path of anything in a Zarr store: it has '.' or '..' in it",
            "check the names in its metadata",
        )
    return parts


def _check_size(shown: str, size: int, limit: int) -> None:
    if size > limit:
        raise UnsupportedArrayError(
            f"{shown} is too large for a metadata document: {size:,} bytes, more than {limit:,}",
            "if it is right, allow it with --max-document",
        )
