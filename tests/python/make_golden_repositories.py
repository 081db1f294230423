"""Writes `repositories.tar.xz`: sources, and repositories as refreeze left them in every state.

    cd "$(mktemp -d)" && python …/tests/python/make_golden_repositories.py

The archive in `tests/golden/` was written by refreeze 0.1.0, before it recorded its plans in a form of
their own. `tests/python/test_older_repositories.py` resumes, repeats and publishes what is in it.
Do not write it anew: another archive, of a later version, goes beside it.

Sources are named by `/proc/self/cwd`, so that the URLs in the repositories hold wherever the
archive is unpacked, as long as that is the working directory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import zarr

HERE = "/proc/self/cwd"
MODIFIED = 1_700_000_000
"""The time of every object: references carry it, and archives keep whole seconds."""


def array(group: zarr.Group, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], **how):
    """Write an array of consecutive numbers."""
    dims = ("time", "x")[: len(shape)]
    if group.metadata.zarr_format == 3:
        how["dimension_names"] = dims
    made = group.create_array(name, shape=shape, chunks=chunks, dtype="<i2", **how)
    if group.metadata.zarr_format == 2:
        made.attrs["_ARRAY_DIMENSIONS"] = list(dims)
    made[...] = np.arange(1, 1 + int(np.prod(shape)), dtype="i2").reshape(shape)
    return made


def store(name: str, zarr_format: int, steps: int = 12) -> None:
    """Write a store with every form of chunk keys, a group and a copied coordinate."""
    root = zarr.create_group(name, zarr_format=zarr_format, attributes={"title": "golden"})
    for separator, title in (("/", "slash"), (".", "dot")):
        keys = {"name": "v2" if zarr_format == 2 else "default", "separator": separator}
        array(root, title, (steps, 4), (1, 2), chunk_key_encoding=keys)
    array(root, "time", (steps,), (steps,))
    if zarr_format == 3:
        old = {"name": "v2", "separator": "."}
        array(root.create_group("inner"), 'it\'s "é"', (steps,), (2,), chunk_key_encoding=old)
        array(root, "sharded", (steps, 4), (2, 2), shards=(4, 4))
    settle()


def grow(name: str, steps: int) -> None:
    """Append steps to a store."""
    root = zarr.open_group(name, mode="r+")
    for title in ("slash", "dot", "time"):
        old = root[title]
        old.append(np.full((steps, *old.shape[1:]), 7, dtype="<i2"))
    settle()


def settle() -> None:
    """Give every object its time."""
    for path in Path().rglob("*.zarr/**/*"):
        if path.is_file():
            os.utime(path, (MODIFIED, MODIFIED))


def refreeze(*arguments: str) -> None:
    """Run a command."""
    subprocess.run([sys.executable, "-m", "refreeze", *arguments, "--quiet"], check=True)


def killed(source: str, target: str, **options: object) -> None:
    """Ingest until two commits are made, and die."""
    code = (
        "import os, refreeze\n"
        "def stop(progress):\n"
        "    if progress['commits'] >= 2: os._exit(7)\n"
        f"refreeze.ingest({source!r}, {target!r}, progress=stop, **{options!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 7, done


def main() -> None:
    """Write sources and repositories here, and the archive of them."""
    store("three.zarr", 3)
    store("two.zarr", 2)
    store("grown.zarr", 2, 8)
    store("more.zarr", 2)
    three, two, grown, more = (f"{HERE}/{name}.zarr" for name in ("three", "two", "grown", "more"))
    few = ("--max-refs-per-commit", "8")
    killed(three, "unfinished", max_refs_per_commit=8)
    refreeze("ingest", three, "staged", "--no-publish", *few)
    refreeze("ingest", three, "published", *few)
    refreeze("ingest", two, "published-two", "--locations", "absolute", "--empty-chunks", "skip")
    refreeze("ingest", two, "region", "--region", "time=4:8", "--target-group", "part", *few)
    refreeze("ingest", two, more, "joined", "--concat-dim", "time", "--no-publish", *few)
    refreeze("ingest", two, "replacing")
    killed(three, "replacing", mode="overwrite", max_refs_per_commit=8)
    refreeze("ingest", grown, "appended")
    refreeze("ingest", grown, "appending")
    grow("grown.zarr", 4)
    refreeze("ingest", grown, "appended", "--mode", "append", "--append-dim", "time")
    killed(grown, "appending", mode="append", append_dim="time", max_refs_per_commit=3)
    with tarfile.open("repositories.tar.xz", "w:xz") as archive:
        for path in sorted(Path().iterdir()):
            if path.is_dir():
                # Icechunk's backups of a repository's info are not needed.
                archive.add(path, filter=lambda one: None if "overwritten" in one.name else one)


if __name__ == "__main__":
    main()
