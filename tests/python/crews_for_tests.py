"""A source whose ingest falls into many units of work, and what a repository holds in the end, for tests of crews and queues."""

from __future__ import annotations

from typing import TYPE_CHECKING

import icechunk
import numpy as np
import zarr

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {"max_refs_per_commit": 10, "refs_per_manifest": 5}


def store_of(folder: Path, chunks: int = 40) -> Path:
    """Write a store with a dense array, a sparse one and a coordinate."""
    path = folder / "source.zarr"
    root = zarr.open_group(path, mode="w")
    air = root.create_array(
        "air", shape=(chunks, 4), chunks=(1, 2), dtype="i4", dimension_names=["time", "x"]
    )
    air[:] = np.arange(chunks * 4).reshape(chunks, 4) + 1
    sparse = root.create_array(
        "sparse", shape=(chunks,), chunks=(1,), dtype="i4", dimension_names=["time"]
    )
    sparse[3] = 7
    sparse[chunks - 1] = 9
    time = root.create_array("x", shape=(4,), chunks=(4,), dtype="i4", dimension_names=["x"])
    time[:] = np.arange(4)
    return path


def references(target: Path, branch: str = "main") -> dict[str, set[str]]:
    """Return all references, by location."""
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    session = repo.readonly_session(branch)
    return {"all": set(session.all_virtual_chunk_locations())}


def log_chunks(target: Path) -> int:
    """Count chunks in the transaction logs of the whole history."""
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    snapshots = [snapshot.id for snapshot in repo.ancestry(branch="main")]
    diff = repo.diff(from_snapshot_id=snapshots[-1], to_snapshot_id=snapshots[0])
    return sum(len(chunks) for chunks in diff.updated_chunks.values())
