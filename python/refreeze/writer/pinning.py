"""Which snapshot of the target data that is still to be read comes from.

Data that is loaded lazily holds the Icechunk stores that it will be read from. They are found by
walking through it as pickle would, so that every layer of xarray, zarr and dask is seen, without
copying an array.
"""

from __future__ import annotations

import gc
import io
from collections import deque
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import icechunk
import numpy as np

from refreeze.exceptions import ConflictError, MismatchError

if TYPE_CHECKING:
    from refreeze.writer.repository import Target

__all__ = ["base_of"]

_INITIAL = "1CECHNKREP0F1RSTCMT0"
_OBJECTS = 5_000_000


def base_of(data: Any, target: Target, based_on: str | None) -> str | None:
    """Return the snapshot that has to be the commit's parent, or None if any may be.

    Parameters
    ----------
    data
        What is to be written.
    based_on
        ``auto``: what the data shows; None: nothing; otherwise the snapshot itself.

    Raises
    ------
    ConflictError
        The data is read from several snapshots of the target.
    MismatchError
        It is read from a session of the target with changes that are not committed.
    """
    if based_on is None:
        return None
    if based_on != "auto":
        return based_on
    snapshots = set()
    for store in _stores(data):
        session = store.session
        if not session.read_only and session.has_uncommitted_changes:
            raise MismatchError(
                "the data is read from a writable session with changes that are not committed",
                "commit the session first, or read the data through a read-only session",
            )
        if _is_of(session.snapshot_id, target):
            snapshots.add(session.snapshot_id)
    if len(snapshots) > 1:
        raise ConflictError(
            f"the data is read from several snapshots of {target.url}: {', '.join(sorted(snapshots))}",
            "read all of it from the newest one, or say which one counts by based_on=SNAPSHOT",
        )
    return snapshots.pop() if snapshots else None


def _is_of(snapshot: str, target: Target) -> bool:
    if snapshot == _INITIAL:
        return False
    try:
        target.repository.lookup_snapshot(snapshot)
    except icechunk.IcechunkError:
        return False
    return True


def _stores(data: Any) -> list[icechunk.IcechunkStore]:
    if isinstance(data, np.ndarray) and not data.dtype.hasobject:
        return []
    try:
        return _pickled(data)
    except Exception:  # noqa: BLE001 some objects cannot be pickled: these are walked through
        return _walked(data)


def _pickled(data: Any) -> list[icechunk.IcechunkStore]:
    try:
        from cloudpickle import Pickler
    except ImportError:
        from pickle import Pickler

    found: list[icechunk.IcechunkStore] = []

    class Finder(Pickler):  # type: ignore[misc]
        def persistent_id(self, value: Any) -> Any:
            if isinstance(value, icechunk.IcechunkStore):
                found.append(value)
                return "store"
            if isinstance(value, np.ndarray) and not value.dtype.hasobject:
                return "array"
            return None

    Finder(io.BytesIO(), protocol=5).dump(data)
    return found


def _walked(data: Any) -> list[icechunk.IcechunkStore]:
    found, seen, queue = [], {id(data)}, deque([data])
    keep = [data]
    while queue and len(seen) < _OBJECTS:
        value = queue.popleft()
        if isinstance(value, icechunk.IcechunkStore):
            found.append(value)
            continue
        if isinstance(value, FunctionType):
            inner: list[Any] = [value.__closure__, value.__defaults__, value.__kwdefaults__]
        else:
            inner = gc.get_referents(value)
        for each in inner:
            if isinstance(each, type | ModuleType | str | bytes | int | float) or id(each) in seen:
                continue
            seen.add(id(each))
            keep.append(each)
            queue.append(each)
    return found
