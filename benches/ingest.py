"""Ingests synthetic arrays of growing size into local repositories: time, memory, requests, bytes.

Usage: ``make bench-ingest`` (or ``python benches/ingest.py [--sizes 1,10] [--ufs] [--memory 192MiB]
[--latency 0]`` once the release build is there). Every run is a process of its own, timed from
outside; the endpoint computes its keys, so chunks cost it nothing. ``--ufs`` ingests ten arrays of
11 million chunks and a hundred small ones.

Columns: million references; seconds and CPU seconds of the process; CPU microseconds a reference;
peak resident memory; LIST requests that the endpoint counted; commits and manifests; bytes of all
manifests written over those of the manifests that the published snapshot needs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
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
import json, sys, time
import refreeze
url, target, memory = sys.argv[1:4]
started, cpu = time.perf_counter(), time.process_time()
report = refreeze.ingest("s3://bucket/store.zarr", target, memory=memory, source_options={
    "endpoint": url, "region": "us-east-1", "access_key_id": "k", "secret_access_key": "s",
    "allow_http": "true"})
found = report.to_dict()
found["wall"], found["cpu"] = time.perf_counter() - started, time.process_time() - cpu
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Run:
    """What one ingest cost."""

    references: int
    wall: float
    cpu: float
    rss: int
    requests: int
    commits: int
    manifests: int
    amplification: float

    def row(self) -> str:
        """Return a line of the Markdown table."""
        return (
            f"| {self.references / 1e6:g} | {self.wall:.1f} | {self.cpu:.1f} "
            f"| {self.cpu / self.references * 1e6:.2f} | {self.rss / 1e6:.0f} MB "
            f"| {self.requests:,} | {self.commits} | {self.manifests} "
            f"| {self.amplification:.2f} |"
        )


HEADER = (
    "| M references | wall s | CPU s | CPU µs/ref | peak RSS | LIST | commits | manifests "
    "| write amplification |\n|---|---|---|---|---|---|---|---|---|"
)


@contextmanager
def endpoint(arrays: dict[str, list[int]], latency_ms: int) -> Iterator[str]:
    """Serve dense arrays, name to grid, as a process of its own."""
    described = [
        {
            "prefix": f"store.zarr/{name}",
            "grid": grid,
            "zarr": {
                "chunk_shape": [1] * len(grid),
                "data_type": "float32",
                "dimension_names": ["time", "y", "x"][: len(grid)],
            },
        }
        for name, grid in arrays.items()
    ]
    config = {
        "bucket": "bucket",
        "latency_ms": latency_ms,
        "arrays": described,
        "groups": ["store.zarr"],
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(config, file)
        file.flush()
        command = [str(ENDPOINT), "--config", file.name, "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                yield process.stdout.readline().split()[-1]
            finally:
                process.terminate()


def measure(arrays: dict[str, list[int]], latency_ms: int, memory: str) -> Run:
    """Ingest the arrays once, in a process of its own."""
    with endpoint(arrays, latency_ms) as url, tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "repo"
        environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
        command = [sys.executable, "-c", WORKER, url, str(target), memory]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            raise SystemExit("the ingest failed")
        with urllib.request.urlopen(f"{url}/__stats") as answer:
            stats = json.load(answer)
        report: dict[str, Any] = json.loads(output)
        expected = sum(math.prod(grid) for grid in arrays.values())
        if report["references_written"] != expected:
            raise SystemExit(f"{report['references_written']} references, not {expected}")
        written = sum(file.stat().st_size for file in (target / "manifests").iterdir())
        return Run(
            references=expected,
            wall=report["wall"],
            cpu=report["cpu"],
            rss=usage.ru_maxrss * 1024,
            requests=stats["list"],
            commits=report["commits"],
            manifests=report["manifests_written"],
            amplification=written / live_bytes(target, report["snapshot_id"]),
        )


def live_bytes(target: Path, snapshot: str) -> int:
    """Bytes of the manifests that a snapshot needs."""
    import icechunk

    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    return sum(file.size_bytes for file in repository.list_manifest_files(snapshot))


def main() -> None:
    """Run the table that is asked for, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="1,10", help="millions of chunks, with commas")
    parser.add_argument("--ufs", action="store_true", help="10 x 11 M chunks and 100 small arrays")
    parser.add_argument("--memory", default="192MiB")
    parser.add_argument("--latency", type=int, default=0, help="milliseconds a page")
    options = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, ",
        end="",
    )
    print(f"memory {options.memory}, {options.latency} ms a page\n\n{HEADER}", flush=True)
    for size in filter(None, options.sizes.split(",")):
        steps = round(float(size) * 1_000)
        arrays = {"t2m": [steps, 10, 100]}
        print(measure(arrays, options.latency, options.memory).row(), flush=True)
    if options.ufs:
        arrays = {f"large{number}": [11_000, 10, 100] for number in range(10)}
        arrays |= {f"small{number}": [100, 10] for number in range(100)}
        print(measure(arrays, options.latency, options.memory).row(), flush=True)


if __name__ == "__main__":
    main()
