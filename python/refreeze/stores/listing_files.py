"""The files of a listing: brought to local disk one at a time, from a path or a bucket.

What is in them is not known here.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import posixpath
import tempfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from refreeze.exceptions import AccessError, ListingError
from refreeze.shown import one_line
from refreeze.stores.buckets import Bucket, bucket_of_url, open_bucket

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["ListingFile", "listing_file"]

_GZIP = b"\x1f\x8b"
_PIECE = 1 << 20


@dataclass(frozen=True)
class ListingFile:
    """A file on local disk, or an object of a bucket."""

    url: str
    """For messages."""
    path: str
    """On local disk, or in the bucket."""
    store: Any = field(default=None, repr=False)
    """The obstore store of the bucket; None for local disk."""

    def beside(self, relative: str) -> ListingFile:
        """Return the file at a path that begins in this one's folder."""
        folder = posixpath.dirname(self.path)
        path = posixpath.normpath(posixpath.join(folder, relative))
        root = self.url.removesuffix(self.path)
        return ListingFile(f"{root}{path}", path, self.store)

    def date(self) -> datetime | None:
        """Return when it was last modified; None when it is not there.

        Raises
        ------
        AccessError, ListingError
            The store refuses or fails.
        """
        import obstore

        with _errors(self.url):
            try:
                if self.store is None:
                    return datetime.fromtimestamp(Path(self.path).stat().st_mtime, UTC)
                found: datetime = obstore.head(self.store, self.path)["last_modified"]
            except FileNotFoundError:
                return None
            return found

    @contextmanager
    def opened(self, *, md5: str | None = None) -> Iterator[Path]:
        """Give the file on local disk, decompressed where it is gzip, while the context lasts.

        Parameters
        ----------
        md5
            Hexadecimal digest that its bytes must have.

        Raises
        ------
        AccessError, ListingError
            It cannot be read, is not what it should be, or there is no room.
        """
        with _errors(self.url):
            if self.store is None and not md5 and not _is_compressed(self.path):
                if not Path(self.path).is_file():
                    raise ListingError(f"there is no listing at {self.url}", "check the path")
                opened = Path(self.path)
                temporary = None
            else:
                temporary = tempfile.TemporaryDirectory(prefix="refreeze-listing-")
        if temporary is None:
            yield opened
            return
        with temporary as folder:
            with _errors(self.url):
                whole = self._copied(Path(folder) / "whole", md5)
                if _is_compressed(whole):
                    plain = Path(folder) / "plain"
                    with gzip.open(whole) as compressed, plain.open("wb") as file:
                        _copy(compressed, file)
                    whole.unlink()
                    whole = plain
            yield whole

    def _copied(self, to: Path, md5: str | None) -> Path:
        """Copy the bytes to local disk, and check their digest."""
        import obstore

        digest = hashlib.md5(usedforsecurity=False)
        with to.open("wb") as file:
            if self.store is None:
                with Path(self.path).open("rb") as given:
                    _copy(given, file, digest)
            else:
                for piece in obstore.get(self.store, self.path).stream(min_chunk_size=_PIECE):
                    digest.update(piece)
                    file.write(piece)
        if md5 and digest.hexdigest() != md5.lower():
            raise ListingError(
                f"{self.url} is not the file that the manifest names: its MD5 is "
                f"{digest.hexdigest()}, not {md5}",
                "fetch it once more",
            )
        return to


def listing_file(url: str, options: Mapping[str, Any] | None) -> ListingFile:
    """Find a file of a listing.

    Parameters
    ----------
    url
        URL or local path.
    options
        object_store settings, for URLs of buckets.
    """
    bucket = bucket_of_url(url)
    if bucket is None:
        if "://" in url and not url.startswith("file://"):
            raise ValueError(f"{url} is no listing: a local path, or a URL of an object store")
        path = os.path.abspath(os.path.expanduser(url.removeprefix("file://")))  # noqa: PTH100, PTH111 text
        return ListingFile(path, path)
    return in_bucket(bucket, options)


def in_bucket(bucket: Bucket, options: Mapping[str, Any] | None) -> ListingFile:
    """Find a file of a listing in a bucket."""
    store, _ = open_bucket(bucket, options, "listing")
    return ListingFile(bucket.url, bucket.path, store)


def _copy(given: IO[bytes] | gzip.GzipFile, file: IO[bytes], digest: Any = None) -> None:
    while piece := given.read(_PIECE):
        if digest is not None:
            digest.update(piece)
        file.write(piece)


def _is_compressed(path: str | Path) -> bool:
    try:
        with Path(path).open("rb") as file:
            return file.read(2) == _GZIP
    except OSError:
        return False


@contextmanager
def _errors(url: str) -> Iterator[None]:
    """Turn what reading raises into errors that name the file."""
    import obstore.exceptions

    try:
        yield
    except (ListingError, AccessError):
        raise
    except PermissionError as error:
        raise AccessError(
            f"cannot read the listing {url}: {one_line(error)}",
            "check the permissions, or the credentials in --listing-option",
        ) from error
    except FileNotFoundError:
        raise ListingError(f"there is no listing at {url}", "check the path") from None
    except (OSError, EOFError, zlib.error, obstore.exceptions.BaseError) as error:
        raise ListingError(
            f"cannot read the listing {url}: {one_line(error)}",
            "check that it is whole, the endpoint and --listing-option",
        ) from error
