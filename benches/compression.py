"""What zstd's level does to manifests and logs: whole ingests into repositories that name one.

refreeze takes 1 where a repository's configuration names none, Icechunk itself 3.
"""

from __future__ import annotations

from math import prod

import icechunk

from harness import Bench, Endpoint, Subject, dense, folder_bytes, median_row
from sections import GRID, Section, workspace

LEVELS = (None, 1, 2, 3, 5)
"""None: the repository names none."""


def compression(bench: Bench, _: bool) -> Section:
    """CPU time and bytes of a million references, by level."""
    columns = ["cpu", "manifest_bytes", "repo_bytes"]
    section = Section("compression", "Level of compression of a repository's files", columns)
    grid = [bench.steps(GRID[0]), *GRID[1:]]
    case = f"{prod(grid):,} references"
    with Endpoint([dense(grid)]) as endpoint, workspace() as fresh:
        turns = []
        for _turn in range(bench.runs):
            rows = []
            for level in LEVELS:
                target = fresh()
                config = icechunk.RepositoryConfig.default()
                if level is not None:
                    config.compression = icechunk.CompressionConfig(level=level)
                storage = icechunk.local_filesystem_storage(str(target))
                icechunk.Repository.create(storage, config).save_config()
                tool = "no level configured" if level is None else f"level {level}"
                arguments = {"target": str(target), "options": {}}
                row = bench.once(endpoint, case, Subject(tool, "refreeze_ingest", arguments))
                rows.append(row | {"repo_bytes": folder_bytes(target).total()})
            turns.append(rows)
    section.rows = [median_row(list(rows)) for rows in zip(*turns, strict=True)]
    for key, what in (("repo_bytes", "bytes"), ("cpu", "CPU")):
        section.ratio(
            f"{what}, level 3 over none configured",
            case,
            "level 3",
            1.0,
            key,
            tool="no level configured",
        )
    return section
