"""Saver and write against numpy: any sequence of appends, overwrites, updates, foreign commits, kills."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import icechunk
import numpy as np
import pytest
import zarr
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import refreeze
from refreeze.exceptions import ConflictError

pytest.importorskip("dask")

import dask.array as da

WIDTH = 3


KILLED = """
import sys, numpy as np, refreeze, refreeze.writer.saver, refreeze.writer.write_arrays
path, by, mode, new, index = sys.argv[1:]
data, indices = np.load(new), int(index) if mode == "update" else None
print("ready", flush=True)
if by == "saver":
    refreeze.ZarrSaver(path, "a", mode).save(data, indices=indices)
else:
    refreeze.write(data, path, name="a", mode=mode, indices=indices)
"""


class Writing(RuleBasedStateMachine):
    """One array of a repository, and what numpy says that it holds."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="refreeze-states-"))
        self.path = self.folder / "r"
        self.count = 0
        self.kills = 0

    def rows(self, length):
        self.count += 1
        return np.arange(length * WIDTH).reshape(length, WIDTH) + 1000 * self.count

    def array(self):
        storage = icechunk.local_filesystem_storage(str(self.path))
        store = icechunk.Repository.open(storage).readonly_session("main").store
        return zarr.open_array(store, path="a", mode="r")

    def saver(self, approach):
        return refreeze.ZarrSaver(self.path, "a", approach)

    @initialize(length=st.integers(1, 7))
    def create(self, length):
        self.model = self.rows(length)
        self.saver("append").save(self.model, chunks=(4, 2))

    @rule(length=st.integers(0, 6), by=st.sampled_from(["saver", "write", "dask"]))
    def append(self, length, by):
        new = self.rows(length)
        if by == "saver":
            self.saver("append").save(new)
        else:
            data = new if by == "write" or not length else da.from_array(new, chunks=(2, 3))
            refreeze.write(data, self.path, name="a", mode="append")
        self.model = np.concatenate([self.model, new])

    @rule(length=st.integers(1, 9), by=st.sampled_from(["saver", "write"]))
    def overwrite(self, length, by):
        self.model = self.rows(length)
        if by == "saver":
            self.saver("overwrite").save(self.model, chunks=(3, 3))
        else:
            encoding = {"chunks": (4, 2)}
            refreeze.write(self.model, self.path, name="a", mode="overwrite", encoding=encoding)

    @precondition(lambda self: len(self.model))
    @rule(data=st.data(), by=st.sampled_from(["saver", "write"]))
    def update(self, data, by):
        size = len(self.model)
        indices = data.draw(
            st.one_of(
                st.integers(-size, size - 1),
                st.slices(size),
                st.lists(st.integers(0, size - 1), min_size=1, max_size=4, unique=True),
                st.lists(st.booleans(), min_size=size, max_size=size).map(np.array),
            )
        )
        new = self.model.copy()
        values = self.rows(1)[0]
        new[indices] = values
        if by == "saver":
            self.saver("update").save(values, indices=indices)
        else:
            refreeze.write(values, self.path, name="a", mode="update", indices=indices)
        self.model = new

    @rule(foreign=st.booleans())
    def overwrite_by_itself(self, foreign):
        """Lazy data of the target plus one; a foreign commit in between makes it a conflict."""
        lazy = da.from_zarr(self.array()) + 1
        if foreign:
            refreeze.write(self.rows(2), self.path, name="other", mode="overwrite")
            with pytest.raises(ConflictError):
                refreeze.write(lazy, self.path, name="a", mode="overwrite")
            return
        refreeze.write(lazy, self.path, name="a", mode="overwrite")
        self.model = self.model + 1

    @precondition(lambda self: len(self.model) and not self.kills)
    @rule(
        mode=st.sampled_from(["append", "overwrite", "update"]),
        by=st.sampled_from(["saver", "write"]),
        delay=st.floats(0, 0.15),
    )
    def killed(self, mode, by, delay):
        """Kill a process while it writes: the old state or the new one."""
        self.kills += 1
        new = self.rows(1)[0] if mode == "update" else self.rows(3)
        at = len(self.model) // 2
        np.save(self.folder / "new.npy", new)
        arguments = (self.path, by, mode, self.folder / "new.npy", at)
        child = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", KILLED, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert child.stdout.readline() == "ready\n"
        time.sleep(delay)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        found = self.array()[:]
        if mode == "update":
            changed = self.model.copy()
            changed[at] = new
        else:
            changed = new if mode == "overwrite" else np.concatenate([self.model, new])
        assert np.array_equal(found, self.model) or np.array_equal(found, changed)
        self.model = found

    @invariant()
    def holds_what_numpy_has(self):
        if hasattr(self, "model"):
            assert np.array_equal(self.array()[:], self.model)

    def teardown(self):
        shutil.rmtree(self.folder, ignore_errors=True)


Writing.TestCase.settings = settings(max_examples=8, stateful_step_count=12, deadline=None)
test_writing = Writing.TestCase
