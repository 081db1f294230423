"""`sync`: a repository made equal to its sources as they are now."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import MismatchError
from refreeze.metadata.chunk_codec import check_chunk
from refreeze.metadata.region import bounds_of
from refreeze.planning.option_checks import check_options
from refreeze.planning.options import (
    DEFAULT_CONCURRENCY,
    DEFAULT_MAX_DOCUMENT,
    DEFAULT_MEMORY,
    IngestOptions,
)
from refreeze.verbs.ingest import CommitLog
from refreeze.verbs.report import peak_rss_bytes
from refreeze.verbs.verify import compared

if TYPE_CHECKING:
    from refreeze.metadata.region import Region
    from refreeze.stores.resolve import Options

__all__ = ["SyncReport", "sync"]


@dataclass(frozen=True)
class SyncReport:
    """The result of `refreeze.sync`. Times in seconds."""

    added: int
    """References that the target did not have before."""
    changed: int
    """References in whose place was another one before."""
    removed: int
    """References that the target has no more."""
    manifests_written: int
    snapshot_id: str | None
    """What was published, or staged; None when nothing had changed."""
    previous_snapshot_id: str | None
    """What the branch showed before, and history keeps."""
    published: bool
    run_id: str
    """Empty when nothing had changed."""
    dry_run: bool
    """Whether nothing was to be written: counts tell what would be."""
    examples: tuple[dict[str, Any], ...]
    """Of a dry run: some differences of each kind, as `refreeze.verify` shows them."""
    arrays: tuple[dict[str, Any], ...]
    """Of each array that was compared: ``path``, ``shape``, ``added``, ``changed``, ``removed``."""
    new_arrays: tuple[str, ...]
    """Arrays that were added."""
    removed_arrays: tuple[str, ...]
    """Arrays that were removed."""
    commits: int
    list_requests: int
    keys_listed: int
    source: str
    sources: tuple[str, ...]
    target: str
    branch: str
    elapsed_s: float
    peak_rss_bytes: int
    warnings: tuple[str, ...]
    listing: dict[str, Any] | None = None
    """Where the keys come from, as in `IngestReport`."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, ready for `json.dumps`."""
        report = asdict(self)
        if self.listing is None:
            del report["listing"]
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in report.items()
        }


_SHOWN = ("path", "shape", "added", "changed", "removed")
"""What a report says of each array."""


def sync(
    source: Any,
    target: Any,
    *,
    group: str | None = None,
    target_group: str | None = None,
    arrays: Iterable[str] | None = None,
    skip_variables: Iterable[str] | None = None,
    loadable_variables: Iterable[str] | None = None,
    branch: str = "main",
    region: Region | None = None,
    new_arrays: str = "error",
    remove_arrays: bool = False,
    dry_run: bool = False,
    empty_chunks: str = "error",
    checksum: str | None = None,
    memory: str | int = DEFAULT_MEMORY,
    max_refs_per_commit: int | None = None,
    max_document: str | int = DEFAULT_MAX_DOCUMENT,
    concurrency: int | str = DEFAULT_CONCURRENCY,
    message: str | None = None,
    no_publish: bool = False,
    restart: bool = False,
    unsafe_target: bool = False,
    no_read_check: bool = False,
    listing: Any = None,
    listing_columns: Mapping[str, str] | None = None,
    listing_options: Options | None = None,
    sample_listing: int = 0,
    probe: bool = False,
    yes: bool = False,
    max_requests_per_second: float | None = None,
    source_options: Options | None = None,
    target_options: Options | None = None,
    executor: Any = None,
    client: Any = None,
    workers: int | None = None,
    wait_for_workers: float = 60,
    progress: Callable[[dict[str, Any]], object] | None = None,
) -> SyncReport:
    """Make a repository equal to its sources as they are now.

    It follows new, changed and removed chunks, growth along one dimension, and changes of
    attributes and copied coordinates. Only manifests with a difference are rewritten; if nothing
    has changed, there is no commit. Like an ingest, it is staged, resumable and published in one
    step.

    Parameters
    ----------
    source
        As for `refreeze.ingest`: the sources that the target was made of, or one of them, which is
        then brought up to date at its own place.
    target
        The repository, as for `refreeze.ingest`.
    new_arrays
        What to do with arrays that the target does not have: ``"add"``, ``"ignore"`` or
        ``"error"``, which names them.
    remove_arrays
        Remove arrays that are gone from the source; otherwise they are an error.
    region
        Slices by dimension name, in elements of the source: only these are brought up to date.
    checksum
        How readers notice that an object has changed, as for `refreeze.ingest`; None keeps what the
        references have. A different value changes all of them.
    dry_run
        Compare and write nothing: the report has counts, and examples.
    group, target_group, arrays, skip_variables, loadable_variables, branch, empty_chunks, memory
        As for `refreeze.ingest`, and so are ``max_refs_per_commit``, ``max_document``,
        ``concurrency``, ``message``, ``no_publish``, ``restart``, ``unsafe_target``,
        ``no_read_check``, ``probe``, ``yes``, ``max_requests_per_second``, ``listing``,
        ``listing_columns``, ``listing_options``, ``sample_listing``, ``source_options``,
        ``target_options``, ``progress``, ``executor``, ``client``, ``workers`` and
        ``wait_for_workers``.

    Returns
    -------
    SyncReport
        What has changed, in total and for each array.

    Raises
    ------
    TypeError, ValueError
        An argument has a wrong type or value.
    refreeze.exceptions.MismatchError
        The target was made of another source; arrays were added or removed and no option says what
        to do; or an array has another data type, codec or chunk shape, or has shrunk: the message
        names ``--mode overwrite``.
    refreeze.exceptions.RefreezeError
        Otherwise as for `refreeze.ingest`.

    Examples
    --------
    >>> refreeze.sync("air.zarr", "air.icechunk").changed  # doctest: +SKIP
    3
    """
    given = locals()
    from refreeze import _refreeze
    from refreeze.distributed.choice import crew_at_work
    from refreeze.planning.dispatch import listing_date, listing_report
    from refreeze.planning.probing import check_requests
    from refreeze.planning.sync import planned_sync
    from refreeze.verbs.nothing_new import removed_leftovers
    from refreeze.verbs.opened import opened

    started = time.monotonic()
    check_options(given, optional={"checksum"})
    bounds = bounds_of(region)
    parts = {name: list(part) for name, part in sorted(bounds.items())}
    both = opened(
        source,
        target,
        given,
        bounds,
        IngestOptions.of(
            given, mode="sync", keep_checksum=checksum is None, plan=json.dumps({"region": parts})
        ),
    )
    stores, location = both.stores, both.location
    planned = planned_sync(
        stores,
        both.target,
        bounds,
        both.selection,
        new_arrays=new_arrays,
        remove_arrays=remove_arrays,
    )
    blank = {
        "source": stores[0].url,
        "sources": tuple(store.url for store in stores),
        "target": location.url,
        "branch": branch,
        "dry_run": dry_run,
        "examples": (),
        "new_arrays": planned.added,
        "removed_arrays": planned.replaced,
        "listing": listing_report(stores),
    }
    if dry_run:
        found = compared(both, progress=progress, started=started)
        counts = {
            "added": found.missing_in_target,
            "changed": found.changed - found.kinds.get("values", 0),
            "removed": found.missing_in_source,
        }
        return _report(
            planned.warnings,
            started,
            **blank | counts | {"examples": found.examples},
            snapshot_id=None,
            previous_snapshot_id=planned.base,
            list_requests=found.list_requests,
            keys_listed=found.keys_listed,
        )
    if planned.nothing_new:
        left = removed_leftovers(location, unsafe_target=unsafe_target)
        return _report(
            (*planned.warnings, *left),
            started,
            **blank,
            snapshot_id=None,
            previous_snapshot_id=planned.base,
        )
    check_requests(planned.arrays, stores)
    try:
        with crew_at_work(both.crew, both.places):
            report = json.loads(
                _refreeze.ingest(
                    [(store.source.store, store.source.path) for store in stores],
                    location,
                    source_urls=[store.url for store in stores],
                    groups=planned.groups,
                    arrays=planned.arrays,
                    options=replace(
                        both.options,
                        base=planned.base,
                        replaced=planned.replaced,
                        added=planned.added,
                        listing=listing_date(stores),
                    ),
                    decoder=check_chunk,
                    progress=CommitLog(progress),
                    crew=both.crew,
                )
            )
    except MismatchError as error:
        if "refers to" not in error.message:
            raise
        raise MismatchError(
            error.message, "ingest the array again in its place (refreeze ingest --mode overwrite)"
        ) from error
    names = (
        *("added", "changed", "removed", "manifests_written", "commits", "run_id"),
        *("list_requests", "keys_listed", "published", "previous_snapshot_id"),
    )
    return _report(
        (*planned.warnings, *report["warnings"]),
        started,
        **blank | {name: report[name] for name in names},
        snapshot_id=report["snapshot_id"] if report["run_id"] else None,
        arrays=tuple({name: array[name] for name in _SHOWN} for array in report["arrays"]),
    )


def _report(warnings: Iterable[str], started: float, **figures: Any) -> SyncReport:
    from refreeze.shown import shown

    numbers = ("added", "changed", "removed", "manifests_written", "commits")
    nothing: dict[str, Any] = dict.fromkeys((*numbers, "list_requests", "keys_listed"), 0)
    nothing |= {"published": False, "run_id": "", "arrays": ()}
    return SyncReport(
        **nothing | figures,
        elapsed_s=round(time.monotonic() - started, 3),
        peak_rss_bytes=peak_rss_bytes(),
        warnings=tuple(dict.fromkeys(shown(text) for text in warnings)),
    )
