"""From the arguments of an ingest to what the core is to do: checks, then metadata, then the mode.

Ingest and plan both begin here. Nothing is written, and nothing is listed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from refreeze.planning.dispatch import (
    checked_request,
    listing_date,
    listing_report,
    planned_for,
    read_stores,
    several,
)
from refreeze.planning.options import (
    CHECKSUMS,
    IngestArguments,
    IngestOptions,
    byte_count,
    check_mappings,
    check_texts,
    expected_count,
    flags,
    refs_per_commit,
    refs_per_manifest,
    requests_in_flight,
    selected,
)
from refreeze.planning.probing import probing_of
from refreeze.stores.listings import listing_of
from refreeze.stores.resolve import resolve_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from refreeze.metadata.selection import Selection
    from refreeze.planning.request import Planned, Request
    from refreeze.planning.source_slice import Store

__all__ = ["Prepared", "prepared"]

_CHOICES = {
    "empty_chunks": ("error", "skip"),
    "checksum": CHECKSUMS,
    "locations": ("relative", "absolute"),
}
_READ_TARGET = {"append", "update"}


@dataclass(frozen=True)
class Prepared:
    """What an ingest begins with."""

    stores: list[Store]
    """The sources, their metadata read."""
    location: Callable[[], Any]
    """Gives the target; to ask for some creates them."""
    selection: Selection
    request: Request
    options: IngestOptions

    @property
    def listing(self) -> dict[str, Any] | None:
        """What reports say of where the keys come from; None when the sources are listed."""
        return listing_report(self.stores)

    @cached_property
    def planned(self) -> Planned:
        """What the mode makes of it; append and update read the target, and coordinates may be."""
        return planned_for(self.stores, self.location, self.request, self.options.branch)


def prepared(
    source: Any, target: Any, arguments: IngestArguments, *, figures_only: bool = False
) -> Prepared:
    """Check the arguments of an ingest, read the sources' metadata, and plan what is to be done.

    Parameters
    ----------
    source, target, arguments
        As for `refreeze.ingest`. The target may be None for modes that do not read it.
    figures_only
        Values of coordinates that would be copied are not read: only figures are wanted.

    Raises
    ------
    TypeError, ValueError
        An argument is of a wrong type, or arguments do not go together.
    RefreezeError
        As `refreeze.ingest` raises them.
    """
    given = arguments
    _check(given)
    if target is None and figures_only and given.mode in _READ_TARGET:
        raise ValueError(f"mode {given.mode} looks at the target: name one")
    selection = selected(
        given.group,
        given.target_group,
        given.arrays,
        given.skip_variables,
        given.loadable_variables,
        max_document=given.max_document,
    )
    sources = several(source)
    selection = replace(
        selection,
        partial=len(sources) > 1 and given.concat_dim is None,
        # What has grown is exactly what an append must not overlook.
        grown_along=(given.append_dim or given.concat_dim) if given.mode == "append" else None,
    )
    request = checked_request(
        given.mode,
        append_dim=given.append_dim,
        concat_dim=given.concat_dim,
        region=given.region,
        sources=len(sources),
        selection=selection,
        figures_only=figures_only,
    )
    options = _options(given, request.fingerprint)
    probing = probing_of(
        probe=given.probe, yes=given.yes, max_requests_per_second=given.max_requests_per_second
    )
    stores = read_stores(
        sources,
        given.source_options,
        selection,
        probing,
        listing=listing_of(
            given.listing, given.listing_columns, given.listing_options, given.sample_listing
        ),
        memory=options.memory,
        concurrency=options.concurrency,
    )
    options = replace(options, listing=listing_date(stores))
    # Asked for late: to look at some targets creates them.
    location = cache(lambda: resolve_target(target, given.target_options, create=not figures_only))
    if figures_only and isinstance(target, str | os.PathLike):
        location()
    return Prepared(stores, location, selection, request, options)


def _check(given: IngestArguments) -> None:
    message = {} if given.message is None else {"message": given.message}
    check_texts({"branch": given.branch} | message)
    check_mappings({"source_options": given.source_options, "target_options": given.target_options})
    if not given.branch.strip():
        raise ValueError("branch is empty")
    for option, choices in _CHOICES.items():
        value = getattr(given, option)
        if value not in choices:
            *others, last = (repr(choice) for choice in choices)
            raise ValueError(f"{option} must be {', '.join(others)} or {last}, not {value!r}")
    names = (
        "no_publish",
        "restart",
        "expect_complete",
        "unsafe_target",
        "no_read_check",
        "copy",
    )
    flags({name: getattr(given, name) for name in names})


def _options(given: IngestArguments, plan: str) -> IngestOptions:
    """Return the options as the core takes them."""
    return IngestOptions(
        branch=given.branch,
        skip_empty_chunks=given.empty_chunks == "skip",
        checksum=given.checksum,
        absolute_locations=given.locations == "absolute",
        memory=byte_count("memory", given.memory),
        references_per_manifest=(
            None if given.refs_per_manifest is None else refs_per_manifest(given.refs_per_manifest)
        ),
        references_per_commit=refs_per_commit(given.max_refs_per_commit),
        concurrency=requests_in_flight(given.concurrency),
        requests_per_second=given.max_requests_per_second,
        message=given.message,
        publish=not given.no_publish,
        restart=given.restart,
        expect_complete=given.expect_complete,
        expect_count=expected_count(given.expect_count),
        read_check=not given.no_read_check,
        unsafe_target=given.unsafe_target,
        mode=given.mode,
        plan=plan,
    )
