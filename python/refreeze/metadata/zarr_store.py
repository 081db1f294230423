"""An obstore store as zarr-python reads it, without obstore's asynchronous calls.

These hand their results to Python from threads of obstore's own runtime, which outlive the call,
cannot be joined, and abort the process when they come back to Python while the interpreter ends.
What zarr gives up after another read has failed would also be reported as an exception that nobody
retrieved. Here each read is a synchronous call in a thread of Python, which is joined at exit.

zarr's own store does everything else; only reading is done in this one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.storage import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

__all__ = ["OrderlyStore"]


class OrderlyStore(ObjectStore):  # type: ignore[type-arg]
    """Reads an obstore store; see `zarr.storage.ObjectStore` for the parameters."""

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return an object, or a part of it; None when it is not there."""
        found = await asyncio.to_thread(self._read, key, byte_range)
        return None if found is None else prototype.buffer.from_bytes(found)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Return parts of objects; see `get`."""
        return await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges))

    async def exists(self, key: str) -> bool:
        """Tell whether there is an object."""
        return await asyncio.to_thread(self._size, key) is not None

    def _size(self, key: str) -> int | None:
        try:
            return int(self.store.head(key)["size"])
        except FileNotFoundError:
            return None

    def _read(self, key: str, part: ByteRequest | None) -> bytes | None:
        try:
            if part is None:
                return bytes(self.store.get(key).bytes())
            if isinstance(part, RangeByteRequest):
                return bytes(self.store.get_range(key, start=part.start, end=part.end))
            start = part.offset if isinstance(part, OffsetByteRequest) else None
            if isinstance(part, SuffixByteRequest):
                # Azure knows no such request.
                size = self._size(key)
                start = None if size is None else max(0, size - part.suffix)
            if start is None:
                return None
            return bytes(self.store.get(key, options={"range": {"offset": start}}).bytes())
        except FileNotFoundError:
            return None
