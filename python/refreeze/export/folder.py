"""The objects of a target that is no repository: a folder, or a prefix in a bucket.

What is written there, and in which order, is decided by each format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from refreeze.exceptions import AccessError, TargetError
from refreeze.runtime.interruption import interruptible
from refreeze.shown import one_line

__all__ = ["TargetFolder"]


class TargetFolder:
    """The objects of a target.

    Parameters
    ----------
    location
        As `refreeze.stores.resolve.resolve_target` gives it.
    """

    def __init__(self, location: Any) -> None:
        if location.kind == "local":
            from obstore.store import LocalStore

            self._store: Any = LocalStore(location.path, mkdir=True)
            self._prefix = ""
        elif hasattr(location, "store"):
            self._store, self._prefix = location.store, location.path.strip("/")
        else:
            raise TypeError("a Kerchunk reference store is written to a path or a URL")
        self.url = location.url

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    def _call[T](self, doing: str, call: Callable[[], T]) -> T:
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        try:
            return interruptible(call)
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise AccessError(
                f"cannot {doing} in {self.url}: {one_line(error)}", "check the target's credentials"
            ) from error
        except (BaseError, OSError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise TargetError(f"cannot {doing} in {self.url}: {one_line(error)}") from error

    def get(self, name: str) -> bytes | None:
        """Read an object; None if there is none."""
        try:
            return self._call(
                f"read {name}", lambda: bytes(self._store.get(self._key(name)).bytes())
            )
        except FileNotFoundError:
            return None

    def put(self, name: str, content: bytes) -> None:
        """Write an object, whole or not at all."""
        self._call(f"write {name}", lambda: self._store.put(self._key(name), content))

    def delete(self, name: str) -> None:
        """Remove an object, if it is there."""
        try:
            self._call(f"remove {name}", lambda: self._store.delete(self._key(name)))
        except FileNotFoundError:
            return

    def names(self) -> Iterator[str]:
        """Yield what is there, relative to the folder."""
        above = f"{self._prefix}/" if self._prefix else ""
        listed = self._call("list", lambda: self._store.list(above or None))
        for some in listed:
            for one in some:
                yield one["path"].removeprefix(above)
