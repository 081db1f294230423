"""How near an ingest comes to the physical limit of a service that is far away or refuses requests.

The limit of a row is what no client could be quicker than with as many requests in flight: the time
that these wait for answers, or that manifests and logs take in zstd; or the rate above which the
service refuses.
"""

from __future__ import annotations

from math import prod
from typing import Any

from harness import Bench, Endpoint, Subject, dense, median_row
from limits import least_seconds
from sections import Check, Section, limit, workspace

_WALL = {50: 1.1, 200: 2.2}
"""Seconds that the ingest of a million chunks may take, by milliseconds a page."""


def _once(bench: Bench, endpoint: Endpoint, case: str, concurrency: str | int) -> dict[str, Any]:
    with workspace() as fresh:
        target = fresh()
        arguments = {"target": str(target), "options": {"concurrency": concurrency}}
        tool = f"--concurrency {concurrency}"
        row = bench.once(endpoint, case, Subject(tool, "refreeze_ingest", arguments))
        limit(row, least_seconds(endpoint, row["list_requests"], target))
    stats = endpoint.stats()
    row["most_in_flight"] = stats["max_in_flight"]
    row["refused"] = stats["struck"]
    return row


def in_flight(bench: Bench, _: bool) -> Section:
    """`--concurrency auto` against 64 in flight: far away, and where the service refuses."""
    columns = ["wall", "cpu", "rss", "list_requests", "most_in_flight", "refused"]
    title = "Requests in flight: `--concurrency auto` against 64"
    section = Section("in-flight", title, [*columns, "limit_s", "share"])
    walls: dict[tuple[int, int], float] = {}
    for steps in (1_000, 10_000):
        grid = [bench.steps(steps), 10, 100]
        for latency in (0, 50, 200):
            case = f"{prod(grid):,} chunks, {latency} ms a page"
            with Endpoint([dense(grid)], latency) as endpoint:
                # In turn; what takes half a minute is measured once, and what takes less than a second
                # more often, because a tenth of it is noise.
                rows: dict[str | int, list[dict[str, Any]]] = {"auto": [], 64: []}
                slow, quick = (steps, latency) == (10_000, 200), (steps, latency) == (1_000, 0)
                for turn in range(3 * bench.runs if quick else bench.runs):
                    for tool, measured in rows.items():
                        if turn == 0 or not (slow and tool != "auto"):
                            measured.append(_once(bench, endpoint, case, tool))
            auto, fixed = map(median_row, rows.values())
            walls[steps, latency] = auto["wall"]
            section.rows += [auto, fixed]
            if latency == 0:
                # Noise of a run is some hundredths.
                check = Check(f"{case}: wall, 64 over auto", fixed["wall"] / auto["wall"], 0.95)
                section.checks.append(check)
            elif steps == 1_000:  # noqa: PLR2004 (the million that the targets are for)
                wall = Check(f"{case}: seconds", auto["wall"], _WALL[latency], at_least=False)
                section.checks.append(wall)
    share = walls[10_000, 0] / walls[10_000, 200]
    section.checks.append(Check("ten times as many: rate at 200 ms over that at 0 ms", share, 0.7))
    for latency in (0, 50):
        _refusing(bench, section, latency)
    return section


def _refusing(bench: Bench, section: Section, latency: int) -> None:
    """Ask a service that answers 503 above so many requests a second."""
    rate, grid = 600.0, [bench.steps(10_000), 10, 100]
    case = f"{prod(grid):,} chunks, {latency} ms a page, 503 above {rate:.0f} a second"
    with Endpoint([dense(grid)], latency) as endpoint:
        endpoint.set(faults={"slow_down_above_rate": rate})
        row = _once(bench, endpoint, case, "auto")
    limit(row, prod(grid) / 1_000 / rate)
    section.rows.append(row)
    section.checks.append(Check(f"{case}: share of the rate", row["share"], 0.9))
    refused = row["refused"] / row["list_requests"]
    section.checks.append(Check(f"{case}: refused", refused, 0.03, at_least=False))
