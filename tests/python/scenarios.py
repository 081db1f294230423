"""What the tests of whole ingests share: small Zarr stores, the command line, and what a repository holds."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import struct
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import icechunk
import numpy as np
import obstore
import pytest
import zarr
from numcodecs import Zstd

import refreeze
from refreeze.cli.app import main

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from multiprocessing.connection import Connection
    from pathlib import Path

    from s3_server import S3Server

SHAPE = (6, 4)
CHUNKS = (2, 4)
VALUES = np.arange(24, dtype="int32").reshape(SHAPE)


def write_store(folder: Path, *, zarr_format: Any = 3, offset: int = 0) -> Path:
    """Write a group with ``air`` (three chunks along ``time``), its coordinate, and ``nested/deep``."""
    root = zarr.open_group(folder, mode="w", zarr_format=zarr_format, attributes={"title": "air"})
    names: dict[str, Any] = {"dimension_names": ("time", "x")} if zarr_format == 3 else {}
    air = root.create_array("air", shape=SHAPE, chunks=CHUNKS, dtype="int32", **names)
    air[:] = VALUES + offset
    names = {"dimension_names": ("time",)} if zarr_format == 3 else {}
    time = root.create_array("time", shape=SHAPE[:1], chunks=(6,), dtype="int64", **names)
    time[:] = np.arange(6) + offset
    nested = root.create_group("nested")
    deep = nested.create_array("deep", shape=(4,), chunks=(2,), dtype="float64")
    deep[:] = np.arange(4) + offset
    return folder


def upload(server: S3Server, bucket: str, folder: Path, prefix: str) -> str:
    """Copy a folder into a bucket and return its URL."""
    store = server.store(bucket)
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            key = f"{prefix}/{file.relative_to(folder)}"
            obstore.put(store, key, file.read_bytes())
            if server.kind == "versitygw":
                # Whole seconds, as S3 has them.
                os.utime(server.root / bucket / key, (1_700_000_000, 1_700_000_000))
    return f"s3://{bucket}/{prefix}"


def edit(document: Path, **changes: Any) -> None:
    """Change fields of a JSON document; None removes one."""
    content = json.loads(document.read_text())
    for key, value in changes.items():
        content[key] = value
        if value is None:
            del content[key]
    document.write_text(json.dumps(content))


@dataclass(frozen=True)
class Outcome:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document that stdout must consist of."""
        return json.loads(self.out)


def cli(capsys: pytest.CaptureFixture[str], *arguments: object) -> Outcome:
    """Run the command line in this process."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return Outcome(int(ended.value.code or 0), said.out, said.err)


def command(*arguments: object) -> list[str]:
    """Return the command line of another process."""
    return [sys.executable, "-m", "refreeze", *(str(argument) for argument in arguments)]


def run(*arguments: object, env: Mapping[str, str] | None = None) -> Outcome:
    """Run the command line in another process."""
    done = subprocess.run(
        command(*arguments),
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def flags(option: str, settings: Mapping[str, str]) -> list[str]:
    """Return settings as repeated options of the command line."""
    return [word for pair in settings.items() for word in (option, "=".join(pair))]


def local_repository(folder: Path) -> icechunk.Repository:
    """Open a repository in a folder, with access to every local container that it knows."""
    storage = icechunk.local_filesystem_storage(str(folder))
    config = icechunk.Repository.fetch_config(storage)
    containers = (config and config.virtual_chunk_containers) or {}
    local = [prefix for prefix in containers if prefix.startswith("file://")]
    access = dict.fromkeys(local, icechunk.credentials.LocalFileSystemAccess)
    return icechunk.Repository.open(
        storage, authorize_virtual_chunk_access=icechunk.containers_credentials(access)
    )


def tip(folder: Path) -> str:
    """Return the snapshot that readers of a repository in a folder see."""
    return str(local_repository(folder).lookup_branch("main"))


def s3_storage(server: S3Server, bucket: str, prefix: str) -> icechunk.Storage:
    """Return storage that can be handed to refreeze: the S3 of object_store."""
    return icechunk.Storage.new_s3_object_store(
        icechunk.S3Options(
            region=server.region,
            endpoint_url=server.endpoint,
            allow_http=True,
            force_path_style=True,
        ),
        bucket,
        prefix,
        icechunk.s3_static_credentials(
            access_key_id=server.access_key_id, secret_access_key=server.secret_access_key
        ),
    )


def s3_repository(server: S3Server, bucket: str, prefix: str) -> icechunk.Repository:
    """Open a repository in a bucket, with access to every container that it knows."""
    storage = s3_storage(server, bucket, prefix)
    config = icechunk.Repository.fetch_config(storage)
    credentials = icechunk.s3_credentials(
        access_key_id=server.access_key_id, secret_access_key=server.secret_access_key
    )
    containers = (config and config.virtual_chunk_containers) or {}
    access: dict[str, Any] = {
        prefix: credentials
        if prefix.startswith("s3://")
        else icechunk.credentials.LocalFileSystemAccess
        for prefix in containers
    }
    return icechunk.Repository.open(
        storage, authorize_virtual_chunk_access=icechunk.containers_credentials(access)
    )


def group(repository: icechunk.Repository, branch: str = "main", path: str = "") -> zarr.Group:
    """Open a group of a branch for reading."""
    store = repository.readonly_session(branch).store
    return zarr.open_group(store, mode="r", path=path, zarr_format=3)


def nodes(repository: icechunk.Repository, branch: str = "main") -> list[str]:
    """Return the paths of the nodes on a branch; empty before there is a root group."""
    store = repository.readonly_session(branch).store
    try:
        root = zarr.open_group(store, mode="r", zarr_format=3)
    except FileNotFoundError:
        return []
    return ["/", *sorted(f"/{path}" for path, _ in root.members(max_depth=None))]


def state(repository: icechunk.Repository) -> dict[str, Any]:
    """Return everything that a failed ingest must leave as it was."""
    return {
        "branches": {name: repository.lookup_branch(name) for name in repository.list_branches()},
        "tags": {name: repository.lookup_tag(name) for name in repository.list_tags()},
        "nodes": nodes(repository),
    }


def assert_nothing_published(folder: Path) -> None:
    """Check that there is no repository, or one with nothing but staged work."""
    if folder.is_dir() and any(folder.iterdir()):
        now = state(local_repository(folder))
        assert now["nodes"] == []
        published = {name for name in now["branches"] if not name.startswith("refreeze/")}
        assert published == {"main"}


def stamp(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder and what they hold."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


PROMPTLY = 15
"""Seconds in which an interrupted process ends, on a machine with much else to do. Alone it takes one or two; what waits
for the requests that the tests hold back takes a minute."""
SMALL_COMMITS: dict[str, Any] = {"max_refs_per_commit": 4}
"""With this, the store of `write_series` makes more than 20 batches."""


def write_series(folder: Path, *, length: int = 26) -> Path:
    """Write arrays that are chunked differently along ``time``, some with holes, a coordinate and a scalar."""
    root = zarr.open_group(folder, mode="w", zarr_format=3, attributes={"title": "series"})
    values = np.arange(1, length * 4 + 1, dtype="int32").reshape(length, 4)
    for name, chunk in (("hourly", 1), ("nested/even", 2), ("sparse", 3)):
        array = root.create_array(
            name,
            shape=(length, 4),
            chunks=(chunk, 2),
            dtype="int32",
            fill_value=0,
            dimension_names=("time", "x"),
            attributes={"units": "K", "long_name": name},
        )
        array[:] = values
        if name == "sparse":
            array[6:12] = 0
            array[:, 2:] = 0
    time = root.create_array(
        "time", shape=(length,), chunks=(length,), dtype="int64", dimension_names=("time",)
    )
    time[:] = np.arange(length)
    root.create_array("scalar", shape=(), dtype="float64")[...] = 2.5
    return folder


def attempt(  # noqa: PLR0917 a process is given what it needs by position
    source: str,
    target: Any,
    options: Mapping[str, Any],
    at: Any,
    begun: Connection | None,
    verb: str = "ingest",
) -> None:
    """Ingest or sync, in a process of its own; SIGKILL comes `at` a stage and a number of commits."""

    def look(event: dict[str, Any]) -> None:
        if begun is not None and event["stage"] == "metadata":
            begun.send_bytes(b".")
        if at == (event["stage"], event["commits"]):
            os.kill(os.getpid(), signal.SIGKILL)

    getattr(refreeze, verb)(source, target, progress=look, **options)


IMPORTED = [
    "icechunk",
    "numcodecs",
    "obstore",
    "pytest",
    "refreeze._refreeze",
    "refreeze.cli.app",
    "refreeze.verbs.ingest",
    "refreeze.verbs.sync",
    "refreeze.metadata.selection",
    "refreeze.stores.resolve",
    "zarr",
]
"""What this module and `attempt` need; early releases of Python 3.12 cannot be asked for this module itself."""


def start_attempt(*arguments: Any) -> multiprocessing.process.BaseProcess:
    """Start `attempt` as another process, quickly: it is forked from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    process = context.Process(target=attempt, args=arguments, daemon=True)
    process.start()
    return process


def contents(
    repository: icechunk.Repository, read: Callable[[str], bytes], branch: str = "main"
) -> dict[str, Any]:
    """Return what a branch holds, by path: metadata documents and every chunk's reference or bytes.

    `read` returns a file of the repository. Every chunk must lie in the extents of its manifest.
    """
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    store = repository.readonly_session(branch).store
    found: dict[str, Any] = {}
    for node in repository.inspect_snapshot(repository.lookup_branch(branch))["nodes"]:
        key = f"{node['path']}/zarr.json".lstrip("/")
        document = sync(store.get(key, default_buffer_prototype()))
        assert document is not None
        chunks: dict[tuple[int, ...], Any] = {}
        for manifest in node.get("manifest_refs", ()):
            for coordinates, chunk in manifest_chunks(read(f"manifests/{manifest['id']}")).items():
                bounds = zip(coordinates, manifest["extents"], strict=True)
                assert all(start <= coordinate < stop for coordinate, (start, stop) in bounds)
                assert coordinates not in chunks
                chunks[coordinates] = chunk
        found[node["path"]] = (json.loads(document.to_bytes()), chunks)
    return found


def local_contents(folder: Path, branch: str = "main") -> dict[str, Any]:
    """Return what a branch of a repository in a folder holds."""
    return contents(local_repository(folder), lambda key: (folder / key).read_bytes(), branch)


def kill_after(commits_made: int, source: Path, target: Path, **options: Any) -> Any:
    """Leave an unfinished run in a target, as SIGKILL does after so many commits; return its status."""
    process = start_attempt(str(source), str(target), options, ("list", commits_made), None)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    run = refreeze.status(target).runs[0]
    assert (run.state, run.locked) == ("unfinished", False)
    return run


def foreign_commit(
    target: Path | icechunk.Repository, name: str = "theirs", branch: str = "main"
) -> str:
    """Commit an array by the icechunk wheel, as somebody else would."""
    repository = target if isinstance(target, icechunk.Repository) else local_repository(target)
    session = repository.writable_session(branch)
    root = zarr.open_group(session.store, mode="a", zarr_format=3)
    root.create_array(name, data=np.arange(5), chunks=(2,))
    return session.commit(f"create {name}")


def commits(repository: icechunk.Repository, branch: str = "main") -> list[tuple[str, Any]]:
    """Return message and completed work of the commits of a branch, oldest first."""
    history = reversed(list(repository.ancestry(branch=branch)))
    return [
        (snapshot.message, snapshot.metadata.get("refreeze.batches", {}).get("arrays"))
        for snapshot in history
    ]


def manifest_chunks(file: bytes) -> dict[tuple[int, ...], Any]:
    """Decode a manifest of one array: its bytes, or location, offset, length, ETag and time of each chunk."""
    header = 39
    assert file.startswith("ICE🧊CHUNK".encode())
    data = Zstd().decode(file[header:])
    (manifest,) = struct.unpack_from("<I", data)
    (array,) = _vector(data, _field(data, manifest, 1))
    chunks = {}
    for chunk in _vector(data, _field(data, array, 1)):
        index = _bytes(data, _field(data, chunk, 0), size=4)
        coordinates = struct.unpack(f"<{len(index) // 4}I", index)
        offset, length, modified = (
            int.from_bytes(data[at : at + size], "little") if at else 0
            for at, size in ((_field(data, chunk, number), size) for number, size in WIDTHS)
        )
        inline, location, e_tag = (
            _bytes(data, at) if at else None
            for at in (_field(data, chunk, number) for number in (1, 5, 6))
        )
        assert (inline is None) != (location is None)
        chunks[coordinates] = inline or (location, offset, length, e_tag, modified)
    return chunks


WIDTHS = ((2, 8), (3, 8), (7, 4))
"""Numbers and widths of the fields offset, length and time of a chunk in Icechunk's manifests."""


def _field(data: bytes, table: int, number: int) -> int:
    """Return where a field of a flatbuffers table is, or 0."""
    (back,) = struct.unpack_from("<i", data, table)
    size, *_ = struct.unpack_from("<H", data, table - back)
    slot = 4 + 2 * number
    if slot >= size:
        return 0
    (offset,) = struct.unpack_from("<H", data, table - back + slot)
    return table + offset if offset else 0


def _vector(data: bytes, field: int) -> list[int]:
    """Return where the tables of a flatbuffers vector are."""
    start = field + struct.unpack_from("<I", data, field)[0]
    (count,) = struct.unpack_from("<I", data, start)
    places = (start + 4 + 4 * number for number in range(count))
    return [place + struct.unpack_from("<I", data, place)[0] for place in places]


def _bytes(data: bytes, field: int, size: int = 1) -> bytes:
    start = field + struct.unpack_from("<I", data, field)[0]
    (count,) = struct.unpack_from("<I", data, start)
    return data[start + 4 : start + 4 + count * size]


def theirs(folder: Path, config: icechunk.RepositoryConfig | None = None) -> icechunk.Repository:
    """Create a repository with content, a tag and a branch of somebody else."""
    storage = icechunk.local_filesystem_storage(str(folder))
    repository = icechunk.Repository.create(storage, config=config)
    session = repository.writable_session("main")
    root = zarr.create_group(session.store, attributes={"owner": "them"})
    root.create_array("theirs", data=np.arange(10), chunks=(5,))
    first = session.commit("first", metadata={"author": "them"})
    repository.create_tag("v1", first)
    repository.create_branch("work", first)
    session = repository.writable_session("work")
    zarr.open_group(session.store, mode="r+").create_array("draft", data=np.arange(3))
    session.commit("draft")
    return repository
