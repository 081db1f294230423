"""How an ingest scales with workers: ``make bench-scaling``. Two tables, as Markdown.

*Latency-bound*: 100 ms a page and two requests in flight for each worker, so that a worker waits most of the
time. *CPU-bound*: no latency, as many requests as are useful. The pool is started, and has imported
refreeze, before the clock starts; what an ingest costs that lists next to nothing is subtracted.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from harness import Endpoint, dense, parser_of
from tables import machine

WORKERS = (1, 2, 4, 8)
LEAST = {1: 0.9, 2: 0.9, 4: 0.85, 8: 0.75}
"""Speed-up by worker that must be reached where latency limits."""
UNITS_EACH = 4
CHUNKS = 1_600_000
MOST_IN_A_MANIFEST = 1_000_000
STEP = 1_000
"""Chunks of a step of time, a page of keys: regions of the array along time share no page."""


def ready(seconds: float) -> int:
    """Import what a unit needs, and keep this worker busy until its siblings have begun too."""
    import refreeze.work  # noqa: F401

    time.sleep(seconds)
    return os.getpid()


def measure(url: str, workers: int, in_flight: int, chunks: int) -> float:
    """Return the seconds of an ingest by so many processes."""
    import refreeze

    options = {
        "endpoint": url,
        "skip_signature": "true",
        "region": "us-east-1",
        "allow_http": "true",
    }
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(workers, mp_context=context) as pool,
    ):
        list(pool.map(ready, [0.5] * workers))
        begun = time.monotonic()
        report = refreeze.ingest(
            "s3://bucket/store.zarr",
            f"{folder}/target.icechunk",
            executor=pool,
            concurrency=in_flight * workers,
            refs_per_manifest=min(max(chunks // (workers * UNITS_EACH), 1), MOST_IN_A_MANIFEST),
            no_read_check=True,
            source_options=options,
        )
        seconds = time.monotonic() - begun
    assert report.references_written == chunks, report
    return seconds


def timed(package: Path, latency: int, workers: int, in_flight: int, chunks: int) -> float:
    """Measure in a process of its own."""
    grid = [chunks // STEP, 10, STEP // 10]
    with Endpoint([dense(grid)], latency_ms=latency) as endpoint:
        command = [sys.executable, __file__, "--measure", endpoint.url, str(workers)]
        command += [str(in_flight), str(chunks)]
        environment = os.environ | {"PYTHONPATH": str(package)}
        ended = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    return float(json.loads(ended.stdout))


def table(package: Path, latency: int, in_flight: int, chunks: int) -> dict[int, float]:
    """Print the speed-up of each number of workers; return it."""
    print(f"\n{latency} ms a page, {in_flight} requests in flight a worker, {chunks:,} chunks\n")
    print("| workers | seconds | fixed | speed-up | a worker |\n|---|---|---|---|---|")
    speeds, one = {}, 0.0
    for workers in WORKERS:
        fixed = timed(package, latency, workers, in_flight, STEP)
        net = timed(package, latency, workers, in_flight, chunks) - fixed
        one = one or net
        speeds[workers] = one / net
        share = speeds[workers] / workers
        print(
            f"| {workers} | {net + fixed:.1f} | {fixed:.1f} | {speeds[workers]:.2f} | {share:.2f} |"
        )
    return speeds


def main() -> int:
    """Run both."""
    if sys.argv[1:2] == ["--measure"]:
        print(measure(sys.argv[2], *map(int, sys.argv[3:])))
        return 0
    options = parser_of(__doc__).parse_args()
    Endpoint.binary = options.endpoint
    print(*(f"{name}: {value}" for name, value in machine().items()), sep="\n")
    chunks = max(int(CHUNKS * options.scale) // STEP, 8) * STEP
    speeds = table(options.package, 100, 2, chunks)
    cores = os.cpu_count() or 1
    cpu = table(options.package, 0, 16, chunks * 10)
    missed = [workers for workers in WORKERS if speeds[workers] < LEAST[workers] * workers]
    if cpu[min(WORKERS, key=lambda workers: abs(workers - cores))] < 0.85 * cores:
        missed.append(cores)
    return 1 if missed and options.scale == 1 else 0


if __name__ == "__main__":
    sys.exit(main())
