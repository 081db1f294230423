"""Writes numpy, dask and zarr arrays into a session, chunk by chunk of the stored array."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from refreeze.exceptions import AlreadyExistsError, MismatchError, TargetNotFoundError
from refreeze.writer.creation import as_array, cast_to, check_stored, creation_keywords
from refreeze.writer.indexing import assign

if TYPE_CHECKING:
    import icechunk

    from refreeze.writer.progress import ArrayProgress

__all__ = ["ArrayWriter"]


class ArrayWriter:
    """Writes one array; called with a session, again after every conflict."""

    def __init__(
        self,
        data: Any,
        *,
        mode: str,
        name: str,
        axis: int,
        indices: Any,
        encoding: Mapping[str, Any],
        dry_run: bool = False,
    ) -> None:
        self.data = data if _is_lazy(data) else np.asarray(as_array(data))
        self.mode = mode
        self.name = name.strip("/")
        self.axis = axis
        self.indices = indices
        self.keywords = creation_keywords(encoding)
        self.dry_run = dry_run
        self.count = 1
        """Arrays that are written."""

    def __call__(self, session: icechunk.Session, tell: ArrayProgress) -> list[str]:
        """Write into a session and return the array's path; nothing, if nothing was to be written."""
        self.tell = tell
        stored = self._stored(session)
        done = True
        if self.mode in ("create", "overwrite"):
            if self.mode == "create" and stored is not None:
                raise AlreadyExistsError(
                    f"/{self.name} is in the target already", 'use mode="overwrite" or "append"'
                )
            self._store(session, self._created(session), 0)
        elif stored is None:
            raise TargetNotFoundError(
                f"there is no array /{self.name} to {self.mode}", 'mode="create" makes one'
            )
        elif self.mode == "append":
            check_stored(stored, self.keywords)
            done = self._append(session, stored)
        else:
            check_stored(stored, self.keywords)
            values = cast_to(np.asarray(self.data[...]), stored.dtype, f"/{self.name}")
            done = assign(stored, self.indices, values, dry_run=self.dry_run)
            tell.add(f"/{self.name}", values.nbytes)
        tell.finished(f"/{self.name}")
        return [f"/{self.name}"] if done else []

    def _stored(self, session: icechunk.Session) -> zarr.Array[Any] | None:
        try:
            node = zarr.open(session.store, path=self.name, mode="r+")
        except FileNotFoundError:
            return None
        if isinstance(node, zarr.Group):
            raise MismatchError(f"/{self.name} is a group", "give the array another name")
        return node

    def _created(self, session: icechunk.Session) -> zarr.Array[Any]:
        keywords = dict(self.keywords)
        if "chunks" not in keywords and hasattr(self.data, "chunks") and self.data.ndim:
            chunks = self.data.chunks
            keywords["chunks"] = tuple(max(c) if isinstance(c, tuple) else c for c in chunks)
        keywords.setdefault("dtype", self.data.dtype)
        root = zarr.open_group(session.store, mode="a")
        return root.create_array(self.name, shape=self.data.shape, overwrite=True, **keywords)

    def _append(self, session: icechunk.Session, stored: zarr.Array[Any]) -> bool:
        old, new = list(stored.shape), list(self.data.shape)
        axis = self.axis
        if len(old) != len(new) or not -len(new) <= axis < len(new):
            raise MismatchError(f"data of shape {tuple(new)} cannot be appended to {tuple(old)}")
        axis %= len(new)
        start, length = old[axis], new[axis]
        old[axis] = new[axis] = 0
        if old != new:
            raise MismatchError(
                f"data of shape {self.data.shape} cannot be appended to /{self.name} of shape "
                f"{stored.shape} along axis {axis}",
                "all other dimensions have to agree",
            )
        if not length:
            return False
        old = list(stored.shape)
        old[axis] += length
        stored.resize(tuple(old))
        self._store(session, stored, start, axis)
        return True

    def _store(
        self, session: icechunk.Session, stored: zarr.Array[Any], start: int, axis: int = 0
    ) -> None:
        """Write all data, shifted by `start` along an axis, in blocks of whole stored chunks."""
        unit = stored.shards or stored.chunks
        if self.dry_run:
            if not _is_lazy(self.data):
                cast_to(self.data, stored.dtype, f"/{self.name}")
            return
        if _is_dask(self.data):
            self._store_dask(session, stored, start, axis, unit)
            self.tell.add(f"/{self.name}", self.data.nbytes)
            return
        edges = [
            _edges(size, chunk, start if k == axis else 0)
            for k, (size, chunk) in enumerate(zip(self.data.shape, unit, strict=True))
        ]
        for place in np.ndindex(*(len(each) - 1 for each in edges)):
            source = tuple(slice(e[i], e[i + 1]) for e, i in zip(edges, place, strict=True))
            values = cast_to(np.asarray(self.data[source]), stored.dtype, f"/{self.name}")
            stored[_shifted(source, start, axis)] = values
            self.tell.add(f"/{self.name}", values.nbytes)

    def _store_dask(
        self,
        session: icechunk.Session,
        stored: zarr.Array[Any],
        start: int,
        axis: int,
        unit: tuple[int, ...],
    ) -> None:
        from icechunk.dask import store_dask

        data: Any = self.data
        if data.dtype != stored.dtype:
            name, dtype = f"/{self.name}", stored.dtype
            data = data.map_blocks(cast_to, dtype, name, dtype=dtype)
        # No two tasks may write one chunk: each would keep only its own half.
        chunks = []
        for k, (size, chunk) in enumerate(zip(data.shape, unit, strict=True)):
            many = max(1, max(data.chunks[k], default=1) // chunk) * chunk
            edges = _edges(size, many, start if k == axis else 0)
            chunks.append(tuple(int(b - a) for a, b in itertools.pairwise(edges)))
        data = data.rechunk(tuple(chunks))
        region = _shifted(tuple(slice(0, size) for size in data.shape), start, axis)
        fork = session.fork()
        there = zarr.open_array(fork.store, path=stored.path, mode="a")
        session.merge(store_dask(sources=[data], targets=[there], regions=[region]))


def _edges(size: int, chunk: int, start: int) -> list[int]:
    """Return where blocks begin and end, so that they do so on the stored array's chunks."""
    if not size:
        return [0, 0] if start else [0]
    inner = range((start // chunk + 1) * chunk - start, size, chunk)
    return [0, *inner, size]


def _shifted(place: tuple[slice, ...], start: int, axis: int) -> tuple[slice, ...]:
    return tuple(
        slice(part.start + start, part.stop + start) if k == axis else part
        for k, part in enumerate(place)
    )


def _is_dask(data: Any) -> bool:
    return type(data).__module__.startswith("dask.") and hasattr(data, "dask")


def _is_lazy(data: Any) -> bool:
    return isinstance(data, zarr.Array) or _is_dask(data)
