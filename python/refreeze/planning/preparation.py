"""From the arguments of a verb to what it works on: checks, then metadata, then an ingest's mode.

Ingest, plan, verify and sync begin here. Nothing is written, and nothing is listed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
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
from refreeze.planning.option_checks import check_options
from refreeze.planning.options import IngestArguments, IngestOptions, selected
from refreeze.planning.probing import probing_of
from refreeze.stores.resolve import resolve_target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from refreeze.metadata.selection import Selection
    from refreeze.planning.request import Planned, Request
    from refreeze.planning.source_slice import Store
    from refreeze.stores.listings import Listing
    from refreeze.stores.resolve import Options
    from refreeze.stores.web_store import Probing

__all__ = ["Prepared", "Sources", "prepared"]

_READ_TARGET = {"append", "update"}


@dataclass(frozen=True)
class Sources:
    """The sources that a verb is given, and what is taken of them; nothing has been read."""

    given: list[Any]
    selection: Selection
    probing: Probing
    listing: Listing | None
    """Where their keys come from, unless they are listed."""
    settings: Options | None

    @classmethod
    def of(cls, source: Any, given: Mapping[str, Any]) -> Sources:
        """Check what a verb's options, by their names, say of its sources.

        Raises
        ------
        TypeError, ValueError
            One of them is of a wrong type or value.
        """
        sources = several(source)
        names = ("group", "target_group", "arrays", "skip_variables", "loadable_variables")
        return cls(
            sources,
            selected(
                *(given[name] for name in names),
                max_document=given["max_document"],
                partial=len(sources) > 1,
            ),
            probing_of(
                probe=given["probe"],
                yes=given["yes"],
                max_requests_per_second=given["max_requests_per_second"],
            ),
            _listing_of(
                given["listing"],
                given["listing_columns"],
                given["listing_options"],
                given["sample_listing"],
            ),
            given["source_options"],
        )

    def read(self, options: IngestOptions) -> list[Store]:
        """Read their metadata; a listing takes what memory and requests the options allow."""
        return read_stores(
            self.given,
            self.settings,
            self.selection,
            self.probing,
            listing=self.listing,
            memory=options.memory,
            concurrency=options.concurrency,
        )


def _listing_of(listing: Any, columns: Any, options: Any, sample: Any) -> Listing | None:
    """Check what is given of a listing; without one, what reads them is not imported."""
    if listing is columns is options is None and type(sample) is int and sample == 0:
        return None
    from refreeze.stores.listings import listing_of

    return listing_of(listing, columns, options, sample)


@dataclass(frozen=True)
class Prepared:
    """What an ingest begins with."""

    sources: Sources
    stores: list[Store]
    """Their metadata."""
    location: Callable[[], Any]
    """Gives the target; to ask for some creates them."""
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
    given = {field.name: getattr(arguments, field.name) for field in fields(arguments)}
    check_options(given)
    if target is None and figures_only and arguments.mode in _READ_TARGET:
        raise ValueError(f"mode {arguments.mode} looks at the target: name one")
    sources = Sources.of(source, given)
    selection = replace(
        sources.selection,
        partial=sources.selection.partial and arguments.concat_dim is None,
        # What has grown is exactly what an append must not overlook.
        grown_along=(
            (arguments.append_dim or arguments.concat_dim) if arguments.mode == "append" else None
        ),
    )
    sources = replace(sources, selection=selection)
    request = checked_request(
        arguments.mode,
        append_dim=arguments.append_dim,
        concat_dim=arguments.concat_dim,
        region=arguments.region,
        sources=len(sources.given),
        selection=selection,
        figures_only=figures_only,
    )
    options = IngestOptions.of(given, plan=request.fingerprint)
    stores = sources.read(options)
    options = replace(options, listing=listing_date(stores))
    # Asked for late: to look at some targets creates them.
    settings = arguments.target_options
    location = cache(lambda: resolve_target(target, settings, create=not figures_only))
    if figures_only and isinstance(target, str | os.PathLike):
        location()
    return Prepared(sources, stores, location, request, options)
