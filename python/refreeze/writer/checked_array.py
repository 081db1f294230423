"""Writes parts of a stored array, and looks at each chunk as soon as the store below has it.

A chunk is checked by asking Icechunk for its size, and by decoding the very bytes that were handed
over, while other chunks are still being encoded: reading back costs no transfer, and keeps nothing.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import zarr
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import WrapperStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    import numpy as np
    from zarr.core.buffer import Buffer

    Held = np.ndarray[Any, Any]
    Index = tuple[slice, ...]

__all__ = ["CheckedArray", "stored_array"]


def stored_array(store: Any, path: str) -> zarr.Array[Any]:
    """Open an array; its chunks exist as soon as they are written, whatever they hold."""
    return zarr.open_array(store, path=path, mode="r+", config={"write_empty_chunks": True})


class CheckedArray:
    """An array of a store, whose chunks are looked at when they have been written.

    Parameters
    ----------
    store, path
        Where the array is.
    """

    def __init__(self, store: Any, path: str) -> None:
        self._store = store
        self._array = stored_array(_WatchedStore(store, self._arrived), path)
        self._prefix = f"{path}/" if path else ""
        whole = _async_array(self._array)
        self._pipeline = whole.codec_pipeline
        self._chunk = ArraySpec(
            shape=tuple(self._array.shards or self._array.chunks),
            dtype=whole.metadata.dtype,
            fill_value=whole.metadata.fill_value,
            config=whole.config,
            prototype=default_buffer_prototype(),
        )
        self._expected: dict[str, _Part] = {}
        self._look: Callable[[Held, Index], None] | None = None

    def write(
        self,
        place: Index,
        values: Held,
        look: Callable[[Held, Index], None],
    ) -> list[Index]:
        """Write values, and show what each chunk of them holds afterwards.

        Parameters
        ----------
        place
            Where the values belong.
        look
            Called in other threads with what was decoded, and where in ``values`` that is; for
            every chunk that the store has in full.

        Returns
        -------
        list
            Where in ``values`` the chunks are that the store does not have.
        """
        encode = self._array.metadata.encode_chunk_key
        self._expected = {
            self._prefix + encode(part.chunk): part for part in _parts(place, self._chunk.shape)
        }
        self._look = look
        try:
            self._array[place] = values
        finally:
            # It may hold the values, and the store holds this array: they would outlive it.
            self._look = None
        return [part.inside for part in self._expected.values()]

    async def _arrived(self, key: str, value: Buffer) -> None:
        part = self._expected.get(key)
        if part is None or self._look is None or await _size(self._store, key) != len(value):
            return
        try:
            (decoded,) = await self._pipeline.decode([(value, self._chunk)])
        except Exception:  # noqa: BLE001 whatever a codec raises: nobody could read the chunk
            return
        if decoded is None:
            return
        await asyncio.to_thread(self._look, decoded.as_numpy_array()[part.within], part.inside)
        del self._expected[key]


def _async_array(array: zarr.Array[Any]) -> Any:
    if hasattr(array, "async_array"):
        return array.async_array
    return array._async_array  # noqa: SLF001 its name before zarr 3.2


@dataclass(frozen=True)
class _Part:
    """What a chunk has of values that are written."""

    chunk: tuple[int, ...]
    within: Index
    """Where in the chunk."""
    inside: Index
    """Where in the values."""


def _parts(place: Sequence[slice], shape: Sequence[int]) -> Iterator[_Part]:
    axes = []
    for part, length in zip(place, shape, strict=True):
        numbers = range(part.start // length, -(-part.stop // length))
        bounds = [
            (max(part.start, k * length), min(part.stop, (k + 1) * length), k) for k in numbers
        ]
        axes.append(
            [
                (
                    k,
                    slice(first - k * length, last - k * length),
                    slice(first - part.start, last - part.start),
                )
                for first, last, k in bounds
            ]
        )
    for each in itertools.product(*axes):
        yield _Part(
            tuple(k for k, _, _ in each),
            tuple(within for _, within, _ in each),
            tuple(inside for _, _, inside in each),
        )


async def _size(store: Any, key: str) -> int | None:
    try:
        size: int = await store.getsize(key)
    except FileNotFoundError:
        return None
    return size


class _WatchedStore(WrapperStore[Any]):
    """Passes everything on, and tells of what was set."""

    def __init__(self, store: Any, arrived: Callable[[str, Buffer], Awaitable[None]]) -> None:
        super().__init__(store)
        self._arrived = arrived

    def _with_store(self, store: Any) -> Self:
        return type(self)(store, self._arrived)

    async def set(self, key: str, value: Buffer) -> None:
        """Write a value, and tell of it."""
        await self._store.set(key, value)
        await self._arrived(key, value)
