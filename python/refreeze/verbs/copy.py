"""`copy`: virtual references of a repository become native chunks of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from refreeze.metadata.dimensions import GriddedArray
from refreeze.metadata.region import bounds_of
from refreeze.metadata.specs import ArraySpec
from refreeze.planning.option_checks import check_options
from refreeze.planning.options import (
    DEFAULT_CONCURRENCY,
    DEFAULT_MEMORY,
    byte_count,
    names,
    refs_per_commit,
    requests_in_flight,
)
from refreeze.verbs.report import peak_rss_bytes

if TYPE_CHECKING:
    from refreeze.metadata.region import Region, SliceBounds
    from refreeze.stores.resolve import Options

__all__ = ["CopyReport", "copy", "copy_run"]


@dataclass(frozen=True)
class CopyReport:
    """The result of `refreeze.copy`. Sizes in bytes, times in seconds."""

    target: str
    branch: str
    run_id: str
    """Empty when there was nothing to copy."""
    snapshot_id: str | None
    """What was published, or staged; None when there was nothing to copy."""
    previous_snapshot_id: str | None
    """What the branch showed before, and history keeps."""
    published: bool
    resumed: bool
    """Whether an earlier attempt was resumed."""
    chunks_copied: int
    """By this attempt."""
    bytes_copied: int
    server_side: int
    """Chunks that the service has copied itself, within one bucket."""
    commits: int
    arrays: tuple[dict[str, Any], ...]
    """Of each array: ``path``, ``chunks_copied``, ``bytes_copied``."""
    elapsed_s: float
    peak_rss_bytes: int
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, ready for `json.dumps`."""
        report = asdict(self)
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in report.items()
        }


def copy(
    target: Any,
    *,
    arrays: Iterable[str] | None = None,
    region: Region | None = None,
    branch: str = "main",
    memory: str | int = DEFAULT_MEMORY,
    max_refs_per_commit: int | None = None,
    concurrency: int | str = DEFAULT_CONCURRENCY,
    message: str | None = None,
    no_publish: bool = False,
    unsafe_target: bool = False,
    source_options: Options | None = None,
    target_options: Options | None = None,
    progress: Callable[[dict[str, Any]], object] | None = None,
) -> CopyReport:
    """Turn virtual references of a repository into native chunks of it, byte for byte.

    Within one bucket the service copies; otherwise the bytes go through this process. If a chunk is
    no longer what was referenced, an error names it. What was copied is committed where readers do
    not see it and published in one step. If the call is stopped or fails, the same call resumes it.

    Parameters
    ----------
    target
        The repository, as for `refreeze.ingest`.
    arrays
        Names or paths of the arrays to copy; globs are allowed. None means all.
    region
        Slices by dimension name, in elements of the repository's arrays; arrays without the
        dimension are copied whole.
    branch
        Branch whose references are copied, and on which the result is published.
    memory
        Bound on the chunks that are in memory at a time, in bytes or as text such as ``"192MiB"``.
    max_refs_per_commit
        Chunks that are committed together (default: 20,000); a kill loses no more than these.
    concurrency
        Chunks that are copied at a time: a number, or ``"auto"``, as for `refreeze.ingest`.
    message
        Message of every commit.
    no_publish
        Leave it staged, for `refreeze.publish`.
    unsafe_target
        As for `refreeze.ingest`.
    source_options
        Settings of the stores that the references lead to. By default those that the repository
        has stored, and credentials of the environment.
    target_options
        Settings of the target's store.
    progress
        Called with a dictionary of figures, at most ten times a second.

    Returns
    -------
    CopyReport
        How much was copied. If no references are left, nothing is committed.

    Raises
    ------
    TypeError, ValueError
        An argument has a wrong type or value.
    refreeze.exceptions.RegionError
        A region that does not align, is empty, or names a dimension that no array has.
    refreeze.exceptions.TargetNotFoundError
        There is no repository, no such branch, or no such array in it.
    refreeze.exceptions.MismatchError
        An object has changed since it was referenced; what was copied stays staged.
    refreeze.exceptions.ListingError, refreeze.exceptions.AccessError
        A source cannot be read.
    refreeze.exceptions.TargetError, refreeze.exceptions.ConflictError
        As for `refreeze.ingest`.

    Examples
    --------
    >>> refreeze.copy("air.icechunk", arrays=["t2m"], region={"time": slice(0, 240)})  # doctest: +SKIP
    """
    check_options(locals())
    from refreeze.runtime.memory import return_large_blocks, share_free_memory
    from refreeze.stores.resolve import resolve_target

    return_large_blocks()
    share_free_memory()
    patterns = names("arrays", arrays)
    bounds = bounds_of(region)
    byte_count("memory", memory)
    refs_per_commit(max_refs_per_commit)
    requests_in_flight(concurrency)
    return copy_run(
        resolve_target(target, target_options),
        patterns,
        bounds,
        branch=branch,
        memory=byte_count("memory", memory),
        chunks_per_commit=refs_per_commit(max_refs_per_commit),
        concurrency=requests_in_flight(concurrency),
        message=message,
        publish=not no_publish,
        unsafe_target=unsafe_target,
        source_options=source_options,
        progress=progress,
    )


def copy_run(
    location: Any,
    patterns: tuple[str, ...],
    bounds: Mapping[str, SliceBounds],
    *,
    branch: str,
    memory: int,
    chunks_per_commit: int | None,
    concurrency: int | str,
    message: str | None,
    publish: bool,
    unsafe_target: bool,
    source_options: Options | None,
    progress: Callable[[dict[str, Any]], object] | None,
    run_id: str | None = None,
    shown_branch: str | None = None,
) -> CopyReport:
    """Do what `copy` does, with checked arguments.

    Parameters
    ----------
    run_id
        A staged run to resume, on whose branch the references are.
    shown_branch
        The branch to report, where that is not the one whose references are copied.
    """
    from refreeze import _refreeze
    from refreeze.shown import shown
    from refreeze.verbs.coverage import RepositoryPlace

    started = time.monotonic()
    place = RepositoryPlace(location, patterns, None, branch)
    boxes = _boxes(place, bounds)
    places, notes = _places(location, source_options)
    what = {"arrays": [path for path, _ in boxes], "region": sorted(bounds.items())}
    report = json.loads(
        _refreeze.copy(
            location,
            branch=branch,
            run_id=run_id,
            arrays=boxes,
            places=places,
            plan=json.dumps(what),
            memory=memory,
            concurrency=concurrency,
            chunks_per_commit=chunks_per_commit,
            message=message,
            publish=publish,
            unsafe_target=unsafe_target,
            progress=progress,
        )
    )
    report["branch"] = shown_branch or branch
    report["arrays"] = tuple(report["arrays"])
    return CopyReport(
        **report,
        elapsed_s=round(time.monotonic() - started, 3),
        peak_rss_bytes=peak_rss_bytes(),
        warnings=tuple(dict.fromkeys(shown(note) for note in notes)),
    )


def _boxes(
    place: Any, bounds: Mapping[str, SliceBounds]
) -> list[tuple[str, list[tuple[int, int]]]]:
    """Return the chunks to copy of each array, half-open along each dimension."""
    from refreeze import _refreeze

    _refreeze.check_known(
        [
            GriddedArray(array.path, array.shape, array.chunk_shape, array.names, coordinate=False)
            for array in place.arrays
        ],
        list(bounds),
    )
    boxes = []
    for array in place.arrays:
        own = {name: part for name, part in bounds.items() if name in array.names}
        if array.names == (array.path.rpartition("/")[2],):
            # A coordinate's chunks are its own; what the region needs of them is copied whole.
            own = {}
        spec = ArraySpec(
            path=array.path,
            source_path="",
            document=b"",
            shape=array.shape,
            chunk_shape=array.chunk_shape,
            key_encoding="default",
            separator="/",
            copied=False,
            dimension_names=array.names,
        )
        boxes.append((array.path, _refreeze.region_box(spec, region=own)))
    return boxes


def _places(
    location: Any, source_options: Options | None
) -> tuple[list[tuple[str | None, str, tuple[Any, str]]], list[str]]:
    """Open the stores of a repository's containers.

    Raises
    ------
    TargetNotFoundError
        There is no container, so that there can be no references.
    """
    from refreeze import _refreeze
    from refreeze.exceptions import SourceNotFoundError
    from refreeze.stores.resolve import resolve_source

    places: list[tuple[str | None, str, tuple[Any, str]]] = []
    notes: list[str] = []
    for name, prefix, settings in _refreeze.containers(location):
        is_bucket = "://" in prefix and not prefix.startswith("file://")
        options = settings | dict(source_options or {}) if is_bucket else None
        try:
            source = resolve_source(prefix, options)
        except (SourceNotFoundError, ValueError, NotImplementedError) as error:
            # References to it, if there are any to copy, are an error of their own.
            notes.append(f"the container {prefix} cannot be read: {error}")
            continue
        places.append((name, prefix, (source.store, source.path)))
        notes += source.notes
    return places, notes
