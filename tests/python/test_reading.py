"""Objects and folders of sources as `refreeze.stores.reading` reads them: only a proven absence is one."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from refreeze.exceptions import ListingError, UnsupportedArrayError
from refreeze.stores.reading import Folder, Reader
from refreeze.stores.resolve import resolve_source, store_source

if TYPE_CHECKING:
    from pathlib import Path

    from s3_server import S3Server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a store with a document, a chunk and a stray file."""
    (tmp_path / "a" / "c").mkdir(parents=True)
    (tmp_path / "a" / "c" / "0").write_bytes(b"0")
    (tmp_path / "a" / "zarr.json").write_bytes(b"{}")
    (tmp_path / "README").write_bytes(b"text")
    return tmp_path


def test_a_local_folder_is_read_as_it_is(folder: Path) -> None:
    """A file where a folder is expected, odd names and absent keys are no errors."""
    (folder / "50% done #1").mkdir()
    (folder / "50% done #1" / "zarr.json").write_bytes(b"odd")
    reader = Reader(resolve_source(folder))
    keys = ["a/zarr.json", "b/zarr.json", "README/zarr.json", "a", "50% done #1/zarr.json", "\0"]
    assert reader.documents(keys) == [b"{}", None, None, None, b"odd", None]
    assert reader.documents([]) == []
    assert reader.folder("") == Folder(["50% done #1", "a"], ["README"])
    nothing = Folder([], [])
    assert reader.folders(["a", "README", "nothing"]) == [
        Folder(["c"], ["zarr.json"]),
        nothing,
        nothing,
    ]


def test_links_that_lead_nowhere_or_back_are_not_followed(folder: Path) -> None:
    """A document behind a dangling link is an error that names it; a loop of folders has an end."""
    (folder / "a" / ".zattrs").symlink_to("/nonexistent/annex")
    (folder / "back").symlink_to(folder)
    (folder / "self").symlink_to("self")
    (folder / "linked").symlink_to(folder / "a")
    reader = Reader(resolve_source(folder))
    with pytest.raises(ListingError, match=r"a/\.zattrs is a symbolic link that leads nowhere"):
        reader.documents(["a/.zattrs"])
    assert reader.folder("") == Folder(["a", "linked"], ["README", "back", "self"])


@pytest.mark.timeout(20)
def test_pipes_and_sockets_are_not_read(folder: Path) -> None:
    """Opening a named pipe would wait for ever; what is no file is an error that names it."""
    os.mkfifo(folder / "zarr.json")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(folder / ".zgroup"))
        reader = Reader(resolve_source(folder))
        with pytest.raises(ListingError, match=r"zarr\.json is a named pipe"):
            reader.documents(["zarr.json"])
        with pytest.raises(ListingError, match=r"\.zgroup is a named pipe, socket"):
            reader.documents([".zgroup"])
    assert reader.folder("").objects == [".zgroup", "README", "zarr.json"]


@pytest.mark.parametrize("kind", ["local", "s3", "memory"])
def test_every_store_is_read_alike(
    folder: Path, kind: str, s3_bucket: tuple[S3Server, str]
) -> None:
    """Documents, folders, a size above the limit and paths that lead out, in all kinds of stores."""
    from obstore.store import MemoryStore

    server, bucket = s3_bucket
    if kind == "local":
        reader = Reader(resolve_source(folder))
    else:
        import obstore

        store = MemoryStore() if kind == "memory" else server.store(bucket)
        for key, content in (("a/zarr.json", b"{}"), ("a/c/0", b"0"), ("README", b"text")):
            obstore.put(store, f"below/{key}", content)
        reader = Reader(store_source(store, "below"))
    assert reader.documents(["README", "a/zarr.json", "a/.zarray"]) == [b"text", b"{}", None]
    assert reader.folders(["", "a", "b"]) == [
        Folder(["a"], ["README"]),
        Folder(["c"], ["zarr.json"]),
        Folder([], []),
    ]
    assert reader.documents(["README"], limit=4) == [b"text"]
    with pytest.raises(UnsupportedArrayError, match="README is too large"):
        reader.documents(["README"], limit=3)
    with pytest.raises(ListingError, match=r"a/\.\./README"):
        reader.documents(["a/../README"])
