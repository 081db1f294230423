"""Reads the objects and lists the folders of a source, for those who read its metadata.

Only what the store says is not there counts as absent: a refusal, a failure or a short answer is
an error that names the key. What documents mean is decided elsewhere, and chunks are listed by the
core.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import ListingError, RefreezeError, UnsupportedArrayError
from refreeze.runtime.interruption import Job, in_parallel
from refreeze.stores.kinds import kind_of
from refreeze.stores.mistakes import check_scheme, explained
from refreeze.stores.reading_errors import store_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from refreeze._refreeze import OpenedSource
    from refreeze.stores.resolve import Source

__all__ = ["LARGEST_DOCUMENT", "Folder", "ListedChunk", "Reader"]

LARGEST_DOCUMENT = 64_000_000
"""Bytes of a metadata document, unless a caller allows more."""

_BUCKETS = {"S3Store", "GCSStore", "AzureStore", "OpenedSource"}
"""Kinds of stores that the core lists and reads; the last has an inventory for its listings."""

_READERS = 16
"""Objects read at a time that may be large: chunks, and whatever is read by threads."""
_REQUESTS = 256
"""Documents and folders asked for at a time of a service."""


@dataclass(frozen=True)
class Folder:
    """What lies directly below a path, by name and in order."""

    folders: list[str]
    objects: list[str]


@dataclass(frozen=True)
class ListedChunk:
    """A chunk as a listing told of it."""

    key: str
    """Relative to the source."""
    size: int
    """Bytes."""
    e_tag: str | None
    """As the service gave it."""


class Reader:
    """Reads objects of a source; paths and keys are relative to it.

    Parameters
    ----------
    source
        The store and the path in it.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        check_scheme(source)
        # The kinds of which the core knows how to prove what they say, and the others.
        self._store: _LocalFolder | _Bucket | _Web | _ObjectStore
        kind = kind_of(source.store)
        if kind == "LocalStore":
            self._store = _LocalFolder(source)
        elif kind == "WebStore":
            self._store = _Web(source)
        elif kind in _BUCKETS and not (opened := _opened(source)).is_foreign:
            self._store = _Bucket(source.path, opened)
        else:
            self._store = _ObjectStore(source)
        self._found: dict[str, list[str]] = {}

    @property
    def lists_folders(self) -> bool:
        """Whether `folders` can be asked for: not of web servers."""
        return not isinstance(self._store, _Web)

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
        names = ["/".join(_components(key)) for key in keys]
        with _explaining(self._source):
            read = self._store.documents(names, limit)
        for name, document in zip(names, read, strict=True):
            if document is not None:
                folder, _, last = name.rpartition("/")
                self._found.setdefault(folder, []).append(last)
        return read

    def chunks(self, chunks: Sequence[ListedChunk], beside: str) -> list[bytes]:
        """Read objects that were listed, many at a time.

        Parameters
        ----------
        chunks
            What they are by their listing; what is read has the same length and, where that is
            one, digest.
        beside
            Key of another object, whose ETag tells whether those of this store are digests.

        Raises
        ------
        AccessError, ListingError
            The store refuses or fails, or gives something else than was listed; names the key.
        """
        return self._store.chunks(chunks, beside)

    def folder(self, path: str) -> Folder:
        """List what lies directly below a path; nothing, if there is no such folder.

        Raises
        ------
        AccessError, ListingError
            The store refuses or fails, or its listing lacks an object that `documents` has found;
            names the path.
        """
        return self.folders([path])[0]

    def folders(self, paths: Sequence[str]) -> list[Folder]:
        """List several folders at a time; see `folder`."""
        names = ["/".join(_components(path)) for path in paths]
        with _explaining(self._source):
            return self._store.folders([(name, self._found.get(name, [])) for name in names])


@contextmanager
def _explaining(source: Source) -> Iterator[None]:
    """Name the setting that is missing, where an error tells which."""
    try:
        yield
    except RefreezeError as error:
        told = explained(error, source)
        if told is error:
            raise
        raise told from error


def _opened(source: Source) -> OpenedSource:
    from refreeze import _refreeze

    return _refreeze.open_source(source.store, source.path)


class _Bucket:
    """A bucket, or a source that an inventory lists; listed and read by the core."""

    def __init__(self, path: str, opened: OpenedSource) -> None:
        from refreeze import _refreeze

        self._core = _refreeze
        self._path = path
        self._store = opened

    def documents(self, keys: Sequence[str], limit: int) -> list[bytes | None]:
        wanted = [(key, None, None) for key in keys]
        return self._core.read_objects(
            self._store, self._path, wanted, limit=limit, beside=None, concurrency=_REQUESTS
        )

    def chunks(self, chunks: Sequence[ListedChunk], beside: str) -> list[bytes]:
        wanted = [(chunk.key, chunk.size, chunk.e_tag) for chunk in chunks]
        read = self._core.read_objects(
            self._store, self._path, wanted, limit=None, beside=beside, concurrency=_READERS
        )
        # Of what was listed, an absence is an error.
        return [chunk or b"" for chunk in read]

    def folders(self, folders: Sequence[tuple[str, list[str]]]) -> list[Folder]:
        found = self._core.list_folders(self._store, self._path, folders, concurrency=_REQUESTS)
        return [Folder(names, objects) for names, objects in found]


class _Web(_Bucket):
    """A web server, read by the core; it has no folders to list."""

    def __init__(self, source: Source) -> None:
        super().__init__(source.path, _opened(source))
        self._url = source.url

    def folders(self, folders: Sequence[tuple[str, list[str]]]) -> list[Folder]:
        names = ", ".join(name or "/" for name, _ in folders[:3])
        raise ListingError(
            f"{self._url} is on a web server, which cannot be listed, and has no consolidated "
            f"metadata that tells what is in {names}",
            "name one array as the source (the URL, '/' and its name), or consolidate the store's "
            "metadata (zarr.consolidate_metadata)",
        )


class _OneByOne:
    """A store that is asked for one thing at a time, by several threads."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def read(self, key: str, limit: int) -> bytes | None:
        raise NotImplementedError

    def folder(self, path: str) -> Folder:
        raise NotImplementedError

    def documents(self, keys: Sequence[str], limit: int) -> list[bytes | None]:
        return self._all(partial(self.read, limit=limit), keys)

    def chunks(self, chunks: Sequence[ListedChunk], beside: str) -> list[bytes]:  # noqa: ARG002 (of the core)
        read = self._all(partial(self.read, limit=sys.maxsize), [chunk.key for chunk in chunks])
        return [self._as_listed(*pair) for pair in zip(chunks, read, strict=True)]

    def folders(self, folders: Sequence[tuple[str, list[str]]]) -> list[Folder]:
        return self._all(self.folder, [name for name, _ in folders])

    def _all[T](self, read: Callable[[str], T], keys: Sequence[str]) -> list[T]:
        def one(key: str) -> T:
            with store_errors(self._source, key):
                return read(key)

        return in_parallel([Job(lambda _, key=key: one(key), 1) for key in keys], _READERS)  # type: ignore[misc]

    def _as_listed(self, chunk: ListedChunk, read: bytes | None) -> bytes:
        if read is not None and len(read) == chunk.size:
            return read
        what = "is gone" if read is None else f"has {len(read)} bytes now"
        raise ListingError(
            f"{self._source.url.rstrip('/')}/{chunk.key} was listed with {chunk.size} bytes and "
            f"{what}",
            "wait until nothing writes to the source, then run the command again",
        )


class _LocalFolder(_OneByOne):
    """A folder of a local file system, read as it is: obstore encodes names, and opens pipes."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._root = Path(source.store.prefix or "/") / source.path

    def read(self, key: str, limit: int) -> bytes | None:
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
            read = file.read(min(limit, status.st_size) + 1)
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


class _ObjectStore(_OneByOne):
    """Any other store, by the methods that those of obstore have."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._store: Any = source.store
        self._path = source.path
        self._url = source.url.rstrip("/")

    def read(self, key: str, limit: int) -> bytes | None:
        try:
            found = self._store.get(self._key(key))
        except FileNotFoundError:
            return None
        size = found.meta["size"]
        _check_size(f"{self._url}/{key}", size, limit)
        read = bytes(found.bytes())
        if len(read) != size:
            raise ListingError(
                f"cannot read {self._url}/{key}: only {len(read)} of {size} bytes arrived",
                "check the network, then run the command again",
            )
        return read

    def folder(self, path: str) -> Folder:
        prefix = self._key(path)
        listed = self._store.list_with_delimiter(f"{prefix}/" if prefix else None)
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
