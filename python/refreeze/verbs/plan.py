"""`plan`: what an ingest would take, from metadata and a few requests."""

from __future__ import annotations

from typing import Any

from refreeze.planning.options import IngestArguments
from refreeze.verbs.plan_figures import Plan

__all__ = ["Plan", "plan"]


def plan(source: Any, target: Any = None, **options: Any) -> Plan:
    """Compute what an ingest would take, from metadata and a few LIST requests.

    The plan is that of `refreeze.ingest` with the same arguments; nothing is written. Arrays of
    more than 1,000 chunks are sampled, with at most about 8 requests each and 64 in total, the
    largest first, to see how full they are. The others are assumed to be full.

    Parameters
    ----------
    source
        As for `refreeze.ingest`; also a list.
    target
        As for `refreeze.ingest`. Only the modes that change existing data, ``append`` and
        ``update``, read it, and need it.
    **options
        Those of `refreeze.ingest`, except ``dry_run`` and ``progress``: ``mode``, ``group``,
        ``region``, ``memory`` and so on.

    Returns
    -------
    Plan
        Its ``to_dict()`` is what ``refreeze plan --json`` prints.

    Raises
    ------
    TypeError, ValueError
        An option is unknown, has a wrong type, or does not fit the others.
    refreeze.exceptions.RegionError
        The region does not align with an array's chunks, is empty, or names a dimension that no
        array has.
    refreeze.exceptions.SourceNotFoundError, refreeze.exceptions.UnsupportedArrayError
        As for `refreeze.ingest`.
    refreeze.exceptions.ListingError, refreeze.exceptions.AccessError
        The source cannot be listed.
    """
    from refreeze.planning.preparation import prepared
    from refreeze.verbs.dry_run import plan_of

    unknown = options.keys() - IngestArguments.__dataclass_fields__.keys()
    if unknown:
        raise TypeError(f"plan() got an unexpected keyword argument {min(unknown)!r}")
    given = IngestArguments(**options)
    ready = prepared(source, target, given, figures_only=True)
    return plan_of(ready.planned, ready.stores, ready.options, given, target)
