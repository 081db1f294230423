"""``refreeze plan``: its options, and a plan as a table for people."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from refreeze.cli.console import (
    Array,
    Concurrency,
    Group,
    Json,
    Level,
    LogLevel,
    MaxDocument,
    Quiet,
    RegionOption,
    Skip,
    SourceOption,
    TargetOption,
    Version,
    count,
    print_json,
    run_job,
    say,
    show_warnings,
    store_options,
)
from refreeze.planning.options import DEFAULT_CONCURRENCY, DEFAULT_MAX_DOCUMENT, DEFAULT_MEMORY
from refreeze.runtime.command import begin_result
from refreeze.shown import shown

if TYPE_CHECKING:
    from refreeze.verbs.plan import Plan

__all__ = ["plan", "print_plan"]

_ASSUMPTIONS = {
    "dense": "If every chunk exists: {},",
    "sampled": "For as many of {} as a few requests let expect:",
}


def plan(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="As for ingest.")],
    target: Annotated[
        str | None, typer.Argument(metavar="[TARGET]", help="As for ingest; not opened.")
    ] = None,
    *,
    group: Group = None,
    array: Array = None,
    skip: Skip = None,
    region: RegionOption = None,
    concurrency: Concurrency = DEFAULT_CONCURRENCY,
    memory: Annotated[
        str, typer.Option(help="Bound on all memory that grows with the work.")
    ] = DEFAULT_MEMORY,
    max_refs_per_commit: Annotated[
        int | None, typer.Option(help="References in a commit [default: by memory].")
    ] = None,
    refs_per_manifest: Annotated[
        int | None, typer.Option(help="References in a manifest [default: by memory].")
    ] = None,
    max_document: MaxDocument = DEFAULT_MAX_DOCUMENT,
    source_option: SourceOption = None,
    target_option: TargetOption = None,
    as_json: Json = False,
    quiet: Quiet = False,
    log_level: Level = LogLevel.WARNING,
    version: Version = False,
) -> None:
    """Show what an ingest would take: requests, commits, manifests, cost.

    Reads metadata, and looks at large arrays with a few LIST requests to see how full they are.
    """

    def job() -> None:
        from refreeze.metadata.region import parse_region
        from refreeze.verbs.plan import plan as compute

        planned = compute(
            source,
            target,
            group=group,
            arrays=array,
            skip_variables=skip,
            region=parse_region(region or []),
            concurrency=concurrency,
            memory=memory,
            max_refs_per_commit=max_refs_per_commit,
            refs_per_manifest=refs_per_manifest,
            max_document=max_document,
            source_options=store_options(source_option, "--source-option"),
            target_options=store_options(target_option, "--target-option"),
        )
        begin_result()
        show_warnings(planned.warnings, quiet=quiet)
        if as_json:
            print_json(planned.to_dict())
        else:
            print_plan(planned)

    run_job(job, LogLevel.ERROR if quiet else log_level, as_json=as_json)


def print_plan(planned: Plan) -> None:
    """Print a plan for people."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("array")
    table.add_column("grid")
    table.add_column("keys")
    table.add_column("strategy")
    for name in ("chunks", "LIST requests", "refs/manifest"):
        table.add_column(name, justify="right")
    for array in planned.arrays:
        table.add_row(
            shown(array.path),
            " x ".join(f"{extent:,}" for extent in array.grid_shape) or "scalar",
            array.key_encoding,
            array.strategy,
            f"{array.chunks_in_region:,}",
            f"{array.list_requests:,}",
            f"{array.refs_per_manifest:,}",
        )
    # A pipe has no width: nothing is cut there.
    Console(soft_wrap=True, width=None if sys.stdout.isatty() else 1_000).print(table)
    totals = planned.totals
    at_a_time = planned.most_in_flight
    in_flight = f", {at_a_time} at a time" if at_a_time else ""
    say(
        f"\n{_ASSUMPTIONS[planned.estimate].format(count(totals.chunks_in_region, 'chunk'))} "
        f"{count(totals.list_requests, 'LIST request')} (${totals.list_cost_usd:.4f}{in_flight}), "
        f"{count(totals.commits, 'commit')}, {count(totals.manifests, 'manifest')} "
        f"of {totals.manifest_bytes:,} bytes together, about {totals.estimated_s:,.1f} s and "
        f"{totals.peak_memory_bytes / 1e6:,.0f} MB of memory."
    )
