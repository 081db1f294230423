"""The modes of an ingest: which arguments go together, and which planner answers.

Checks come before anything is read; a planner gets sources whose metadata has been read.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import SourceNotFoundError
from refreeze.metadata.region import bounds_of
from refreeze.metadata.selection import Selection, matches, read_metadata
from refreeze.planning.listing_age import check_listing_age
from refreeze.planning.options import check_texts
from refreeze.planning.probing import check_probed
from refreeze.planning.request import Planned, Request
from refreeze.planning.source_slice import Store
from refreeze.runtime.interruption import interruptible
from refreeze.stores.listing_manifests import iso
from refreeze.stores.resolve import resolve_source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from refreeze.metadata.region import Region
    from refreeze.stores.listings import Listing
    from refreeze.stores.resolve import Options, Source
    from refreeze.stores.web_store import Probing

__all__ = [
    "MODES",
    "checked_request",
    "listing_date",
    "listing_report",
    "planned_for",
    "read_stores",
    "several",
]

MODES = ("create", "append", "overwrite", "update")


def several(source: Any) -> list[Any]:
    """Return the sources that an argument names; a pair of a store and a path is one.

    Raises
    ------
    TypeError
        One of them cannot be a source.
    ValueError
        There is none.
    """
    if not isinstance(source, list | tuple):
        return [source]
    if isinstance(source, tuple) and _is_pair(source):
        return [source]
    for one in source:
        if not isinstance(one, str | os.PathLike) and not _is_pair(one):
            raise TypeError(
                "several sources are URLs, paths, (registry, url) or (store, path) pairs, not "
                f"{type(one).__name__}"
            )
    if not source:
        raise ValueError("the list of sources is empty")
    return list(source)


def checked_request(
    mode: str,
    *,
    append_dim: str | None,
    concat_dim: str | None,
    region: Region | None,
    sources: int,
    selection: Selection,
    figures_only: bool = False,
) -> Request:
    """Check that mode, dimensions, region and number of sources go together.

    Raises
    ------
    TypeError
        One of them is of a wrong type.
    ValueError
        They do not go together.
    RegionError
        The region names no dimension.
    """
    given = {"append_dim": append_dim, "concat_dim": concat_dim}
    check_texts({"mode": mode} | {name: dim for name, dim in given.items() if dim is not None})
    bounds = bounds_of(region)
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r} (known: {', '.join(MODES)})")
    if append_dim is not None and mode != "append":
        raise ValueError(f"append_dim goes with mode append, not with {mode}")
    if concat_dim is not None and mode == "update":
        raise ValueError("concat_dim goes with modes create, append and overwrite, not with update")
    if append_dim is not None and concat_dim is not None:
        raise ValueError(
            "append_dim continues the recorded source, concat_dim adds another one: give one"
        )
    if mode == "append" and append_dim is None and concat_dim is None:
        raise ValueError(
            "mode append needs append_dim (the recorded source has grown) or concat_dim (another "
            "store follows)"
        )
    if sources > 1 and mode == "append" and concat_dim is None:
        raise ValueError("several sources are appended one after another: that needs concat_dim")
    if mode == "update" and sources > 1:
        raise ValueError("mode update takes one source")
    if mode == "update" and region is None:
        raise ValueError("mode update needs a region, such as region={'time': slice(0, 240)}")
    return Request(
        mode=mode,
        append_dim=append_dim,
        concat_dim=concat_dim,
        region=bounds,
        target_group="/" + (selection.target_group or "").strip("/"),
        selective=bool(selection.arrays or selection.skip_variables),
        figures_only=figures_only,
    )


def read_stores(
    given: Sequence[Any],
    options: Options | None,
    selection: Selection,
    probing: Probing | None = None,
    *,
    listing: Listing | None = None,
    memory: int = 0,
    concurrency: int | str = 1,
) -> list[Store]:
    """Read the metadata of sources.

    Parameters
    ----------
    listing
        Where their keys come from, unless they are listed.
    memory, concurrency
        What a listing may take: bytes, and requests in flight.

    Raises
    ------
    ListingError
        A source cannot be listed, and its keys may not be asked for.
    SourceNotFoundError
        There is no source, a selected array is in none of them, or there is no array at all.
    """
    sources: list[Source] = [resolve_source(one, options, probing) for one in given]
    if listing is not None:
        from refreeze.stores.listings import with_listing

        sources = interruptible(
            with_listing,
            sources,
            listing,
            memory=memory,
            source_options=options,
            concurrency=concurrency,
        )
    stores = [
        Store(index, source, interruptible(read_metadata, source, selection))
        for index, source in enumerate(sources)
    ]
    for store in stores:
        store.metadata.warnings.extend(store.source.notes)
        check_probed(store.source, store.metadata.arrays)
    found = [spec.path.lstrip("/") for store in stores for spec in store.metadata.arrays]
    group = (selection.target_group or "").strip("/")
    below = [path.removeprefix(f"{group}/") if group else path for path in found]
    for pattern in selection.arrays if selection.partial else ():
        if not any(matches(path, [pattern]) for path in below):
            raise SourceNotFoundError(
                f"none of the {len(sources)} sources has an array {pattern}",
                f"sources: {', '.join(source.url for source in sources)}",
            )
    reasons = [store.metadata.nothing for store in stores]
    if not found and reasons[0] is not None:
        raise reasons[0]
    return stores


def listing_report(stores: Sequence[Store]) -> dict[str, Any] | None:
    """Return what reports say of the listing that the stores' keys come from, if there is one."""
    info = stores[0].source.listing if stores else None
    return None if info is None else info.to_dict()


def listing_date(stores: Sequence[Store]) -> str | None:
    """Return when the listing was made, as ISO 8601; None when the stores are listed."""
    info = stores[0].source.listing if stores else None
    return None if info is None else iso(info.date)


def planned_for(
    stores: Sequence[Store], location: Callable[[], Any], request: Request, branch: str
) -> Planned:
    """Plan what a request asks for.

    Parameters
    ----------
    location
        Gives the target when it is to be read, as `refreeze.stores.resolve.resolve_target` does.
    """
    from refreeze.planning.target_arrays import Target

    if request.mode == "create":
        from refreeze.planning.concatenate import planned_create

        return planned_create(stores, request)
    check_listing_age(stores, lambda: Target(location(), branch))
    if request.mode == "overwrite":
        from refreeze.planning.concatenate import planned_overwrite

        return planned_overwrite(stores, request)
    target = Target(location(), branch)
    if request.mode == "update":
        from refreeze.planning.update import planned_update

        return planned_update(stores[0], target, request)
    if request.append_dim is not None:
        from refreeze.planning.append_grown import planned_append

        return planned_append(stores[0], target, request, request.append_dim)
    from refreeze.planning.append_concat import planned_following

    return planned_following(stores, target, request, request.concat_dim or "")


def _is_pair(source: Any) -> bool:
    """Whether it is a store or registry, and a path or URL in it."""
    return (
        isinstance(source, tuple)
        and len(source) == 2  # noqa: PLR2004 a pair
        and isinstance(source[1], str | os.PathLike)
        and not isinstance(source[0], str | os.PathLike)
    )
