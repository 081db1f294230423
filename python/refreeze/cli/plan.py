"""``refreeze plan``: its options, and a plan as a table for people."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any

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
    UnsafeTarget,
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
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE... [TARGET]",
            help="As for ingest; the target is not opened without --output.",
        ),
    ],
    *,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Begin the ingest with its first commit, and write the plan of the rest here, "
            "for refreeze work and commit.",
        ),
    ] = None,
    group: Group = None,
    target_group: Annotated[
        str | None, typer.Option(help="Group of the target to ingest into.")
    ] = None,
    array: Array = None,
    skip: Skip = None,
    load: Annotated[
        list[str] | None,
        typer.Option(
            "--loadable-variable",
            "--load",
            help="Copy this array's chunks instead of referencing them (repeatable, globs; "
            "'none' for no array). Default: one-dimensional dimension coordinates.",
        ),
    ] = None,
    branch: Annotated[str, typer.Option(help="Branch to publish on.")] = "main",
    mode: Annotated[
        str,
        typer.Option(
            help="create: the arrays must not exist yet. append: what is new along --append-dim "
            "or --concat-dim. overwrite: in the place of what is there. update: --region anew."
        ),
    ] = "create",
    append_dim: Annotated[
        str | None,
        typer.Option(metavar="DIM", help="Append what the recorded source has grown by."),
    ] = None,
    concat_dim: Annotated[
        str | None,
        typer.Option(metavar="DIM", help="Dimension along which sources follow each other."),
    ] = None,
    region: RegionOption = None,
    empty_chunks: Annotated[
        str, typer.Option(metavar="error|skip", help="Empty objects under chunk keys.")
    ] = "error",
    checksum: Annotated[
        str, typer.Option(metavar="last-modified|etag|none", help="What references are held to.")
    ] = "last-modified",
    locations: Annotated[
        str, typer.Option(metavar="relative|absolute", help="How references name their objects.")
    ] = "relative",
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
    message: Annotated[str | None, typer.Option(help="Message of every commit.")] = None,
    no_publish: Annotated[
        bool, typer.Option("--no-publish", help="Leave it staged, for refreeze publish.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Discard an unfinished ingest of these arrays.")
    ] = False,
    expect_complete: Annotated[
        bool, typer.Option("--expect-complete", help="Publish only if no chunk is missing.")
    ] = False,
    expect_count: Annotated[
        int | None, typer.Option(help="Publish only if there are so many references.")
    ] = None,
    unsafe_target: UnsafeTarget = False,
    no_read_check: Annotated[
        bool, typer.Option("--no-read-check", help="Do not read a reference before publishing.")
    ] = False,
    source_option: SourceOption = None,
    target_option: TargetOption = None,
    as_json: Json = False,
    quiet: Quiet = False,
    log_level: Level = LogLevel.WARNING,
    version: Version = False,
) -> None:
    """Show what an ingest would take: requests, commits, manifests, cost.

    Reads metadata, and looks at large arrays with a few LIST requests to see how full they are.
    With --output the ingest is begun: its first commit is made, and what is left is for refreeze
    work. All options of ingest go with that.
    """
    options = {
        "target_group": target_group,
        "loadable_variables": [name for name in load if name != "none"] if load else None,
        "branch": branch,
        "mode": mode,
        "append_dim": append_dim,
        "concat_dim": concat_dim,
        "empty_chunks": empty_chunks,
        "checksum": checksum,
        "locations": locations,
        "message": message,
        "no_publish": no_publish,
        "restart": restart,
        "expect_complete": expect_complete,
        "expect_count": expect_count,
        "unsafe_target": unsafe_target,
        "no_read_check": no_read_check,
    }
    if output is None and len(paths) > 2:  # noqa: PLR2004 SOURCE and TARGET
        raise typer.BadParameter("several sources need --output", param_hint="SOURCE")
    if output is not None and len(paths) < 2:  # noqa: PLR2004 SOURCE and TARGET
        raise typer.BadParameter("--output needs a TARGET", param_hint="TARGET")

    def job() -> None:
        from refreeze.metadata.region import parse_region

        if output is not None:
            *sources, into = paths
            begin_run(
                sources[0] if len(sources) == 1 else sources,
                into,
                output,
                as_json=as_json,
                quiet=quiet,
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
                **options,
            )
            return
        from refreeze.verbs.plan import plan as compute

        planned = compute(
            paths[0],
            paths[1] if len(paths) > 1 else None,
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


def begin_run(
    source: str | list[str],
    target: str,
    output: str,
    *,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Begin an ingest for a batch queue, and say what to run."""
    from refreeze.verbs.batch_queue import begin

    planned, report = begin(source, target, output, **options)
    begin_result()
    show_warnings(report.warnings, quiet=quiet)
    if planned is None:
        if as_json:
            print_json({"run_id": report.run_id, "output": None, "units": 0})
        else:
            say("Nothing to do: the target has it all.")
        return
    if as_json:
        units = len(planned.units)
        print_json({"run_id": planned.run_id, "output": output, "units": units})
        return
    say(
        f"Begun as run {planned.run_id}: the first commit is made, and nobody sees it yet. "
        f"{count(len(planned.units), 'unit')} of work in {shown(output)}:\n\n"
        f"    refreeze work {shlex.quote(output)} --part I/N    "
        f"(for every I from 0 to N - 1, anywhere)\n"
        f"    refreeze commit {shlex.quote(output)}"
    )


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
