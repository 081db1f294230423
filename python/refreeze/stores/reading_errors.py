"""Errors of the stores that metadata and values are read from, as errors that say what to change."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from refreeze.exceptions import AccessError, ListingError, RefreezeError
from refreeze.shown import cleaned, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from refreeze.stores.resolve import Source

__all__ = ["one_line", "store_errors"]

_UNREACHED = "check the URL, the endpoint and the network"
_UNKNOWN_AUTHORITY = (
    "nobody here knows the authority that signed the certificate: set SSL_CERT_FILE to a file (PEM) "
    "with the authority's own, and those of all others that are trusted"
)


@contextmanager
def store_errors(source: Source, key: str = "") -> Iterator[None]:
    """Turn what the store raises into errors that say what to change, and name the key."""
    import obstore.exceptions

    place = f"{source.url.rstrip('/')}/{key}" if key else source.url
    try:
        yield
    except RefreezeError:
        raise
    except (OSError, obstore.exceptions.BaseError) as error:
        refused, said = _refused(error), one_line(error)
        cleaned(error)
        if refused:
            raise AccessError(
                f"cannot read {place}: {said}",
                "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or set --source-option "
                "access_key_id=… and secret_access_key=… (skip_signature=true for public data); "
                "on local disk, the permissions of the folder",
            ) from error
        raise ListingError(
            f"cannot read {place}: {said}",
            _UNKNOWN_AUTHORITY if "UnknownIssuer" in said else _UNREACHED,
        ) from error


def _refused(error: Exception) -> bool:
    """Whether permissions are at fault; for LIST, object_store says so in the text alone."""
    from obstore.exceptions import GenericError, PermissionDeniedError, UnauthenticatedError

    if isinstance(error, PermissionError | PermissionDeniedError | UnauthenticatedError):
        return True
    refusals = ("status code: 401", "status code: 403", "Permission denied (os error 13)")
    return isinstance(error, GenericError) and any(text in str(error) for text in refusals)
