"""What refreeze raises: one class for each remedy that a caller has.

Every class is a `RefreezeError` and, where Python has a fitting one, also a built-in exception.
"""

from __future__ import annotations

from refreeze.shown import shown

__all__ = [
    "AccessError",
    "AlreadyExistsError",
    "ConflictError",
    "IncompleteError",
    "ListingError",
    "MismatchError",
    "RefreezeError",
    "RegionError",
    "SourceNotFoundError",
    "TargetError",
    "TargetNotFoundError",
    "UnsupportedArrayError",
]


class RefreezeError(Exception):
    """Base of all errors of refreeze.

    Parameters
    ----------
    message
        What is wrong and where. Secrets are removed, control characters escaped, and long names cut
        in the middle.
    hint
        What to do next, if there is something to say. ``str(error)`` holds both.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.message = shown(message)
        self.hint = None if hint is None else shown(hint)
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"

    def __reduce__(self) -> tuple[type[RefreezeError], tuple[str, str | None]]:
        return type(self), (self.message, self.hint)


class RegionError(RefreezeError, ValueError):
    """A region that does not align with chunks, is empty, or names an unknown dimension."""


class UnsupportedArrayError(RefreezeError, ValueError):
    """Metadata or chunks that cannot be referenced; names the array and the feature."""


class SourceNotFoundError(RefreezeError, FileNotFoundError):
    """There is no Zarr store, group or array at the source's URL."""


class TargetNotFoundError(RefreezeError, FileNotFoundError):
    """There is no repository, or no such array in it, to update or append to."""


class AlreadyExistsError(RefreezeError, FileExistsError):
    """An array that is to be created is in the target already."""


class MismatchError(RefreezeError, ValueError):
    """Source or options do not agree with what the target holds."""


class ListingError(RefreezeError, OSError):
    """A listing that cannot be trusted, or that the server would not give."""


class IncompleteError(RefreezeError, ValueError):
    """Chunks are missing that were said to be there."""


class TargetError(RefreezeError, OSError):
    """The target cannot hold the repository safely."""


class ConflictError(RefreezeError):
    """The branch moved meanwhile, or another process holds the target; nothing was published."""


class AccessError(RefreezeError, PermissionError):
    """Credentials or permissions are missing or were refused; names the setting to change."""
