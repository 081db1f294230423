"""Memory of the other ways in and out: Kerchunk Parquet, keys from a listing, native copies; coverage beside them.

Ten million references each, so that what grows with their number would show. Chunks are copied one by one, so
there are fewer of those: some of a repository with as many references.
"""

from __future__ import annotations

from math import prod

from harness import Bench, Endpoint, Subject, dense
from sections import MIB, Check, Section, workspace

PROMISED = 150 + 192 * MIB / 1e6
"""MB of peak memory: what a process takes anyway, and the default of ``--memory``."""


def formats(bench: Bench, _: bool) -> Section:
    """Peak memory of each, against what is promised for any number of references."""
    columns = ["references", "wall", "cpu", "rss", "list_requests"]
    section = Section("formats", "Other ways in and out: peak memory of ten million", columns)
    grid = [bench.steps(10_000), 10, 100]
    copied = max(1, grid[0] // 40)
    with Endpoint([dense(grid)]) as endpoint, workspace() as fresh:
        case, rows = f"{prod(grid):,} references", section.rows
        parquet = {"target": str(fresh().with_suffix(".parq"))}
        rows.append(
            bench.once(endpoint, case, Subject("kerchunk-parquet", "refreeze_kerchunk", parquet))
        )

        listing = str(fresh().with_suffix(".parquet"))
        bench.measure(endpoint, Subject("", "make_listing", {"output": listing}))
        target = str(fresh())
        given = {"target": target, "options": {"listing": listing}}
        rows.append(
            bench.once(endpoint, case, Subject("ingest --listing", "refreeze_ingest", given))
        )

        rows.append(
            bench.once(endpoint, case, Subject("coverage", "refreeze_coverage", {"target": target}))
        )
        some = {"target": target, "stop": copied}
        case = f"{copied * prod(grid[1:]):,} of {prod(grid):,} chunks, of 2 kB"
        rows.append(bench.once(endpoint, case, Subject("copy", "refreeze_copy", some)))
    expected = [prod(grid)] * 3 + [copied * prod(grid[1:])]
    if [row["references"] for row in rows] != expected:
        raise SystemExit("references are missing")
    section.checks = [
        Check(f"{row['tool']}: peak MB", row["rss"] / 1e6, PROMISED, at_least=False) for row in rows
    ]
    # Whoever asks for no page of the listing to be compared sends none.
    requests = rows[1]["list_requests"]
    section.checks.append(Check("ingest --listing: LIST requests", requests, 0, at_least=False))
    section.notes = [
        (
            "The listing is a Parquet table of all keys in random order. Targets are on local disk; "
            "copies are read from the endpoint and written as files."
        )
    ]
    return section
