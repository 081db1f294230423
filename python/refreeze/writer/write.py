"""`write`: arrays and data sets into a repository, as one commit that readers see whole or not at all.

What is read from the target itself is pinned to its snapshot, which has to be the commit's parent.
How arrays are written is in `write_arrays`, how data sets are in `write_datasets`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import ConflictError
from refreeze.writer.pinning import base_of
from refreeze.writer.progress import ArrayProgress, Progress
from refreeze.writer.report import WriteReport
from refreeze.writer.repository import committed, opened_for, stored_layout
from refreeze.writer.scratch import scratch_session

if TYPE_CHECKING:
    import icechunk

    from refreeze.writer.write_arrays import ArrayWriter
    from refreeze.writer.write_datasets import DatasetWriter

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
    dry_run: bool = False,
    progress: Progress | None = None,
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
        Slices by dimension, in elements of the target, which are checked against the labels; or
        ``auto``: found by them.
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
    dry_run
        Check everything but the values, and write nothing: the report says what would be committed.
    progress
        Called with ``{"stage", "array", "arrays_done", "arrays_total", "bytes"}``; the stage is
        ``write``, ``commit`` or ``done``.

    Returns
    -------
    WriteReport
        With the snapshot, and the layout of what was written.

    Raises
    ------
    ConflictError
        The target has moved since the data was read from it; nothing is written.
    AlreadyExistsError, TargetNotFoundError, MismatchError
        Of the mode and what the target holds.
    RegionError
        Labels do not match those of the target, or contradict the region.
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
        dry_run=dry_run,
    )
    creates = mode in ("create", "overwrite")
    found, url = opened_for(
        target, branch=branch, options=target_options, create=creates, dry_run=dry_run
    )
    base = base_of(data, found, based_on) if found is not None else None
    tell = ArrayProgress(progress, writer.count)
    before: str | None = None
    layout: tuple[dict[str, Any], ...] = ()

    def work(session: icechunk.Session, tip: str | None = None) -> str | None:
        nonlocal before, layout
        before = tip or session.snapshot_id
        if base is not None and before != base:
            raise ConflictError(
                f"the data was read from snapshot {base} of {url}, and branch {branch} has "
                f"moved to {before}; nothing was written",
                "read the newest state and write again, or pass based_on=None to write all the same",
            )
        tell.begin()
        arrays = writer(session, tell)
        layout = stored_layout(session, arrays)
        if not dry_run:
            tell.stage("commit")
        return (message or f"refreeze: {mode} {', '.join(arrays)}"[:500]) if arrays else None

    if found is None or dry_run:
        work(scratch_session(found), None if found is None else found.readonly().snapshot_id)
        snapshot, before = None, None if found is None else before
    else:
        snapshot = committed(found, work)
    tell.stage("done")
    return WriteReport(
        target=url,
        branch=branch,
        mode=mode,
        snapshot_id=snapshot,
        commits=0 if snapshot is None else 1,
        arrays=tuple(f"/{each['name']}" for each in layout),
        replaced_snapshot_id=before,
        elapsed_s=time.monotonic() - begun,
        dry_run=dry_run,
        layout=layout,
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
    dry_run: bool,
) -> ArrayWriter | DatasetWriter:
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
            dry_run=dry_run,
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
        dry_run=dry_run,
    )
