"""What the tests of whole ingests share: small Zarr stores, the command line, and what a repository holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import icechunk
import numpy as np
import obstore
import pytest
import zarr

from refreeze.cli import main

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from s3_server import S3Server

SHAPE = (6, 4)
CHUNKS = (2, 4)
VALUES = np.arange(24, dtype="int32").reshape(SHAPE)


def write_store(folder: Path, *, zarr_format: Any = 3, offset: int = 0) -> Path:
    """Write a group with ``air`` (three chunks along ``time``), its coordinate, and ``nested/deep``."""
    root = zarr.open_group(folder, mode="w", zarr_format=zarr_format, attributes={"title": "air"})
    names = {"dimension_names": ("time", "x")} if zarr_format == 3 else {}
    air = root.create_array("air", shape=SHAPE, chunks=CHUNKS, dtype="int32", **names)  # type: ignore[arg-type]
    air[:] = VALUES + offset
    names = {"dimension_names": ("time",)} if zarr_format == 3 else {}
    time = root.create_array("time", shape=SHAPE[:1], chunks=(6,), dtype="int64", **names)  # type: ignore[arg-type]
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
    """Check that there is no repository, or an empty one without a staging branch."""
    if folder.is_dir() and any(folder.iterdir()):
        now = state(local_repository(folder))
        assert now["nodes"] == []
        assert set(now["branches"]) == {"main"}


def stamp(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder and what they hold."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
