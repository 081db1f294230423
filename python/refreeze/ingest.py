"""`ingest`: a Zarr store into an Icechunk repository, as virtual references."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from refreeze.options import (
    DEFAULT_CONCURRENCY,
    DEFAULT_MEMORY,
    IngestOptions,
    byte_count,
    check_mappings,
    check_texts,
    expected_count,
    flags,
    refs_per_commit,
    requests_in_flight,
    selected,
)
from refreeze.options import refs_per_manifest as per_manifest_of
from refreeze.report import ArrayReport, IngestReport, peak_rss_bytes

if TYPE_CHECKING:
    from refreeze.stores import Options

__all__ = ["ingest"]

_log = logging.getLogger("refreeze")


def ingest(
    source: Any,
    target: Any,
    *,
    group: str | None = None,
    target_group: str | None = None,
    arrays: Iterable[str] | None = None,
    skip_variables: Iterable[str] | None = None,
    loadable_variables: Iterable[str] | None = None,
    branch: str = "main",
    mode: str = "create",
    empty_chunks: str = "error",
    locations: str = "relative",
    memory: str | int = DEFAULT_MEMORY,
    max_refs_per_commit: int | None = None,
    refs_per_manifest: int | None = None,
    concurrency: int = DEFAULT_CONCURRENCY,
    message: str | None = None,
    no_publish: bool = False,
    restart: bool = False,
    expect_complete: bool = False,
    expect_count: int | None = None,
    unsafe_target: bool = False,
    no_read_check: bool = False,
    source_options: Options | None = None,
    target_options: Options | None = None,
    progress: Callable[[dict[str, Any]], object] | None = None,
) -> IngestReport:
    """Ingest a Zarr store, group or array into an Icechunk repository without copying its chunks.

    Groups, arrays and attributes are recreated as Zarr version 3. Every chunk becomes a virtual
    reference with the object's size and last-modified time; one-dimensional dimension coordinates
    are copied, byte for byte. All of it is committed on a staging branch and published in one
    step: readers of ``branch`` see the state before or the state after. When it is stopped, by
    whatever, the same call goes on where it was.

    Parameters
    ----------
    source
        Root of a Zarr version 2 or 3 store, a group, or one array (which lands under its own
        name): a local path, ``file://`` or ``s3://`` URL; ``(registry, url)`` with an
        ``ObjectStoreRegistry``; or ``(store, path)`` with an obstore store.
    target
        An Icechunk repository: a local path, ``file://`` or ``s3://`` URL,
        ``icechunk.Storage`` or ``icechunk.Repository``. It is created when there is none.
    group
        Group of the source to take as the root.
    target_group
        Group of the target to ingest into; it and its parents are created as needed.
    arrays, skip_variables
        Names or paths of the arrays to take or to leave out; globs are allowed.
    loadable_variables
        Names or paths of arrays whose chunks are copied as native chunks instead of referenced.
        None means one-dimensional dimension coordinates; an empty list, none at all.
    branch
        Branch to publish on.
    mode
        Only ``"create"`` in this version: the arrays must not exist in the target.
    empty_chunks
        ``"error"`` refuses an object of zero bytes under a chunk's key, ``"skip"`` treats it as a
        missing chunk.
    locations
        ``"relative"`` references name the container and the key within it (``vcc://``);
        ``"absolute"`` ones hold the whole URL, for readers that know no named containers.
    memory
        Bound on everything that grows with the work (pages in flight, references that wait for a
        commit, manifests being built), in bytes or as text such as ``"192MiB"``.
    max_refs_per_commit
        At most this many references in a commit (default: what the memory has room for).
    refs_per_manifest
        References in one manifest (default: at most 250,000, as the memory allows; never more
        than 1,000,000); saved as the repository's manifest splitting for the new arrays.
    concurrency
        LIST requests in flight, over all arrays; fewer when the service asks for it or the memory
        has no room.
    message
        Message of every commit.
    no_publish
        Leave the ingest on its staging branch, for `refreeze.publish`.
    restart
        Discard an unfinished ingest of these arrays instead of going on with it.
    expect_complete
        Publish only if no chunk is missing.
    expect_count
        Publish only if there are exactly so many references over all arrays.
    unsafe_target
        Take a target whose store does not honour conditional writes, or a folder on a file system
        without locks. Two writers at a time may then lose commits.
    no_read_check
        Do not read one reference of each array before publishing.
    source_options, target_options
        Settings of the object stores (``endpoint``, ``region``, ``skip_signature``, …), which
        take precedence over the environment.
    progress
        Called with a dictionary of figures, at most ten times a second. The same figures go to
        the logger ``refreeze`` at level INFO with every commit, in the record's attribute
        ``refreeze``.

    Returns
    -------
    IngestReport
        What was written. Running the very same ingest again writes nothing and says so.

    Raises
    ------
    refreeze.exceptions.SourceNotFoundError
        Nothing is at the source, or a selected group or array is not in it.
    refreeze.exceptions.UnsupportedArrayError
        An array that cannot be referenced, or an empty chunk.
    refreeze.exceptions.AlreadyExistsError
        An array is in the target already.
    refreeze.exceptions.MismatchError
        A virtual chunk container in the target contradicts the source, or an unfinished ingest of
        these arrays had other options or another source.
    refreeze.exceptions.IncompleteError
        ``expect_complete`` or ``expect_count`` is not met; nothing is published.
    refreeze.exceptions.ListingError
        A listing that failed or cannot be trusted.
    refreeze.exceptions.TargetError
        The target is not an Icechunk repository, is one of spec version 1, cannot be written, or
        does not honour conditional writes.
    refreeze.exceptions.ConflictError
        The branch moved meanwhile (the ingest stays staged), or another process is ingesting into
        the same folder.
    refreeze.exceptions.AccessError
        Credentials or permissions were refused.

    Examples
    --------
    >>> report = refreeze.ingest("air.zarr", "air.icechunk")  # doctest: +SKIP
    >>> report.references_written  # doctest: +SKIP
    1200
    """
    from refreeze import _refreeze
    from refreeze.interrupt import interruptible
    from refreeze.memory import return_large_blocks
    from refreeze.metadata import read_metadata
    from refreeze.stores import NotInThisVersionError, resolve_source, resolve_target

    started = time.monotonic()
    check_texts(
        {"branch": branch, "mode": mode} | ({} if message is None else {"message": message})
    )
    check_mappings({"source_options": source_options, "target_options": target_options})
    if progress is not None and not callable(progress):
        raise TypeError(f"progress is a function, not {progress!r}")
    if not branch.strip():
        raise ValueError("branch is empty")
    if mode != "create":
        if mode in {"append", "overwrite", "update"}:
            raise NotInThisVersionError(f"mode {mode} is not in this version")
        raise ValueError(f"unknown mode {mode!r} (known: create)")
    if empty_chunks not in {"error", "skip"}:
        raise ValueError(f"empty_chunks must be 'error' or 'skip', not {empty_chunks!r}")
    if locations not in {"relative", "absolute"}:
        raise ValueError(f"locations must be 'relative' or 'absolute', not {locations!r}")
    flags(
        {
            "no_publish": no_publish,
            "restart": restart,
            "expect_complete": expect_complete,
            "unsafe_target": unsafe_target,
            "no_read_check": no_read_check,
        }
    )
    options = IngestOptions(
        branch=branch,
        skip_empty_chunks=empty_chunks == "skip",
        absolute_locations=locations == "absolute",
        memory=byte_count("memory", memory),
        references_per_manifest=(
            None if refs_per_manifest is None else per_manifest_of(refs_per_manifest)
        ),
        references_per_commit=refs_per_commit(max_refs_per_commit),
        concurrency=requests_in_flight(concurrency),
        message=message,
        publish=not no_publish,
        restart=restart,
        expect_complete=expect_complete,
        expect_count=expected_count(expect_count),
        read_check=not no_read_check,
        unsafe_target=unsafe_target,
    )
    selection = selected(group, target_group, arrays, skip_variables, loadable_variables)
    resolved = resolve_source(source, source_options)
    return_large_blocks()
    metadata = interruptible(read_metadata, resolved, selection)
    report = json.loads(
        _refreeze.ingest(
            resolved.store,
            resolved.path,
            resolve_target(target, target_options),
            source_url=resolved.url,
            groups=metadata.groups,
            arrays=metadata.arrays,
            options=options,
            progress=CommitLog(progress),
        )
    )
    report["warnings"] = (*metadata.warnings, *report["warnings"])
    report["arrays"] = tuple(_array_report(array) for array in report["arrays"])
    return IngestReport(
        sources=(resolved.url,),
        mode=mode,
        added=report["references_written"],
        changed=0,
        removed=0,
        elapsed_s=round(time.monotonic() - started, 3),
        peak_rss_bytes=peak_rss_bytes(),
        **report,
    )


class CommitLog:
    """Passes progress on, and logs every commit."""

    def __init__(self, progress: Callable[[dict[str, Any]], object] | None) -> None:
        self._progress = progress
        self._commits = 0

    def __call__(self, event: dict[str, Any]) -> None:
        """Take an event of the core."""
        if event["commits"] > self._commits:
            self._commits = event["commits"]
            _log.info(
                "commit %d: %d references so far",
                event["commits"],
                event["references_written"],
                extra={"refreeze": dict(event)},
            )
        if self._progress is not None:
            self._progress(event)


def _array_report(array: dict[str, Any]) -> ArrayReport:
    shapes = {name: tuple(array[name]) for name in ("shape", "chunk_shape", "grid_shape")}
    return ArrayReport(**(array | shapes))
