"""Two builds of refreeze take turns: what a change costs or brings.

    python benches/side_by_side.py BEFORE [--package AFTER] [--runs 5] [--scale 0.1]

BEFORE and AFTER are folders that hold the package ``refreeze`` with an optimised extension, as
``make bench-build`` leaves one in ``target/bench`` (the default of AFTER). Prints a table of medians and
exits with 1 if AFTER takes more than a twentieth longer, CPU seconds counted: they change less with what
else the machine does. The work of the other tools of ``make bench`` is the same for both.
"""

from __future__ import annotations

import os
import sys
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

from harness import Bench, Endpoint, Subject, dense, parser_of
from sections import workspace

MOST = 1.05
ROW = "| {case} | {wall[0]:.2f} | {wall[1]:.2f} | {cpu[0]:.2f} | {cpu[1]:.2f} | {ratio:.2f} | {mb[0]:.0f} | {mb[1]:.0f} |"


def main() -> int:
    """Run, and print a row for each case."""
    parser = parser_of(__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    Endpoint.binary = options.endpoint
    packages = {"before": options.before.absolute(), "after": options.package.absolute()}
    bench = Bench(options.package, options.runs, options.scale)
    rows = []
    for steps, latency, task in (
        (1_000, 0, "refreeze_list"),
        (1_000, 50, "refreeze_list"),
        (1_000, 0, "refreeze_parse"),
        (1_000, 0, "refreeze_ingest"),
        (1_000, 50, "refreeze_ingest"),
        (10_000, 0, "refreeze_ingest"),
    ):
        grid = [bench.steps(steps), 10, 100]
        case = f"{task.removeprefix('refreeze_')} {prod(grid):,} chunks, {latency} ms a page"
        with Endpoint([dense(grid)], latency) as endpoint, workspace() as fresh:
            taken: dict[str, list[dict[str, Any]]] = {name: [] for name in packages}
            for _ in range(options.runs):
                for name, package in packages.items():
                    arguments: dict[str, Any] = {}
                    if task == "refreeze_list":
                        arguments = {"array": "store.zarr/t2m"}
                    elif task == "refreeze_ingest":
                        arguments = {"target": str(fresh()), "options": {}}
                    subject = Subject(name, task, arguments, {"PYTHONPATH": str(package)})
                    taken[name].append(bench.once(endpoint, case, subject))
        rows.append(_row(case, taken))
    print(
        "| case | wall s before | after | CPU s before | after | ratio | peak MB before | after |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    print(*(ROW.format(**row) for row in rows), sep="\n")
    return 1 if options.scale == 1 and any(row["ratio"] > MOST for row in rows) else 0


def _row(case: str, taken: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    def both(figure: str, unit: float = 1) -> list[float]:
        return [median(row[figure] for row in taken[name]) / unit for name in ("before", "after")]

    cpu = both("cpu")
    return {
        "case": case,
        "wall": both("wall"),
        "cpu": cpu,
        "mb": both("rss", 1e6),
        "ratio": cpu[1] / cpu[0],
    }


if __name__ == "__main__":
    os.environ["ICECHUNK_LOG"] = "error"  # it warns of every repository on local disk
    sys.exit(main())
