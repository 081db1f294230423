"""A session in memory for dry runs: it has a target's documents and labels, and nothing else of it.

What a write would refuse it refuses here too, because the same code does the work; only values
are left out. Nothing reaches the target.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import icechunk
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

if TYPE_CHECKING:
    import xarray as xr

    from refreeze.writer.repository import Target

__all__ = ["hollow", "scratch_session"]


def scratch_session(target: Target | None) -> icechunk.Session:
    """Return a session in memory; an empty one where there is no repository yet."""
    session = icechunk.Repository.create(icechunk.in_memory_storage()).writable_session("main")
    if target is None:
        return session
    there = target.readonly()
    try:
        root = zarr.open_group(there.store, mode="r")
    except FileNotFoundError:
        return session
    prototype = default_buffer_prototype()
    nodes: list[tuple[str, Any]] = [("", root), *root.members(max_depth=None)]
    for path, _ in nodes:
        key = f"{path}/zarr.json".lstrip("/")
        document = sync(there.store.get(key, prototype))
        if document is not None:
            sync(session.store.set(key, document))
    for path, node in nodes:
        if isinstance(node, zarr.Array) and _is_label(path, node):
            zarr.open_array(session.store, path=path, mode="r+")[...] = node[...]
    return session


def _is_label(path: str, array: zarr.Array[Any]) -> bool:
    names = getattr(array.metadata, "dimension_names", None)
    return array.ndim == 1 and names == (path.rpartition("/")[2],)


def hollow(data: xr.Dataset, *, chunked: bool) -> xr.Dataset:
    """Return a data set without its values, but for labels: zeros that nobody computes.

    Parameters
    ----------
    chunked
        Whether arrays that are in no chunks are to have those that zarr would choose.
    """
    import dask.array
    from zarr.storage import MemoryStore

    changed: dict[str, Any] = {}
    for name, variable in data.variables.items():
        if name in data.indexes or variable.dtype.hasobject:
            continue
        chunks = variable.chunks or tuple((size,) for size in variable.shape)
        zeros = dask.array.zeros(variable.shape, dtype=variable.dtype, chunks=chunks)
        empty = variable.copy(deep=False, data=zeros)
        if chunked and variable.chunks is None and not variable.encoding.get("chunks"):
            like = zarr.create_array(MemoryStore(), shape=variable.shape, dtype="i8")
            if variable.dtype.kind in "iufbc":
                like = zarr.create_array(MemoryStore(), shape=variable.shape, dtype=variable.dtype)
            empty.encoding = {**variable.encoding, "chunks": like.chunks}
        changed[str(name)] = empty
    return data.assign(changed)
