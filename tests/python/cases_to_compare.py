"""The ingests that `compare_builds.py` runs with two builds: every layout of keys, every mode, resumed and staged runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

import modes_for_tests as modes
from scenarios import write_series, write_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Step = dict[str, Any]
"""A call: `verb` and `source`, `stop`, options; or `change`, a function that changes the sources first."""


def cases(folder: Path) -> Iterator[tuple[str, list[Step]]]:
    """Write sources below a folder; return the name and the steps of every case."""
    few = {"max_refs_per_commit": 8}
    layouts = {
        "v2-dot": (2, {"name": "v2", "separator": "."}),
        "v2-slash": (2, {"name": "v2", "separator": "/"}),
        "v3-slash": (3, {"name": "default", "separator": "/"}),
        "v3-dot": (3, {"name": "default", "separator": "."}),
        "v3-v2-dot": (3, {"name": "v2", "separator": "."}),
        "v3-v2-slash": (3, {"name": "v2", "separator": "/"}),
    }
    for name, (zarr_format, keys) in layouts.items():
        source = write_shapes(folder / f"{name}.zarr", zarr_format, keys)
        yield name, [{"source": source}, {"source": source}]
        yield f"{name} in small commits", [{"source": source, **few, "refs_per_manifest": 4}]
        yield f"{name} region", [{"source": source, "arrays": ["ragged"], "region": {"a": (3, 6)}}]
    series = write_series(folder / "series.zarr")
    for options in (
        {},
        few,
        {"locations": "absolute"},
        {"loadable_variables": []},
        {"target_group": "a/b"},
    ):
        yield f"series {options}", [{"source": series, **options}]
    yield "resumed", [{"source": series, "stop": 3, **few}, {"source": series, **few}]
    yield "staged", [{"source": series, "no_publish": True, **few}, {"verb": "publish"}]
    yield (
        "expected in vain",
        [{"source": series, "expect_complete": True, **few}, {"source": series, **few}],
    )
    three, two = (
        write_store(folder / f"air{version}.zarr", zarr_format=version) for version in (3, 2)
    )
    yield "overwritten", [{"source": three}, {"source": two, "mode": "overwrite"}, {"source": two}]
    yield "one array", [{"source": three / "air"}]
    yield "group", [{"source": three, "group": "nested"}]
    for version in (2, 3):
        grown = modes.settled(modes.write(folder / f"days{version}.zarr", 0, 12, version=version))
        append = {"source": grown, "mode": "append", "append_dim": "time"}

        def grow(first: int, last: int, grown: Path = grown) -> Any:
            return {"change": lambda: modes.grow(grown, 0, first, last)}

        yield (
            f"grown {version}",
            [
                {"source": grown},
                grow(12, 18),
                append,
                append,
                grow(18, 30),
                {**append, **few},
                append,
            ],
        )
        changed = modes.settled(
            modes.write(folder / f"changed{version}.zarr", 0, 24, version=version)
        )
        update = {"source": changed, "mode": "update", "region": {"time": (12, 24)}}

        def rewrite(value: float, changed: Path = changed) -> Any:
            return {"change": lambda: modes.rewrite(changed, "air", slice(12, 18), value)}

        yield (
            f"updated {version}",
            [{"source": changed, **few}, rewrite(5.0), update, update, rewrite(np.nan), update],
        )
    parts = [modes.write(folder / f"part{at}.zarr", 12 * at, 12 * at + 12) for at in range(3)]
    yield "joined", [{"source": parts, "concat_dim": "time"}]
    yield "joined in small commits", [{"source": parts, "concat_dim": "time", **few}]
    yield (
        "joined later",
        [
            {"source": parts[:2], "concat_dim": "time"},
            {"source": parts[2], "mode": "append", "concat_dim": "time"},
        ],
    )


def write_shapes(folder: Path, zarr_format: Any, keys: Any) -> Path:
    """Write ragged, sparse, long, scalar, absent, sharded and empty arrays with one layout of keys."""
    root = zarr.open_group(zarr.storage.LocalStore(folder), mode="w", zarr_format=zarr_format)
    root.attrs["title"] = "all shapes"

    def create(
        name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dims: str, **options: Any
    ) -> Any:
        names = (
            {"attributes": {"_ARRAY_DIMENSIONS": list(dims)}}
            if zarr_format == 2
            else {"dimension_names": list(dims)}
        )
        layout = {"dtype": "i4", "chunk_key_encoding": keys, **names, **options}
        return root.create_array(name, shape=shape, chunks=chunks, **layout)

    create("ragged", (7, 5, 4), (3, 2, 4), "abc", fill_value=-1)[...] = np.arange(140).reshape(
        7, 5, 4
    )
    create("sparse", (30, 5), (1, 2), "db", fill_value=7)[3:25:4, 1:3] = 5
    create("long", (103,), (1,), "n")[1:] = np.arange(1, 103)
    create("n", (103,), (50,), "n")[...] = np.arange(103)
    create("scalar", (), (), "")[...] = 42
    create("absent", (20, 4), (3, 3), "ec", fill_value=9)
    create("empty", (0, 4), (2, 3), "zc")
    if zarr_format == 3:
        create("sharded", (25, 9), (5, 2), "yx", shards=(10, 4))[:20] = 3
    (folder / "long" / "README").write_text("not a chunk")
    return modes.settled(folder)
