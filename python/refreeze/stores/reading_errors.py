"""Errors of the stores that metadata and values are read from, as errors that say what to change."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from refreeze.exceptions import AccessError, ListingError, RefreezeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from refreeze.stores.resolve import Source

__all__ = ["one_line", "store_errors"]


@contextmanager
def store_errors(source: Source, key: str = "") -> Iterator[None]:
    """Turn what the store raises into errors that say what to change, and name the key."""
    import obstore.exceptions

    shown = f"{source.url.rstrip('/')}/{key}" if key else source.url
    try:
        yield
    except RefreezeError:
        raise
    except (OSError, obstore.exceptions.BaseError) as error:
        if _refused(error):
            raise AccessError(
                f"cannot read {shown}: {one_line(error)}",
                "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or set --source-option "
                "access_key_id=… and secret_access_key=… (skip_signature=true for public data); "
                "on local disk, the permissions of the folder",
            ) from error
        raise ListingError(
            f"cannot read {shown}: {one_line(error)}",
            "check the URL, the endpoint and the network",
        ) from error


def _refused(error: Exception) -> bool:
    """Whether permissions are at fault; for LIST, object_store says so in the text alone."""
    from obstore.exceptions import GenericError, PermissionDeniedError, UnauthenticatedError

    if isinstance(error, PermissionError | PermissionDeniedError | UnauthenticatedError):
        return True
    refusals = ("status code: 401", "status code: 403", "Permission denied (os error 13)")
    return isinstance(error, GenericError) and any(text in str(error) for text in refusals)


def one_line(error: Exception) -> str:
    """Return the first paragraph of a message; obstore's go on with a dump of its structures."""
    text = str(error).strip().partition("\n\n")[0]
    if (document := re.search(r"<\?xml|<Error", text)) is not None:
        # Of an S3 error document, the code and the message; AWS repeats whole requests in others.
        said = re.findall(r"<(?:Code|Message)>([^<]*)<", text)
        text = text[: document.start()] + ": ".join(said)
    return " ".join(text.split()).rstrip(".") or type(error).__name__
