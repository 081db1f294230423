"""`write_region`: data from files into their place in a template, as one commit.

Where the place is follows from labels (`region_places`), what may go there from `region_checks`;
values are copied by `region_blocks` or referred to by `reference_files`. Several files are shared
out among workers by `region_workers`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from refreeze.planning.options import DEFAULT_MEMORY, byte_count
from refreeze.runtime.memory import share_free_memory
from refreeze.writer.input_files import names_of, shown_input
from refreeze.writer.packing import ACTIONS
from refreeze.writer.progress import FileProgress, Progress
from refreeze.writer.region_job import Done, Job, template_of, write_file
from refreeze.writer.region_places import given_region
from refreeze.writer.region_workers import Overlaps, share_out
from refreeze.writer.report import WriteReport
from refreeze.writer.repository import committed, open_target

if TYPE_CHECKING:
    import icechunk

__all__ = ["write_region"]


def write_region(
    files: Any,
    target: Any,
    *,
    region: Mapping[str, slice] | Sequence[str] | str | None = None,
    references: bool = False,
    workers: int | None = None,
    client: Any = None,
    retries_on_missing: int = 0,
    missing_check_vars: Sequence[str] | str | None = "all",
    cast: bool = False,
    packing_range_exceeded_action: str = "error",
    variables: Sequence[str] | str | None = None,
    drop_variables: Sequence[str] | str | None = None,
    group: str | None = None,
    branch: str = "main",
    message: str | None = None,
    memory: int | str = DEFAULT_MEMORY,
    dry_run: bool = False,
    progress: Progress | None = None,
    source_options: Mapping[str, Any] | None = None,
    target_options: Mapping[str, Any] | None = None,
) -> WriteReport:
    """Write data from files into their place in a template, as one commit.

    Many processes may do so at once, into shared chunks too: a commit that meets another is put on
    top of it, and done again from there where both wrote the same chunk.

    Parameters
    ----------
    files
        A file (NetCDF, HDF5, GRIB, Zarr), an xarray ``Dataset``, or a list of those.
    target
        The repository that `create_template` has made; as for `ZarrSaver`.
    region
        Where the data belongs, in elements by dimension: ``{"time": slice(0, 24)}`` or
        ``time=0:24,lat=0:50``. By default it is found by the labels; a region that is given is
        checked against them.
    references
        Refer to the files' chunks instead of copying values.
    workers, client
        Processes of this machine, or a ``distributed.Client``, that share many files out. Files
        that share chunks go to one worker.
    retries_on_missing
        How often more a block is written whose values are there in the file and missing in what
        would be committed.
    missing_check_vars
        Variables that are looked at for that: ``all``, ``none`` or names.
    cast
        Allow conversions that may lose something: float64 into float32, fractions into integers.
    packing_range_exceeded_action
        For values that a packed variable cannot hold: ``error``, ``clip`` or ``nan``.
    memory
        Bound on the values that are held at a time; chunks that are larger still are held whole.
    dry_run
        Only find and check the regions.
    variables, drop_variables
        Which of the files' variables to take or to leave.
    group, branch, message, source_options, target_options
        As for `refreeze.ingest`.
    progress
        Called with ``{"stage", "file", "files_done", "files_total", "bytes"}``; the stage is
        ``write``, ``commit`` or ``done``.

    Returns
    -------
    WriteReport
        With the regions, one for each file.

    Raises
    ------
    RegionError
        Labels do not match those of the template, or a region contradicts them.
    MismatchError
        Variables, units, calendars, types or codecs do not go with the template.
    IncompleteError
        Values are missing in what would have been committed; nothing was.
    """
    begun = time.monotonic()
    inputs = _inputs(files)
    if retries_on_missing < 0:
        raise ValueError("retries_on_missing is a whole number, 0 or more")
    if packing_range_exceeded_action not in ACTIONS:
        raise ValueError(f"packing_range_exceeded_action is one of {', '.join(ACTIONS)}")
    if workers is not None and client is not None:
        raise ValueError("give one of workers and client")
    if workers is not None and workers < 1:
        raise ValueError(f"workers is a number of processes, at least 1, not {workers!r}")
    job = Job(
        group=(group or "").strip("/"),
        region=given_region(region),
        references=references,
        attempts=retries_on_missing + 1,
        check=_checked(missing_check_vars),
        cast=cast,
        action=packing_range_exceeded_action,
        variables=names_of(variables, "variables"),
        drop_variables=names_of(drop_variables, "drop_variables"),
        memory=byte_count("memory", memory),
        source_options=dict(source_options or {}),
    )
    share_free_memory()
    found = open_target(target, branch=branch, options=target_options, create=False)
    tell = FileProgress(progress, len(inputs))
    if dry_run:
        session = found.readonly()
        template = template_of(session, job)
        done = [write_file(session, each, job, template=template, dry_run=True) for each in inputs]
        return _report(found.url, branch, None, done, begun, dry_run=True)
    if references:
        from refreeze.writer.reference_files import location_of, with_containers

        found = with_containers(found, [location_of(each) for each in inputs], job.source_options)
    results: list[Done] = []

    def work(session: icechunk.Session) -> str:
        results.clear()
        tell.begin()
        template = template_of(session, job)
        if workers is None and client is None:
            taken = Overlaps()
            for each in inputs:
                results.append(write_file(session, each, job, template=template))
                taken.add(results[-1])
                _told(tell, results[-1])
        else:
            results.extend(
                share_out(
                    session,
                    inputs,
                    job,
                    workers=workers,
                    client=client,
                    tell=lambda done: _told(tell, done),
                )
            )
        tell.stage("commit")
        return message or _message(results)

    snapshot = committed(found, work, rebase=True)
    tell.stage("done")
    return _report(found.url, branch, snapshot, results, begun)


def _inputs(files: Any) -> list[Any]:
    several = isinstance(files, Sequence) and not isinstance(files, str | bytes)
    inputs = list(files) if several else [files]
    if not inputs:
        raise ValueError("there is no file to write")
    for each in inputs:
        if not isinstance(each, str | os.PathLike | xr.Dataset | xr.DataArray):
            raise TypeError(f"a file is a path, a URL or a data set, not {type(each).__name__}")
    # Workers may run in other folders.
    return [
        str(Path(each).expanduser().absolute())
        if isinstance(each, str | os.PathLike) and "://" not in os.fspath(each)
        else each
        for each in inputs
    ]


def _checked(given: Sequence[str] | str | None) -> frozenset[str] | None:
    """Return which variables are read back; None for all."""
    names = names_of(given, "missing_check_vars")
    if names is None or names == ["none"]:
        return frozenset()
    return None if names == ["all"] else frozenset(names)


def _told(tell: FileProgress, done: Done) -> None:
    tell.finished(done.file, done.region, done.bytes)


def _message(results: Sequence[Done]) -> str:
    if len(results) > 1:
        return f"refreeze: regions of {len(results)} files"
    place = ", ".join(f"{dim}={start}:{stop}" for dim, (start, stop) in results[0].region.items())
    return f"refreeze: {shown_input(results[0].file)} into {place}"[:500]


def _report(
    url: str,
    branch: str,
    snapshot: str | None,
    done: Sequence[Done],
    begun: float,
    *,
    dry_run: bool = False,
) -> WriteReport:
    return WriteReport(
        target=url,
        branch=branch,
        mode="region",
        snapshot_id=snapshot,
        commits=0 if snapshot is None else 1,
        arrays=tuple(sorted({path for each in done for path in (*each.arrays, *each.shared)})),
        files=len(done),
        regions=tuple({"file": each.file, "region": each.region} for each in done),
        elapsed_s=time.monotonic() - begun,
        dry_run=dry_run,
        warnings=tuple(sorted({text for each in done for text in each.warnings})),
    )
