"""Lists the same synthetic chunks with refreeze and with obstore, side by side.

Usage: ``make bench`` (or ``python benches/listing.py [--full]`` once it has built things). Each run
is a process of its own: wall and CPU time of the listing, peak memory of the process, and the LIST
requests that the endpoint counted. The two take turns; medians are shown. The endpoint computes its
keys, so chunks cost it nothing.
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
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
ENDPOINT = ROOT / "target" / "release" / "refreeze-endpoint"
PACKAGE = ROOT / "target" / "bench"
"""Holds the package with an optimised extension; see the Makefile."""

WORKER = """
import sys, time
import obstore, refreeze, zarr
from arro3.core import RecordBatch
from obstore.store import S3Store
tool, url, concurrency = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = S3Store("bucket", endpoint=url, region="us-east-1", access_key_id="k",
                secret_access_key="s", client_options={"allow_http": True})
started, cpu = time.perf_counter(), time.process_time()
keys = 0
if tool == "obstore":
    for batch in obstore.list(store, "t2m", chunk_size=1000, return_arrow=True):
        keys += batch.num_rows
else:
    for batch in refreeze.list_chunks(store, "t2m", concurrency=concurrency):
        keys += batch.num_rows
print(keys, time.perf_counter() - started, time.process_time() - cpu)
"""
"""Both import the same packages first, so that what is timed is the listing."""


@dataclass(frozen=True)
class Run:
    """One process: seconds of the listing, bytes, and what the endpoint counted."""

    wall: float
    cpu: float
    rss: int
    """Of the whole process, from outside: packages, interpreter and all."""
    keys: int
    requests: int


@contextmanager
def endpoint(grid: list[int], latency_ms: int) -> Iterator[str]:
    """Serve one dense array of `grid` chunks, as a process of its own."""
    shape = {
        "prefix": "t2m",
        "grid": grid,
        "zarr": {"chunk_shape": [1] * len(grid), "data_type": "float32"},
    }
    config = {"bucket": "bucket", "latency_ms": latency_ms, "groups": [""], "arrays": [shape]}
    command = [str(ENDPOINT), "--json", json.dumps(config), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


def measure(tool: str, url: str, concurrency: int) -> Run:
    """Run one worker and read off what it cost."""
    urllib.request.urlopen(urllib.request.Request(f"{url}/__reset", method="POST")).close()
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    command = [sys.executable, "-c", WORKER, tool, url, str(concurrency)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{tool} failed")
    with urllib.request.urlopen(f"{url}/__stats") as answer:
        stats = json.load(answer)
    keys, wall, cpu = output.split()
    return Run(
        wall=float(wall),
        cpu=float(cpu),
        rss=usage.ru_maxrss * 1024,
        keys=int(keys),
        requests=stats["list"],
    )


def compare(grid: list[int], latency_ms: int, runs: int, tools: list[str]) -> dict[str, Any]:
    """Let the tools take turns on one endpoint."""
    results: dict[str, list[Run]] = {tool: [] for tool in tools}
    with endpoint(grid, latency_ms) as url:
        for _ in range(runs):
            for tool in tools:
                results[tool].append(measure(tool, url, 64))
    return {
        "chunks": math.prod(grid),
        "latency_ms": latency_ms,
        **{
            tool: {
                field: statistics.median(getattr(run, field) for run in measured)
                for field in ("wall", "cpu", "rss", "keys", "requests")
            }
            for tool, measured in results.items()
        },
    }


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield "| chunks | ms a page | tool | wall s | CPU s | peak MB | LIST requests | keys/s |"
    yield "|--:|--:|---|--:|--:|--:|--:|--:|"
    for row in rows:
        for tool in ("refreeze", "obstore"):
            if tool not in row:
                continue
            run = row[tool]
            yield (
                f"| {row['chunks']:,} | {row['latency_ms']} | {tool} | {run['wall']:.2f} "
                f"| {run['cpu']:.2f} | {run['rss'] / 1e6:.0f} | {run['requests']:,.0f} "
                f"| {run['keys'] / run['wall']:,.0f} |"
            )
        if "obstore" in row:
            ratio = {f: row["obstore"][f] / row["refreeze"][f] for f in ("wall", "cpu", "rss")}
            yield (
                f"| {row['chunks']:,} | {row['latency_ms']} | *ratio* | {ratio['wall']:.1f} × "
                f"| {ratio['cpu']:.1f} × | {ratio['rss']:.1f} × | | |"
            )


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="also 100 million chunks")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    both = ["refreeze", "obstore"]
    rows = [
        compare([1000, 1000], 0, arguments.runs, both),
        compare([1000, 1000], 50, arguments.runs, both),
    ]
    if arguments.full:
        rows.append(compare([10_000, 10_000], 0, 1, ["refreeze"]))
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
