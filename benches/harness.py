"""What all benchmarks share: the synthetic endpoint, one process a measurement, and medians.

A measurement is a whole process, seen from outside: wall time from its start to its end, user and
system CPU time and peak memory as the kernel accounts for them, and the LIST requests that the
endpoint counted. Interpreter, imports and all are part of it. What is measured is in `worker`;
what is compared with what, and what the ratios must be, in `comparisons`.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
WORKER = Path(__file__).resolve().with_name("worker.py")


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks have: what is measured, and how much of it."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=1.0, help="of the data; 1 for figures")
    parser.add_argument("--package", type=Path, default=ROOT / "target" / "bench")
    parser.add_argument("--endpoint", type=Path, default=Endpoint.binary)
    return parser


def dense(grid: list[int], prefix: str = "store.zarr/t2m") -> dict[str, Any]:
    """Describe an array of `grid` chunks, all of which exist, as the endpoint wants it."""
    ndim = len(grid)
    names = ["time", "y", "x"][:ndim]
    zarr = {"chunk_shape": [1] * ndim, "data_type": "float32", "dimension_names": names}
    # Sizes differ as those of compressed chunks do: all alike, they would compress to nothing.
    return {"prefix": prefix, "grid": grid, "zarr": zarr, "size_spread": 4095}


def chunk_files(folder: Path, grid: tuple[int, int], separator: str) -> None:
    """Write a version 2 array of small chunks: in nested folders or, with a dot, in one."""
    folder.mkdir()
    document = {
        "zarr_format": 2,
        "shape": list(grid),
        "chunks": [1, 1],
        "dtype": "|u1",
        "compressor": None,
        "filters": None,
        "fill_value": 0,
        "order": "C",
        "dimension_separator": separator,
    }
    (folder / ".zarray").write_text(json.dumps(document))
    for row in range(grid[0]):
        place = folder / str(row) if separator == "/" else folder
        place.mkdir(exist_ok=True)
        start = f"{place}/" if separator == "/" else f"{place}/{row}."
        for column in range(grid[1]):
            with open(f"{start}{column}", "wb") as file:  # noqa: PTH123 (a million times)
                file.write(b"x")


class Endpoint:
    """The synthetic endpoint, as a process of its own, for as long as the context lasts.

    It speaks as S3, Google Cloud Storage or Azure does, as it is spoken to; ``page_size`` bounds
    pages for which the service has no lower bound of its own.

    It computes the keys and bytes of arrays, so that chunks cost it nothing. Objects that are
    written to it are kept in its memory: repositories, of which it counts the bytes that are read.
    """

    binary = ROOT / "target" / "release" / "refreeze-endpoint"

    def __init__(
        self,
        arrays: list[dict[str, Any]],
        latency_ms: int = 0,
        page_size: int = 1_000,
        groups: Sequence[str] = (),
    ) -> None:
        parents = {array["prefix"].rpartition("/")[0] for array in arrays}
        self._config = {
            "bucket": "bucket",
            "latency_ms": latency_ms,
            "page_size": page_size,
            "groups": sorted(parents | set(groups)),
            "arrays": arrays,
        }
        self.latency_ms = latency_ms
        self.url = ""

    def __enter__(self) -> Self:
        """Start it and wait until it listens."""
        # A hundred arrays are too long for a command line.
        self._file = tempfile.NamedTemporaryFile("w", suffix=".json")
        json.dump(self._config, self._file)
        self._file.flush()
        command = [str(self.binary), "--config", self._file.name, "--port", "0"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().split()[-1]
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._process.terminate()
        self._process.communicate()
        self._file.close()

    def reset(self) -> None:
        """Set the counters to zero."""
        self._post("reset", {})

    def set(self, **settings: Any) -> None:
        """Change settings from the next request on."""
        self._post("settings", settings)

    def stats(self) -> dict[str, int]:
        """Return the counters."""
        with urllib.request.urlopen(f"{self.url}/__stats") as answer:
            counters: dict[str, int] = json.load(answer)
        return counters

    def _post(self, control: str, body: Mapping[str, Any]) -> None:
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/__{control}", data=data, method="POST")
        urllib.request.urlopen(request).close()


@dataclass(frozen=True)
class Run:
    """One process: seconds, bytes, requests, and what it said of itself."""

    wall: float
    cpu: float
    rss: int
    list_requests: int
    said: dict[str, Any]

    def row(self, case: str, tool: str) -> dict[str, Any]:
        """Return the figures as a line of a table."""
        outside = {
            "case": case,
            "tool": tool,
            "runs": 1,
            "wall": self.wall,
            "cpu": self.cpu,
            "rss": self.rss,
            "list_requests": self.list_requests,
        }
        return outside | self.said


@dataclass(frozen=True)
class Subject:
    """One of the things compared: a task of `worker` with its arguments."""

    tool: str
    task: str
    arguments: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    runs: int | None = None
    """At most so many, for what takes minutes."""


class Bench:
    """Runs processes with one package, as often as was asked for."""

    def __init__(self, package: Path, runs: int, scale: float) -> None:
        # Else the first run would compile, for all that come after.
        compileall.compile_dir(package, quiet=2)
        self.package = package
        self.runs = runs
        self.scale = scale
        """1 for figures; less to see in seconds that everything works."""

    def steps(self, count: int) -> int:
        """Return a number of leading chunks, scaled."""
        return max(10, round(count * self.scale))

    def times(self, count: int) -> int:
        """Return how often something is repeated, scaled."""
        return max(2, round(count * min(1, self.scale)))

    def measure(self, endpoint: Endpoint, subject: Subject) -> Run:
        """Run one process and read off what it cost."""
        endpoint.reset()
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.package),
            "ICECHUNK_LOG": "error",  # it warns of every repository on local disk
            **subject.environment,
        }
        arguments = json.dumps({"url": endpoint.url, **subject.arguments})
        command = [sys.executable, str(WORKER), subject.task, arguments]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
        if status != 0:
            raise SystemExit(
                f"{subject.tool}: {subject.task} failed with {process.returncode} after {output!r}"
            )
        return Run(
            wall=wall,
            cpu=usage.ru_utime + usage.ru_stime,
            rss=usage.ru_maxrss * 1024,
            list_requests=endpoint.stats()["list"],
            said=json.loads(output),
        )

    def compare(
        self, endpoint: Endpoint, case: str, subjects: list[Subject]
    ) -> Iterator[dict[str, Any]]:
        """Let the subjects take turns, and yield a row of medians for each."""
        rounds = [min(self.runs, subject.runs or self.runs) for subject in subjects]
        measured: dict[str, list[dict[str, Any]]] = {subject.tool: [] for subject in subjects}
        for turn in range(max(rounds)):
            for subject, limit in zip(subjects, rounds, strict=True):
                if turn < limit:
                    measured[subject.tool].append(self.once(endpoint, case, subject))
        yield from map(median_row, measured.values())

    def once(self, endpoint: Endpoint, case: str, subject: Subject) -> dict[str, Any]:
        """Run one process and return its row."""
        run = self.measure(endpoint, subject)
        progress(f"{case}, {subject.tool}: {run.wall:.2f} s, {run.cpu:.2f} CPU s")
        return run.row(case, subject.tool)


def median_row(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of each figure of runs of one kind; the text is that of the first."""
    found = dict(rows[0])
    for name, value in rows[0].items():
        if isinstance(value, int | float):
            found[name] = statistics.median(row[name] for row in rows)
    return found | {"runs": len(rows)}


def folder_bytes(folder: Path) -> Counter[str]:
    """Return the bytes of the files below `folder`, by its immediate subfolders."""
    sizes: Counter[str] = Counter()
    for file in folder.rglob("*"):
        if file.is_file():
            sizes[file.relative_to(folder).parts[0]] += file.stat().st_size
    return sizes


def progress(text: str) -> None:
    """Say on stderr how far things are; the tables go to stdout."""
    print(f"  {text}", file=sys.stderr, flush=True)
