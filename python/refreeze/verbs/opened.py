"""What `verify` and `sync` begin with: sources that were read, a target that was opened, and who compares.

Options are checked first, before anything is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from refreeze.distributed.choice import crew_of, places_of
from refreeze.planning.preparation import Sources
from refreeze.planning.target_arrays import Target
from refreeze.runtime.memory import return_large_blocks
from refreeze.stores.resolve import resolve_target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from refreeze.distributed.crew import Places
    from refreeze.metadata.region import SliceBounds
    from refreeze.metadata.selection import Selection
    from refreeze.planning.options import IngestOptions
    from refreeze.planning.source_slice import Store

__all__ = ["Opened", "crew_for", "opened", "places_for"]


@dataclass(frozen=True)
class Opened:
    """Sources beside the target that was made of them."""

    stores: list[Store]
    location: Any
    """The target as the core takes it."""
    target: Target
    bounds: Mapping[str, SliceBounds]
    """The region that is compared, in elements of the source; empty: everything."""
    selection: Selection
    options: IngestOptions
    crew: Any
    """Who compares; None: this process."""
    places: Callable[[], Places]
    """Where a crew finds sources and target."""


def opened(
    source: Any,
    target: Any,
    given: Mapping[str, Any],
    bounds: Mapping[str, SliceBounds],
    options: IngestOptions,
) -> Opened:
    """Read the metadata of sources, and open the target.

    Parameters
    ----------
    given
        The arguments of the verb by name.
    bounds, options
        What was made of its region, and of what the core takes.
    """
    sources = Sources.of(source, given)
    crew = crew_for(given)
    return_large_blocks()
    stores = sources.read(options)
    location = resolve_target(target, given["target_options"])
    return Opened(
        stores,
        location,
        Target(location, given["branch"]),
        bounds,
        sources.selection,
        options,
        crew,
        places_for(sources, target, given, options),
    )


def crew_for(given: Mapping[str, Any]) -> Any:
    """Return the crew that a verb's arguments name; None for this process."""
    return crew_of(
        given["executor"],
        given["client"],
        given["workers"],
        given["wait_for_workers"],
        listing=given["listing"],
    )


def places_for(
    sources: Sources, target: Any, given: Mapping[str, Any], options: IngestOptions
) -> Callable[[], Places]:
    """Return what tells a crew where things are: they must have addresses only if there is one."""
    return partial(
        places_of,
        sources.given,
        target,
        source_options=given["source_options"],
        target_options=given["target_options"],
        memory=options.memory,
        concurrency=options.concurrency,
        probing=sources.probing,
    )
