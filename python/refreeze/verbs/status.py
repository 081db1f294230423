"""`status`: the ingests that a repository knows of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from refreeze.planning.option_checks import check_options
from refreeze.verbs.report import Container, RunStatus, StatusReport

if TYPE_CHECKING:
    from refreeze.stores.resolve import Options

__all__ = ["status"]


def status(target: Any, *, target_options: Options | None = None) -> StatusReport:
    """Show which ingests and virtual chunk containers a repository knows of.

    This is read from branches and commit properties alone; published runs whose snapshots have
    expired are no longer known. An unfinished run whose first commit has expired has lost its plan:
    it has no branch, mode or batches, and the same ingest discards it and begins again.

    Parameters
    ----------
    target
        An Icechunk repository, as for `refreeze.ingest`.
    target_options
        Settings of its object store.

    Raises
    ------
    refreeze.exceptions.TargetNotFoundError
        There is no repository.
    refreeze.exceptions.TargetError
        It cannot be read.
    refreeze.exceptions.AccessError
        Credentials or permissions were refused.

    Examples
    --------
    >>> [run.state for run in refreeze.status("air.icechunk").runs]  # doctest: +SKIP
    ['published']
    """
    from refreeze import _refreeze
    from refreeze.stores.resolve import resolve_target

    check_options({"target_options": target_options})
    found = json.loads(_refreeze.status(resolve_target(target, target_options)))
    return StatusReport(
        runs=tuple(RunStatus(**run) for run in found["runs"]),
        containers=tuple(Container(**container) for container in found["containers"]),
        warnings=tuple(found["warnings"]),
    )
