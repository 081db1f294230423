"""``refreeze create-template``: its options, and what it says of the arrays that it has made."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refreeze.cli.console import (
    Json,
    Level,
    LogLevel,
    Quiet,
    SourceOption,
    TargetOption,
    Version,
    run_job,
    say,
    show_report,
    store_options,
)
from refreeze.cli.progress import FilesDisplay

if TYPE_CHECKING:
    from refreeze.writer.report import WriteReport

__all__ = ["Branch", "DropVariables", "TargetGroup", "Variables", "create_template"]

Branch = Annotated[str, typer.Option(help="Branch to commit to.")]
TargetGroup = Annotated[str | None, typer.Option("--group", help="Group of the target.")]
Variables = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME,...", help="Take only these variables (repeatable)."),
]
DropVariables = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME,...", help="Leave these variables out (repeatable)."),
]


def create_template(
    template: Annotated[
        str,
        typer.Argument(
            metavar="TEMPLATE",
            help="A file that shows variables and attributes: NetCDF, HDF5, GRIB or Zarr.",
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(metavar="TARGET", help="An Icechunk repository, created if there is none."),
    ],
    *,
    global_start: Annotated[
        str | None, typer.Option(metavar="TIME", help="First time; a date is the whole day.")
    ] = None,
    global_end: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Last time, included; a date is the whole day."),
    ] = None,
    freq: Annotated[
        str | None,
        typer.Option(help="Step of time, such as 1h, D, MS [default: that of the template]."),
    ] = None,
    time_dim: Annotated[
        str | None, typer.Option(metavar="DIM", help="Dimension of time [default: time].")
    ] = None,
    dim: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=START:STOP:STEP",
            help="Labels of another dimension; the stop is included when it lies on the grid "
            "(repeatable).",
        ),
    ] = None,
    chunking: Annotated[
        str | None,
        typer.Option(metavar="DIM:N,...", help="Chunks, such as time:100,lat:50; -1 for all."),
    ] = None,
    intelligent_chunking: Annotated[
        bool,
        typer.Option("--intelligent-chunking", help="Compute chunks from the whole shape."),
    ] = False,
    access_pattern: Annotated[
        str, typer.Option(help="What they are for: temporal, spatial or balanced.")
    ] = "balanced",
    target_chunk_size_mb: Annotated[
        float, typer.Option(help="Most that a computed chunk has, in MB, uncompressed.")
    ] = 50,
    compression: Annotated[
        str | None,
        typer.Option(
            metavar="NAME:OPTIONS",
            help="blosc:zstd:3, zstd:5, gzip:6, none, or any codec of zarr as NAME:KEY=VALUE,...",
        ),
    ] = None,
    packing: Annotated[
        bool, typer.Option("--packing", help="Store floating-point variables as integers.")
    ] = False,
    packing_bits: Annotated[int, typer.Option(help="Bits of those: 8, 16 or 32.")] = 16,
    packing_manual_ranges: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help='Their ranges, such as {"v": {"min": 250, "max": 330}} [default: valid_min and '
            "valid_max].",
        ),
    ] = None,
    shards: Annotated[
        str | None, typer.Option(metavar="DIM:N,...", help="Shards, multiples of the chunks.")
    ] = None,
    variables: Variables = None,
    drop_variables: DropVariables = None,
    attributes: Annotated[
        str | None, typer.Option(metavar="JSON", help="Attributes of the group to set.")
    ] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="One attribute of the group (repeatable)."),
    ] = None,
    references: Annotated[
        bool,
        typer.Option(
            "--references", help="Chunks and codecs as in the file, for write-region --references."
        ),
    ] = False,
    group: TargetGroup = None,
    branch: Branch = "main",
    message: Annotated[str | None, typer.Option(help="Message of the commit.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the arrays; write nothing.")
    ] = False,
    source_option: SourceOption = None,
    target_option: TargetOption = None,
    as_json: Json = False,
    quiet: Quiet = False,
    log_level: Level = LogLevel.WARNING,
    version: Version = False,
) -> None:
    """Create the arrays of a whole archive without data: metadata and coordinates, in one commit."""
    sources = store_options(source_option, "--source-option")
    targets = store_options(target_option, "--target-option")
    extra = _attributes(attributes, attribute)
    display = FilesDisplay(sys.stderr, quiet=quiet)

    def job() -> None:
        from refreeze.writer.template import create_template as create

        with display:
            report = create(
                template,
                target,
                global_start=global_start,
                global_end=global_end,
                freq=freq,
                time_dim=time_dim,
                dim=dim,
                chunking=chunking,
                intelligent_chunking=intelligent_chunking,
                access_pattern=access_pattern,
                target_chunk_size_mb=target_chunk_size_mb,
                compression=compression,
                packing=packing,
                packing_bits=packing_bits,
                packing_manual_ranges=packing_manual_ranges,
                shards=shards,
                variables=variables,
                drop_variables=drop_variables,
                attributes=extra,
                references=references,
                group=group,
                branch=branch,
                message=message,
                dry_run=dry_run,
                progress=display,
                source_options=sources,
                target_options=targets,
            )
        show_report(report, print_layout, as_json=as_json, quiet=quiet)

    def print_layout(report: WriteReport) -> None:
        for array in report.layout:
            say(
                f"{array['name']}  {array['dtype']}  ({', '.join(array['dims'])})  "
                f"{_product(array['shape'])}  in chunks of {_product(array['chunk_shape'])}"
            )
        if not dry_run:
            say(f"Template created in {report.target}, snapshot {report.snapshot_id}.")

    run_job(job, LogLevel.ERROR if quiet else log_level, as_json=as_json)


def _attributes(document: str | None, pairs: list[str] | None) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    if document is not None:
        try:
            attributes = json.loads(document)
        except json.JSONDecodeError as error:
            raise typer.BadParameter(f"not JSON: {error}", param_hint="--attributes") from None
        if not isinstance(attributes, dict):
            raise typer.BadParameter("expected a JSON object", param_hint="--attributes")
    for pair in pairs or []:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise typer.BadParameter("expected KEY=VALUE", param_hint="--attribute")
        attributes[key] = value
    return attributes


def _product(lengths: list[int]) -> str:
    return " by ".join(f"{length:,}" for length in lengths) or "one element"
