"""`publish`: makes a staged ingest visible on its branch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from refreeze.planning.option_checks import check_options
from refreeze.verbs.report import PublishReport

if TYPE_CHECKING:
    from refreeze.stores.resolve import Options

__all__ = ["publish"]


def publish(
    target: Any,
    *,
    run: str | None = None,
    rebase: bool = False,
    unsafe_target: bool = False,
    target_options: Options | None = None,
) -> PublishReport:
    """Publish an ingest that is complete and staged (``ingest(..., no_publish=True)``).

    Parameters
    ----------
    target
        An Icechunk repository, as for `refreeze.ingest`.
    run
        Identifier of the run; needed when several are staged.
    rebase
        When the branch has moved since the ingest began: put the ingest on its new tip, if the
        commits in between left the ingest's arrays and groups alone. Nothing is listed again.
    unsafe_target
        As for `refreeze.ingest`.
    target_options
        Settings of its object store.

    Raises
    ------
    refreeze.exceptions.TargetNotFoundError
        There is no repository, or no such staged ingest in it.
    refreeze.exceptions.MismatchError
        The ingest is not complete, its plan has expired, or several are staged and none is named.
    refreeze.exceptions.ConflictError
        The branch has moved, and the ingest cannot be put on its tip, or ``rebase`` was not given;
        or another process holds the target. Nothing is published and the ingest stays staged.
    refreeze.exceptions.TargetError
        The target cannot be written.
    refreeze.exceptions.AccessError
        Credentials or permissions were refused.

    Examples
    --------
    >>> refreeze.publish("air.icechunk").snapshot_id  # doctest: +SKIP
    '3S8XV5TR7NV0K4WYB1XG'
    """
    given = locals()
    from refreeze import _refreeze
    from refreeze.stores.resolve import resolve_target

    check_options(given)
    report = _refreeze.publish(
        resolve_target(target, target_options),
        run_id=run,
        rebase=rebase,
        unsafe_target=unsafe_target,
    )
    return PublishReport(**json.loads(report))
