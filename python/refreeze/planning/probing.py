"""Sources that cannot be listed: whether every predicted key may be asked for, and how many that is.

Follows from metadata alone; nothing is asked here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from refreeze.exceptions import ListingError
from refreeze.planning.options import flags
from refreeze.stores.web_store import Probing, WebStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from refreeze.metadata.specs import ArraySpec
    from refreeze.planning.source_slice import Store
    from refreeze.stores.resolve import Source

__all__ = [
    "check_count",
    "check_probed",
    "check_requests",
    "probing_of",
    "requests_warning",
]


def probing_of(*, probe: bool, yes: bool, max_requests_per_second: float | None) -> Probing:
    """Return what these options allow.

    Raises
    ------
    TypeError, ValueError
        One of them is not what it should be.
    """
    flags({"probe": probe, "yes": yes})
    most = max_requests_per_second
    if most is not None:
        if isinstance(most, bool) or not isinstance(most, int | float):
            raise TypeError(f"max_requests_per_second is a number, not {most!r}")
        if not (math.isfinite(most) and most > 0):
            raise ValueError(f"max_requests_per_second must be more than 0, not {most}")
    return Probing(probe, yes, most)


def check_probed(source: Source, arrays: Iterable[ArraySpec]) -> None:
    """Refuse a source that cannot be listed, unless its keys may be asked for.

    Raises
    ------
    ListingError
        Says how many requests that would be.
    """
    if not isinstance(source.store, WebStore) or source.store.probing.probe:
        return
    count = sum(_chunks(array.shape, array.chunk_shape) for array in arrays)
    more = " --yes" if count > _most() else ""
    raise ListingError(
        f"{source.url} is on a web server, which cannot be listed",
        f"--probe{more} asks for every predicted key, {count:,} requests for all arrays; a copy in a "
        "bucket would be listed with a thousandth of that",
    )


def check_count(source: Source, count: int) -> None:
    """Refuse more than a million requests that nobody has agreed to.

    Raises
    ------
    ListingError
        Says how many they are.
    """
    store = source.store
    if isinstance(store, WebStore) and not store.probing.yes and count > _most():
        raise ListingError(
            f"{source.url} takes {count:,} requests, one for each predicted key",
            "agree to more than a million with --yes, or choose --array or --region",
        )


def _most() -> int:
    """Return how many requests need no further consent."""
    from refreeze import _refreeze

    return _refreeze.MOST_PROBED


def check_requests(arrays: Sequence[ArraySpec], stores: Iterable[Store]) -> None:
    """As `check_count`, of what is planned of each source."""
    for store in stores:
        check_count(store.source, _requests(arrays, store))


def requests_warning(arrays: Sequence[ArraySpec], stores: Iterable[Store]) -> list[str]:
    """Return what a plan says where `check_requests` would refuse."""
    try:
        check_requests(arrays, stores)
    except ListingError as error:
        return [f"{error.message}: an ingest needs --yes for that"]
    return []


def _requests(arrays: Iterable[ArraySpec], store: Store) -> int:
    """Return how many keys of arrays are asked for in a source."""
    count = 0
    for array in arrays:
        if array.pieces is None:
            count += _chunks(array.shape, array.chunk_shape) * (array.source == store.index)
            continue
        for piece in array.pieces:
            if piece.source == store.index:
                count += math.prod(stop - start for start, stop in piece.target)
    return count


def _chunks(shape: Sequence[int], chunk_shape: Sequence[int]) -> int:
    return math.prod(-(-size // max(n, 1)) for size, n in zip(shape, chunk_shape, strict=True))
