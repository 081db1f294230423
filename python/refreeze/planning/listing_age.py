"""Whether a listing is old news to a target: then nothing may be replaced or removed by it.

A listing knows nothing of what happened after it was made. Commits tell as of when a target is;
single references that are younger still are the core's affair.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from refreeze.exceptions import ListingError, TargetNotFoundError
from refreeze.stores.listing_manifests import iso

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from refreeze.planning.source_slice import Store
    from refreeze.planning.target_arrays import Target

__all__ = ["check_listing_age", "older_listing"]

_MICROSECONDS = 1_000_000


def older_listing(stores: Sequence[Store], target: Target) -> str | None:
    """Tell of a target that is younger than the listing its sources' keys come from.

    Returns
    -------
    str or None
        Both times as the beginning of a sentence; None where the keys come from LIST requests, or
        from a listing that is as young as the target.
    """
    info = stores[0].source.listing if stores else None
    if info is None:
        return None
    made = round(info.date.timestamp() * _MICROSECONDS)
    urls = {store.url for store in stores}
    for sources, at, by_listing, committed in target.told_of():
        if urls.isdisjoint(sources.split(", ")):
            continue
        # What commits say of listings is in whole seconds.
        if (made // _MICROSECONDS * _MICROSECONDS if by_listing else made) >= at:
            continue
        told = f", by a listing of {_shown(at)}" if by_listing else ""
        return (
            f"the listing is of {iso(info.date)}, and {target.url}, branch {target.branch}, tells "
            f"of the source as of a later time (commit of {_shown(committed)}{told})"
        )
    return None


def check_listing_age(stores: Sequence[Store], target: Callable[[], Target]) -> None:
    """Refuse to replace what a target holds by a listing that is older than it.

    Parameters
    ----------
    target
        Asked only where there is a listing.

    Raises
    ------
    ListingError
        The target tells of the sources as of a later time than the listing.
    """
    if not stores or stores[0].source.listing is None:
        return
    try:
        older = older_listing(stores, target())
    except TargetNotFoundError:
        # Nothing can be lost.
        return
    if older is not None:
        raise ListingError(
            f"{older}: newer references would be replaced or removed",
            "leave out --listing, or give a newer one",
        )


def _shown(microseconds: int) -> str:
    return iso(datetime.fromtimestamp(microseconds / _MICROSECONDS, UTC))
