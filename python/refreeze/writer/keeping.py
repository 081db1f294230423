"""A store that keeps what was just written through it, so that reading it back costs no transfer.

A chunk is then checked by decoding the very bytes that were handed to Icechunk, and by asking
Icechunk for their number.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from zarr.core.sync import sync
from zarr.storage import WrapperStore

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

__all__ = ["KeepingStore"]


class KeepingStore(WrapperStore[Any]):
    """Passes everything on, and keeps what is set until it is forgotten."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.kept: dict[str, Buffer] = {}

    def _with_store(self, store: Any) -> Self:
        same = type(self)(store)
        same.kept = self.kept
        return same

    async def set(self, key: str, value: Buffer) -> None:
        """Write a value, and keep it."""
        await self._store.set(key, value)
        self.kept[key] = value

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read a value: the one that is kept, if there is one."""
        if byte_range is None and (value := self.kept.get(key)) is not None:
            return value
        found: Buffer | None = await self._store.get(key, prototype, byte_range)
        return found

    def arrived(self) -> bool:
        """Whether the store below has all of the kept values in full."""
        expected = {key: len(value) for key, value in self.kept.items()}

        async def asked_sizes() -> list[int | BaseException]:
            asked = (self._store.getsize(key) for key in expected)
            sizes: list[int | BaseException] = await asyncio.gather(*asked, return_exceptions=True)
            return sizes

        return sync(asked_sizes()) == list(expected.values())

    def forget(self) -> None:
        """Keep none of them any longer."""
        self.kept.clear()
