"""Opens the nodes of Zarr stores of any version with zarr-python, and reads values of arrays.

What is chosen of them is `refreeze.metadata.selection`'s business; conversion of one array is
`refreeze.metadata.conversion`'s. Stores that need none of this are read by `refreeze.metadata.plain_reader`.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import SourceNotFoundError, UnsupportedArrayError
from refreeze.metadata.hierarchy import DOCUMENTS
from refreeze.stores.reading_errors import one_line, store_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from refreeze.stores.resolve import Source

__all__ = ["open_node", "read_box", "read_elements", "zarr_warnings"]

_NOT_A_NODE = "is not recognized as a component of a Zarr hierarchy"


def read_elements(source: Source, start: int, stop: int) -> Any:
    """Read elements of a one-dimensional array; see `read_box`."""
    return read_box(source, ((start, stop),))


def read_box(source: Source, box: Sequence[tuple[int, int]]) -> Any:
    """Read a box of an array as it is stored: not masked, not scaled.

    Parameters
    ----------
    source
        The array.
    box
        Start and stop along each dimension, in elements.

    Raises
    ------
    ListingError, AccessError
        The store cannot be read.
    UnsupportedArrayError
        A chunk cannot be decoded.
    """
    with store_errors(source), zarr_warnings([]):
        array = open_node(source)
        try:
            return array[tuple(slice(*bounds) for bounds in box)]
        except (RuntimeError, TypeError, ValueError) as error:
            raise UnsupportedArrayError(
                f"{source.url} cannot be decoded: {type(error).__name__}: {one_line(error)}",
                "the chunk is damaged, or its codec is not installed",
            ) from error


def open_node(source: Source) -> Any:
    """Open the array or group at a source.

    Raises
    ------
    SourceNotFoundError
        There is none.
    UnsupportedArrayError
        Its document is damaged.
    """
    import zarr

    try:
        return zarr.open(_zarr_store(source), mode="r", path=source.path)
    except FileNotFoundError:
        raise SourceNotFoundError(
            f"there is no Zarr array at {source.url}", "check the path"
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(source.url, error) from error


def _zarr_store(source: Source) -> Any:
    """Return the source's store as zarr wants it."""
    from zarr.storage import LocalStore

    from refreeze.metadata.zarr_store import OrderlyStore

    if type(source.store).__name__ == "LocalStore":
        # obstore's fails on a file where zarr looks for a folder, such as a README in a group.
        return LocalStore(source.store.prefix or "/", read_only=True)
    return OrderlyStore(source.store, read_only=True)


def _unreadable(path: str, error: Exception) -> UnsupportedArrayError:
    return UnsupportedArrayError(
        f"the metadata of {path} cannot be read: {type(error).__name__}: {one_line(error)}",
        "repair its metadata document; if it names a codec or data type that zarr does not know, "
        "install the package that provides it",
    )


@contextmanager
def zarr_warnings(noted: list[str]) -> Iterator[None]:
    """Keep the warnings that say something of this store; zarr's others are about its own future."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    texts = sorted({str(warning.message) for warning in caught})
    strangers = [text.removeprefix("Object at ").partition(" is not ")[0] for text in texts]
    noted.extend(
        f"{stranger} is neither a group nor an array and was ignored"
        for stranger, text in zip(strangers, texts, strict=True)
        if _NOT_A_NODE in text and stranger.rpartition("/")[2] not in DOCUMENTS
    )
