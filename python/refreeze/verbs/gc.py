"""`gc`: removes what killed processes have left in a repository."""

from __future__ import annotations

import json
import math
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from refreeze.planning.option_checks import check_options
from refreeze.verbs.report import GcReport

if TYPE_CHECKING:
    from refreeze.stores.resolve import Options

__all__ = ["gc", "seconds"]

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def gc(
    target: Any,
    *,
    dry_run: bool = False,
    older_than: str | float | timedelta = "1d",
    unsafe_target: bool = False,
    target_options: Options | None = None,
) -> GcReport:
    """Remove manifests, transaction logs and results of workers that nothing refers to.

    Processes leave such files if they are killed between writing and committing them. Whatever a
    snapshot of the repository refers to stays, whether or not a branch or tag leads to it, and so
    does what an unfinished ingest needs. Icechunk's own ``garbage_collect`` removes snapshots and
    native chunks.

    Parameters
    ----------
    target
        An Icechunk repository, as for `refreeze.ingest`.
    dry_run
        Only report what would be removed.
    older_than
        Newer files than this are left alone, since a worker may be about to commit them: text such
        as ``"1d"``, ``"90min"`` or ``"2h"``, seconds, or a `datetime.timedelta`. It must be longer
        than the longest unit of work takes.
    unsafe_target
        As for `refreeze.ingest`.
    target_options
        Settings of its object store.

    Raises
    ------
    refreeze.exceptions.TargetNotFoundError
        There is no repository.
    refreeze.exceptions.ConflictError
        Another process holds the target.
    refreeze.exceptions.TargetError
        A snapshot cannot be read, so that its references are unknown (nothing is removed), or a
        file cannot be removed.
    refreeze.exceptions.AccessError
        Credentials or permissions were refused.

    Examples
    --------
    >>> refreeze.gc("air.icechunk", dry_run=True).bytes  # doctest: +SKIP
    0
    """
    given = locals()
    from refreeze import _refreeze
    from refreeze.stores.resolve import resolve_target

    check_options(given)
    report = _refreeze.gc(
        resolve_target(target, target_options),
        dry_run=dry_run,
        older_than=seconds(older_than),
        unsafe_target=unsafe_target,
    )
    found = json.loads(report)
    return GcReport(files=tuple(found["files"]), bytes=found["bytes"], runs=tuple(found["runs"]))


def seconds(age: str | float | timedelta) -> float:
    """Read an age: text with a unit, seconds, or a timedelta."""
    what = f"older_than is an age such as '1d', '12h' or '30min', not {age!r}"
    if isinstance(age, timedelta):
        value = age.total_seconds()
    elif isinstance(age, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", age.lower())
        if match is None or (match[2] or "s") not in _UNITS:
            raise ValueError(what)
        value = float(match[1]) * _UNITS[match[2] or "s"]
    elif isinstance(age, bool) or not isinstance(age, int | float):
        raise TypeError(what)
    else:
        value = float(age)
    if not math.isfinite(value) or value < 0:
        raise ValueError(what)
    return value
