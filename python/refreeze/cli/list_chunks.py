"""``refreeze list``: the chunks of one array, as a summary or as a table in a file.

The array is a Zarr store's, which is listed, or with ``--array`` one of a repository as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refreeze.cli.console import (
    Concurrency,
    Json,
    Level,
    LogLevel,
    MaxDocument,
    MaxRequests,
    Probe,
    Quiet,
    RegionOption,
    SourceOption,
    Version,
    Yes,
    count,
    print_json,
    run_job,
    say,
    show_warnings,
    store_options,
)
from refreeze.planning.options import DEFAULT_CONCURRENCY, DEFAULT_MAX_DOCUMENT, byte_count
from refreeze.runtime.command import begin_result
from refreeze.shown import shown
from refreeze.verbs.tables import FORMATS, write_table

if TYPE_CHECKING:
    from refreeze._refreeze import ChunkStream
    from refreeze.metadata.specs import ArraySpec
    from refreeze.verbs.coverage import GridOfArray

__all__ = ["list_chunks"]


def list_chunks(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="One Zarr array: a local path or a URL.")
    ],
    *,
    array: Annotated[
        str | None,
        typer.Option(help="An array of SOURCE, which is a Zarr group or an Icechunk repository."),
    ] = None,
    branch: Annotated[str, typer.Option(help="Branch of a repository.")] = "main",
    region: RegionOption = None,
    output: Annotated[
        Path | None, typer.Option(help="Write a table: .parquet, .arrow (IPC file) or .csv.")
    ] = None,
    paths: Annotated[bool, typer.Option("--paths", help="Add a column of object keys.")] = False,
    concurrency: Concurrency = DEFAULT_CONCURRENCY,
    max_document: MaxDocument = DEFAULT_MAX_DOCUMENT,
    probe: Probe = False,
    yes: Yes = False,
    max_requests_per_second: MaxRequests = None,
    source_option: SourceOption = None,
    as_json: Json = False,
    quiet: Quiet = False,
    log_level: Level = LogLevel.WARNING,
    version: Version = False,
) -> None:
    """List the stored chunks of one array, as a summary or as a table in a file."""
    if output is not None and output.suffix not in FORMATS:
        raise typer.BadParameter(
            f"{output.name} ends in none of {', '.join(FORMATS)}", param_hint="--output"
        )
    options = store_options(source_option, "--source-option")

    flat = output is not None and output.suffix != ".arrow"

    def job() -> None:
        from refreeze.metadata.region import parse_region
        from refreeze.metadata.selection import read_array
        from refreeze.planning.probing import probing_of
        from refreeze.runtime.interruption import interruptible
        from refreeze.stores.resolve import resolve_source
        from refreeze.verbs.list_chunks import open_stream

        if array is not None:
            from refreeze.verbs.coverage import RepositoryPlace, repository_place

            if (location := repository_place(source, options)) is not None:
                if region:
                    raise ValueError("--region is for Zarr stores, not for repositories")
                stored = RepositoryPlace(location, [array], None, branch)
                chosen = stored.only()
                summary = _Summary(stored.chunks(chosen, flat=output is None or flat))
                _finish(summary, chosen, stored.url, output, as_json=as_json, quiet=quiet)
                return
        place = source if array is None else f"{source.rstrip('/')}/{array.strip('/')}"
        probing = probing_of(probe=probe, yes=yes, max_requests_per_second=max_requests_per_second)
        resolved = resolve_source(place, options, probing)
        limit = byte_count("max_document", max_document, least=1)
        spec = interruptible(read_array, resolved, max_document=limit)
        stream = open_stream(
            resolved,
            spec,
            region=parse_region(region or []),
            paths=paths,
            flat=flat,
            concurrency=concurrency,
        )
        _finish(_Summary(stream), spec, resolved.url, output, as_json=as_json, quiet=quiet)

    run_job(job, LogLevel.ERROR if quiet else log_level, as_json=as_json)


def _finish(
    summary: _Summary,
    spec: ArraySpec | GridOfArray,
    url: str,
    output: Path | None,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    if output is None:
        summary.read()
    else:
        write_table(summary.stream.schema, summary, output)
    _report(summary, spec, url, output, as_json=as_json, quiet=quiet)


class _Summary:
    """Reads a stream, or lets it be read, and keeps count of sizes."""

    def __init__(self, stream: ChunkStream) -> None:
        self.stream = stream
        self.bytes = 0
        self.smallest: int | None = None
        self.largest: int | None = None
        self.chunks = 0

    def read(self) -> None:
        for _ in self:
            pass

    def __iter__(self) -> Any:
        for batch in self.stream:
            sizes = batch["size"].to_numpy()
            self.bytes += int(sizes.sum())
            self.chunks += len(sizes)
            smallest, largest = int(sizes.min()), int(sizes.max())
            self.smallest = smallest if self.smallest is None else min(smallest, self.smallest)
            self.largest = largest if self.largest is None else max(largest, self.largest)
            yield batch


def _report(
    summary: _Summary,
    spec: ArraySpec | GridOfArray,
    url: str,
    output: Path | None,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    stats = summary.stream.stats
    warnings = list(stats.warnings)
    if note := summary.stream.foreign_note(spec.path):
        warnings.append(note)
    begin_result()
    show_warnings(warnings, quiet=quiet)
    grid = [-(-n // chunk) for n, chunk in zip(spec.shape, spec.chunk_shape, strict=True)]
    if as_json:
        document = {
            "source": url,
            "shape": list(spec.shape),
            "chunk_shape": list(spec.chunk_shape),
            "grid_shape": grid,
            "chunks": summary.chunks,
            "bytes": summary.bytes,
            "smallest": summary.smallest,
            "largest": summary.largest,
            "output": None if output is None else str(output),
            "stats": stats.to_dict(),
            "warnings": warnings,
        }
        print_json(document)
        return
    shape = " x ".join(f"{extent:,}" for extent in grid) or "scalar"
    say(
        f"{shown(url)}: {count(summary.chunks, 'chunk')} of a grid of {shape}, {summary.bytes:,} bytes"
    )
    if summary.chunks:
        say(f"Sizes from {summary.smallest:,} to {summary.largest:,} bytes.")
    say(f"{count(stats.list_requests, 'request')}, {count(stats.keys_listed, 'key')}.")
    if output is not None:
        say(f"Written to {output}.")
