"""Copies and ingests by a listing that are killed: the same command ends as if nothing had happened."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from obstore.store import LocalStore

import refreeze
from inventories import plain_table, rows_of
from scenarios import command

CHUNKS = 240


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return an array of small chunks, which take a while to copy in small commits."""
    path = tmp_path / "s.zarr"
    group = zarr.create_group(path)
    group.create_array("a", shape=(CHUNKS, 100), chunks=(1, 100), dtype="f8", compressors=None)[
        :
    ] = np.arange(CHUNKS * 100).reshape(CHUNKS, 100)
    return path


def killed(done: Any, *arguments: object, **env: str) -> int:
    """Run a command and kill it as soon as ``done`` is; return its exit code."""
    with subprocess.Popen(
        command(*arguments),
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        while process.poll() is None:
            with contextlib.suppress(Exception):
                if done():
                    process.kill()
                    break
            time.sleep(0.01)
        process.communicate()
        return process.returncode


@pytest.mark.parametrize("commits", [1, 3])
def test_a_killed_copy_goes_on_where_it_was(source: Path, tmp_path: Path, commits: int) -> None:
    """Readers see nothing of it before; what was committed is not copied again."""
    target = tmp_path / "t"
    refreeze.ingest(source, target)

    def committed() -> bool:
        repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
        (branch,) = repository.list_branches() - {"main"}
        own = list(repository.ancestry(branch=branch))
        # The ingest's commits, the first of the run, and those of chunks.
        return len(own) > 3 + commits

    code = killed(committed, "copy", target, "--max-refs-per-commit", 5)
    (before,) = refreeze.coverage(target).arrays
    if code != 0:
        assert (before.native, before.virtual) == (0, CHUNKS)
    report = refreeze.copy(target)
    (after,) = refreeze.coverage(target).arrays
    assert (after.native, after.virtual) == (CHUNKS, 0)
    if code != 0:
        assert report.resumed
        assert report.chunks_copied <= CHUNKS - 5 * commits
    shutil.rmtree(source)
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    found = zarr.open_array(repository.readonly_session("main").store, path="a", mode="r")
    np.testing.assert_array_equal(np.asarray(found[...]).ravel(), np.arange(CHUNKS * 100))


def test_a_killed_ingest_by_a_listing_leaves_no_files(source: Path, tmp_path: Path) -> None:
    """The sorted listing has no name on disk; the next run resumes and equals a listing."""
    rows = rows_of(LocalStore(source))
    listing = tmp_path / "keys.parquet"
    others = [{**rows[0], "key": f"other/{number}"} for number in range(200_000)]
    # None of them is below an array of the store.
    pq.write_table(plain_table([*others, *rows]), listing)
    folder = tmp_path / "tmp"
    folder.mkdir()
    target = tmp_path / "t"
    arguments = ("ingest", source, target, "--listing", listing, "--max-refs-per-commit", 20)
    for wait in (0.3, 0.8):
        began = time.monotonic()
        killed(lambda: time.monotonic() - began > wait, *arguments, TMPDIR=str(folder))  # noqa: B023 (called at once)
        assert list(folder.iterdir()) == []
    report = refreeze.ingest(source, target, listing=listing, max_refs_per_commit=20)
    assert report.published
    assert refreeze.verify(source, target).equal
