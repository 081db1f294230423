"""Builds the same ManifestStore with refreeze.ZarrParser and with VirtualiZarr's, side by side.

Usage: ``make bench-parser`` (or ``python benches/parser.py`` once it has built things). Each run is a
process of its own: wall and CPU time of the call, peak memory of the process, and the LIST requests
that the endpoint counted. The two take turns; medians are shown. Both are checked to hold the same
references. Then regions of a larger array, whose cost depends on the region alone.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from listing import PACKAGE, endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKER = """
import sys, time
import numpy as np, refreeze, refreeze.manifests
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import S3Store
from virtualizarr.parsers import ZarrParser
tool, url, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = S3Store("bucket", endpoint=url, region="us-east-1", access_key_id="k",
                secret_access_key="s", client_options={"allow_http": True})
registry = ObjectStoreRegistry({"s3://bucket": store})
region = {"dim_0": slice(0, rows)} if rows else None
parser = ZarrParser() if tool == "virtualizarr" else refreeze.ZarrParser(region=region)
started, cpu = time.perf_counter(), time.process_time()
result = parser("s3://bucket", registry)
wall, cpu = time.perf_counter() - started, time.process_time() - cpu
manifest = result._group.arrays["t2m"].manifest
last = (-1,) * manifest.ndim_chunk_grid
print(int((manifest._lengths > 0).sum()), manifest._paths[last], wall, cpu)
"""
"""Both import the same packages first, so that what is timed is the parser."""


@dataclass(frozen=True)
class Run:
    """One process: seconds of the call, bytes, and what it found."""

    wall: float
    cpu: float
    rss: int
    """Of the whole process, from outside: packages, interpreter and all."""
    references: int
    last: str
    """Location of the last chunk."""
    requests: int


def measure(tool: str, url: str, rows: int) -> Run:
    """Run one worker and read off what it cost; ``rows`` of 0 is everything."""
    urllib.request.urlopen(urllib.request.Request(f"{url}/__reset", method="POST")).close()
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    command = [sys.executable, "-c", WORKER, tool, url, str(rows)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{tool} failed")
    with urllib.request.urlopen(f"{url}/__stats") as answer:
        requests = json.load(answer)["list"]
    references, last, wall, cpu = output.split()
    rss = usage.ru_maxrss * 1024
    return Run(float(wall), float(cpu), rss, int(references), last, requests)


def compare(
    grid: list[int], latency_ms: int, runs: int, tools: list[str], rows: int = 0
) -> dict[str, Any]:
    """Let the tools take turns on one endpoint, and see that they agree."""
    results: dict[str, list[Run]] = {tool: [] for tool in tools}
    with endpoint(grid, latency_ms) as url:
        for _ in range(runs):
            for tool in tools:
                results[tool].append(measure(tool, url, rows))
    found = {(run.references, run.last) for measured in results.values() for run in measured}
    if len(found) != 1:
        raise SystemExit(f"the parsers disagree: {found}")
    return {
        "chunks": math.prod(grid),
        "latency_ms": latency_ms,
        "references": next(iter(found))[0],
        **{
            tool: {
                field: statistics.median(getattr(run, field) for run in measured)
                for field in ("wall", "cpu", "rss", "requests")
            }
            for tool, measured in results.items()
        },
    }


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield "| chunks | references | ms a page | parser | wall s | CPU s | peak MB | LIST requests |"
    yield "|--:|--:|--:|---|--:|--:|--:|--:|"
    for row in rows:
        case = f"| {row['chunks']:,} | {row['references']:,} | {row['latency_ms']} "
        for tool in ("refreeze", "virtualizarr"):
            if tool not in row:
                continue
            run = row[tool]
            yield (
                f"{case}| {tool} | {run['wall']:.2f} | {run['cpu']:.2f} "
                f"| {run['rss'] / 1e6:.0f} | {run['requests']:,.0f} |"
            )
        if "virtualizarr" in row:
            ratio = {f: row["virtualizarr"][f] / row["refreeze"][f] for f in ("wall", "cpu", "rss")}
            yield (
                f"{case}| *ratio* | {ratio['wall']:.1f} × | {ratio['cpu']:.1f} × "
                f"| {ratio['rss']:.1f} × | |"
            )


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    both = ["refreeze", "virtualizarr"]
    million, hundred_million = [1000, 1000], [10_000, 10_000]
    rows = [
        compare(million, 0, arguments.runs, both),
        compare(million, 50, arguments.runs, both),
        compare(hundred_million, 0, arguments.runs, ["refreeze"], rows=10),
        compare(hundred_million, 0, arguments.runs, ["refreeze"], rows=100),
    ]
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"{time.strftime('%Y-%m-%d')}; the endpoint runs on the same machine\n"
    )
    for line in table(rows):
        print(line)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
