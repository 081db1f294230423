"""A core in memory: what the planners of the modes hand over is carried out, so that it can be read as data.

It knows local sources only, and neither staging nor containers. What a real core does with the same
arrays, pieces and chunks is tested by the same scenarios through icechunk.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zarr.storage
from zarr.core.buffer import default_buffer_prototype

from refreeze.exceptions import (
    AlreadyExistsError,
    ConflictError,
    MismatchError,
    TargetNotFoundError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from refreeze.metadata.specs import ArraySpec, Piece
    from refreeze.planning.options import IngestOptions


class Repository:
    """Nodes by path; chunks by path and coordinates: bytes, or the file that is referenced."""

    def __init__(self) -> None:
        self.tip = 0
        self.nodes: dict[str, bytes] = {}
        self.chunks: dict[str, dict[tuple[int, ...], bytes | Path]] = {}

    @property
    def snapshot_id(self) -> str:
        return f"SNAPSHOT{self.tip}"

    def zarr_store(self) -> zarr.storage.MemoryStore:
        """Return what a reader sees."""
        buffer = default_buffer_prototype().buffer
        held = {f"{path}/zarr.json".lstrip("/"): document for path, document in self.nodes.items()}
        for path, chunks in self.chunks.items():
            for at, chunk in chunks.items():
                key = "/".join([path.lstrip("/"), "c", *map(str, at)])
                held[key] = chunk if isinstance(chunk, bytes) else chunk.read_bytes()
        return zarr.storage.MemoryStore(
            {key: buffer.from_bytes(value) for key, value in held.items()}
        )


class FakeCore:
    """Stands for the functions of `refreeze._refreeze` that ingest and look into targets."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.calls: list[list[ArraySpec]] = []
        """The arrays of every ingest."""

    def ingest(
        self,
        sources: Sequence[tuple[Any, str]],
        target: Any,
        *,
        source_urls: Sequence[str],
        groups: Sequence[Any],
        arrays: Sequence[ArraySpec],
        options: IngestOptions,
        decoder: Any,  # noqa: ARG002 (of the core)
        crew: Any = None,  # noqa: ARG002 (of the core)
        progress: Any,
    ) -> str:
        repository = self.repositories.setdefault(target.url, Repository())
        before = repository.snapshot_id
        if options.base is not None and options.base != before:
            raise ConflictError("the branch has moved")
        self.calls.append(list(arrays))
        for removed in options.replaced:
            for held in (repository.nodes, repository.chunks):
                for path in [p for p in held if f"{p}/".startswith(f"{removed.rstrip('/')}/")]:
                    del held[path]
        for group in groups:
            if group.from_source or group.path not in repository.nodes:
                repository.nodes[group.path] = group.document
        counts = dict.fromkeys(("added", "changed", "removed"), 0)
        for array in arrays:
            if options.mode == "create" and array.path in repository.nodes:
                raise AlreadyExistsError(f"array {array.path} is in the target already")
            self._carry_out(repository, [_root(*source) for source in sources], array, counts)
        repository.tip += 1
        assert callable(progress)
        document = _report(arrays, counts)
        document |= {
            "source": source_urls[0],
            "target": target.url,
            "branch": options.branch,
            "snapshot_id": repository.snapshot_id,
            "previous_snapshot_id": before,
        }
        return json.dumps(document)

    def _carry_out(
        self, repository: Repository, roots: list[Path], array: ArraySpec, counts: dict[str, int]
    ) -> None:
        repository.nodes[array.path] = array.document
        held = repository.chunks.setdefault(array.path, {})
        if array.chunks is not None:
            assert array.copied
            assert array.pieces == ()
            for at, chunk in array.chunks.items():
                held.pop(at, None)
                if chunk:
                    held[at] = chunk
            return
        for at, file in listed(roots, array):
            was = held.pop(at, None)
            if file.is_file():
                held[at] = file.read_bytes() if array.copied else file
                counts["added" if was is None else "changed"] += not array.copied
            else:
                counts["removed"] += was is not None

    def open_target(self, target: Any, *, branch: str) -> OpenedTarget:
        if target.url not in self.repositories or branch != "main":
            raise TargetNotFoundError(
                f"there is no repository or no branch {branch} at {target.url}"
            )
        return OpenedTarget(self.repositories[target.url])


class OpenedTarget:
    """Stands for the class of that name: a repository that nobody changes meanwhile."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.snapshot_id, self.nodes = repository.snapshot_id, dict(repository.nodes)

    def chunks(self, path: str) -> dict[tuple[int, ...], bytes]:
        assert self.repository.snapshot_id == self.snapshot_id
        chunks = self.repository.chunks[path]
        if any(isinstance(chunk, Path) for chunk in chunks.values()):
            raise MismatchError(f"array {path} has virtual chunks")
        return {at: chunk for at, chunk in chunks.items() if isinstance(chunk, bytes)}

    def native_in(self, path: str, *, region: Sequence[tuple[int, int]]) -> tuple[int, ...] | None:
        for at, chunk in self.repository.chunks[path].items():
            inside = all(start <= n < stop for n, (start, stop) in zip(at, region, strict=True))
            if inside and isinstance(chunk, bytes):
                return at
        return None

    def told_of(self) -> list[tuple[str, int, bool, int]]:
        return []

    def origins(
        self, store: Any, path: str, *, arrays: Sequence[ArraySpec], axes: Sequence[int | None]
    ) -> list[tuple[str, tuple[int, ...] | None, str | None]]:
        assert self.repository.snapshot_id == self.snapshot_id
        found: list[tuple[str, tuple[int, ...] | None, str | None]] = []
        for array, axis in zip(arrays, axes, strict=True):
            chunks = self.repository.chunks[array.path]
            virtual = {at: file for at, file in chunks.items() if isinstance(file, Path)}
            if not virtual:
                found.append(("native" if chunks else "empty", None, None))
                continue
            folder = _root(store, path) / array.source_path
            last = [max(virtual, key=lambda at: at[axis])] if axis is not None else list(virtual)
            places = [
                (at, coordinates)
                for at in last
                if (coordinates := _coordinates(virtual[at], folder, array)) is not None
            ]
            if not places:
                found.append(("elsewhere", None, str(virtual[last[0]])))
                continue
            at, coordinates = places[0]
            shift = tuple(there - here for here, there in zip(at, coordinates, strict=True))
            found.append(("virtual", shift, None))
        return found


def listed(roots: list[Path], array: ArraySpec) -> Iterator[tuple[tuple[int, ...], Path]]:
    """Return the chunks that an array's pieces name, in the target and as files of the sources."""
    for piece in array.pieces if array.pieces is not None else (whole(array),):
        for at in itertools.product(*(range(*bounds) for bounds in piece.target)):
            there = [coordinate + by for coordinate, by in zip(at, piece.shift, strict=True)]
            assert all(
                0 <= coordinate < -(-length // chunk)
                for coordinate, length, chunk in zip(
                    there, piece.shape, piece.chunk_shape, strict=True
                )
            ), f"{array.path}: {there} is outside of the source's grid"
            names = [str(coordinate) for coordinate in there]
            if piece.key_encoding == "default":
                names = ["c", *names]
            elif not names:
                names = ["0"]
            yield at, roots[piece.source] / piece.source_path / piece.separator.join(names)


def whole(array: ArraySpec) -> Piece:
    """Return the piece that None stands for."""
    from refreeze.metadata.specs import Piece

    sizes = zip(array.shape, array.chunk_shape, strict=True)
    return Piece(
        source=array.source,
        source_path=array.source_path,
        shape=array.shape,
        chunk_shape=array.chunk_shape,
        key_encoding=array.key_encoding,
        separator=array.separator,
        target=tuple((0, -(-length // max(chunk, 1))) for length, chunk in sizes),
        shift=(0,) * len(array.shape),
    )


def _root(store: Any, path: str) -> Path:
    return Path(store.prefix or "/") / path


def _coordinates(file: Path, folder: Path, array: ArraySpec) -> list[int] | None:
    """Return the coordinates of a file, None if it is not one of the array's chunks."""
    if folder not in file.parents:
        return None
    key = str(file.relative_to(folder)).removeprefix("c" + array.separator)
    return [int(part) for part in key.split(array.separator)] if array.shape else []


def _report(arrays: Sequence[ArraySpec], counts: dict[str, int]) -> dict[str, Any]:
    nothing = dict.fromkeys(
        ("resumed_batches", "manifests_written", "manifest_bytes", "list_requests", "keys_listed"),
        0,
    )
    return {
        "run_id": "RUN",
        "published": True,
        "already_published": False,
        "commits": 1,
        "references_written": counts["added"] + counts["changed"],
        "bytes_referenced": 0,
        "arrays": [
            {
                "path": array.path,
                "shape": array.shape,
                "chunk_shape": array.chunk_shape,
                "grid_shape": [
                    -(-n // max(c, 1)) for n, c in zip(array.shape, array.chunk_shape, strict=True)
                ],
                "chunks_in_region": 0,
                "references": 0,
                "missing": 0,
                "loaded": array.copied,
            }
            for array in arrays
        ],
        "warnings": [],
        "container": "file:///",
        "containers": ["file:///"],
        **counts,
        **nothing,
    }
