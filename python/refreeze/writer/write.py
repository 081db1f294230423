"""`write`: arrays and data sets into a repository, as one commit that readers see whole or not at all.

What is read from the target itself is pinned to its snapshot, which has to be the commit's parent.
How arrays are written is in `write_arrays`, how data sets are in `write_datasets`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import ConflictError
from refreeze.writer.pinning import base_of
from refreeze.writer.report import WriteReport
from refreeze.writer.repository import committed, open_target

if TYPE_CHECKING:
    import icechunk

__all__ = ["write"]

_MODES = ("create", "append", "overwrite", "update")


def write(
    data: Any,
    target: Any,
    *,
    mode: str = "create",
    name: str | None = None,
    append_dim: str | int | None = None,
    region: Mapping[str, slice] | str | None = None,
    indices: Any = None,
    based_on: str | None = "auto",
    encoding: Mapping[str, Any] | None = None,
    if_present: str = "error",
    branch: str = "main",
    message: str | None = None,
    target_options: Mapping[str, Any] | None = None,
) -> WriteReport:
    """Write data into a repository in one atomic commit.

    Parameters
    ----------
    data
        numpy, dask or zarr array, xarray ``Dataset``, ``DataArray`` or ``DataTree``. Lazily loaded
        data may come from the target itself.
    target
        As for `ZarrSaver`.
    mode
        ``create`` (the arrays must not exist), ``append`` (along ``append_dim``), ``overwrite``
        or ``update`` (of ``indices`` of an array, or a ``region`` of a data set).
    name
        Path of the array; of the group, for a data set.
    append_dim
        Dimension that grows; a number, 0 by default, for arrays.
    region
        Slices by dimension, in elements of the target, or ``auto``: found by labels.
    based_on
        The snapshot that the commit must follow. ``auto``: the one that lazily loaded data is read
        from. A snapshot's id says it for data that was loaded, which leaves no trace. None: write
        whatever has happened meanwhile.
    encoding
        Of new arrays: keywords of ``zarr.create_array`` for an array; xarray's encoding, by
        variable, for a data set.
    branch, message, target_options
        As for `refreeze.ingest`.
    if_present
        What an append does with labels that are there: ``error``, ``skip`` or ``overwrite``.

    Raises
    ------
    ConflictError
        The target has moved since the data was read from it; nothing is written.
    AlreadyExistsError, TargetNotFoundError, MismatchError
        Of the mode and what the target holds.
    """
    begun = time.monotonic()
    if mode not in _MODES:
        raise ValueError(f"unknown mode {mode!r} (known: {', '.join(_MODES)})")
    if if_present not in ("error", "skip", "overwrite"):
        raise ValueError(f"if_present is error, skip or overwrite, not {if_present!r}")
    if mode == "update" and region is None and indices is None:
        raise ValueError("update needs indices (of an array) or a region (of a data set)")
    writer = _writer_of(
        data,
        mode=mode,
        name=name,
        append_dim=append_dim,
        region=region,
        indices=indices,
        encoding=encoding,
        if_present=if_present,
    )
    found = open_target(
        target, branch=branch, options=target_options, create=mode in ("create", "overwrite")
    )
    base = base_of(data, found, based_on)
    before: list[str] = []
    arrays: list[str] = []

    def work(session: icechunk.Session) -> str | None:
        before[:] = [session.snapshot_id]
        if base is not None and session.snapshot_id != base:
            raise ConflictError(
                f"the data was read from snapshot {base} of {found.url}, and branch {branch} has "
                f"moved to {session.snapshot_id}; nothing was written",
                "read the newest state and write again, or pass based_on=None to write all the same",
            )
        arrays[:] = writer(session)
        return (message or f"refreeze: {mode} {', '.join(arrays)}"[:500]) if arrays else None

    snapshot = committed(found, work)
    return WriteReport(
        target=found.url,
        branch=branch,
        mode=mode,
        snapshot_id=snapshot,
        commits=0 if snapshot is None else 1,
        arrays=tuple(arrays),
        replaced_snapshot_id=before[0],
        elapsed_s=time.monotonic() - begun,
    )


def _writer_of(
    data: Any,
    *,
    mode: str,
    name: str | None,
    append_dim: str | int | None,
    region: Any,
    indices: Any,
    encoding: Mapping[str, Any] | None,
    if_present: str,
) -> Callable[[icechunk.Session], list[str]]:
    if type(data).__module__.partition(".")[0] == "xarray":
        from refreeze.writer.write_datasets import DatasetWriter

        if indices is not None:
            raise ValueError("indices are for arrays; give a region of a data set")
        if mode == "append" and append_dim is None:
            raise ValueError("append needs append_dim: the dimension that grows")
        return DatasetWriter(
            data,
            mode=mode,
            name=name,
            append_dim=append_dim,
            region=region,
            encoding=encoding,
            if_present=if_present,
        )
    from refreeze.writer.write_arrays import ArrayWriter

    if region is not None:
        raise ValueError("a region is for data sets, whose dimensions have names; give indices")
    if not isinstance(append_dim, int | None):
        raise ValueError("append_dim of an array without names is a number")  # noqa: TRY004 as its names
    return ArrayWriter(
        data,
        mode=mode,
        name=name or "data",
        axis=append_dim or 0,
        indices=indices,
        encoding=encoding or {},
    )
