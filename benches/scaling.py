"""How an ingest scales with workers: ``make bench-scaling``. Two tables, as Markdown.

*Latency-bound*: 100 ms a page and two requests in flight for each worker, so that a worker waits most of the
time. *CPU-bound*: no latency, and a core for each worker, as far as there are so many: everything,
endpoint and coordinator too, is bound to those cores, since one worker by itself would use them all.
The pool is started, and has imported refreeze, before the clock starts; what an ingest costs that
lists next to nothing is subtracted.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness import Endpoint, dense, parser_of
from tables import machine

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKERS = (1, 2, 4, 8)
LEAST = {1: 0.9, 2: 0.9, 4: 0.85, 8: 0.75}
"""Speed-up by worker that must be reached where latency limits."""
CPU_LEAST = 0.85
"""The same where CPU limits, by core."""
ROUNDS = 3
"""Of what is limited by CPU."""
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


@contextmanager
def bound(cores: int) -> Iterator[None]:
    """Let this process, and what it starts, run on so many cores only."""
    all_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(all_cores)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_cores)


def table(
    package: Path, latency: int, in_flight: int, chunks: int, *, by_core: bool = False
) -> dict[int, float]:
    """Print the speed-up of each number of workers; return it.

    With `by_core` each worker has a core, and medians of rounds are taken: such times are short,
    and those of a virtual machine differ from minute to minute.
    """
    cores = len(os.sched_getaffinity(0))
    numbers = [workers for workers in WORKERS if not by_core or workers <= cores]
    measured: dict[int, list[tuple[float, float]]] = {workers: [] for workers in numbers}
    for _ in range(ROUNDS if by_core else 1):
        for workers in numbers:
            with bound(workers if by_core else cores):
                fixed = timed(package, latency, workers, in_flight, STEP)
                whole = timed(package, latency, workers, in_flight, chunks)
            measured[workers].append((whole - fixed, fixed))
    each = ", a core for each worker" if by_core else ""
    print(
        f"\n{latency} ms a page, {in_flight} requests in flight a worker, {chunks:,} chunks{each}\n"
    )
    print("| workers | seconds | fixed | speed-up | a worker |\n|---|---|---|---|---|")
    speeds, one = {}, 0.0
    for workers, rounds in measured.items():
        net, fixed = map(statistics.median, zip(*rounds, strict=True))
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
    cpu = table(options.package, 0, 16, chunks * 25, by_core=True)
    missed = [workers for workers in WORKERS if speeds[workers] < LEAST[workers] * workers]
    most = max(cpu)
    if cpu[most] < CPU_LEAST * most:
        missed.append(most)
    return 1 if missed and options.scale == 1 else 0


if __name__ == "__main__":
    sys.exit(main())
