"""SIGKILL at any instant while data is overwritten by itself plus one: old or new, never between."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

import refreeze
from archives_for_tests import opened, repository

pytest.importorskip("dask")

KILLS = int(os.environ.get("REFREEZE_KILLS", "3"))
"""Instants; many by hand, few in the suite."""

PLUS_ONE = """
import sys, icechunk, xarray as xr, refreeze
storage = icechunk.local_filesystem_storage(sys.argv[1])
while True:
    store = icechunk.Repository.open(storage).readonly_session("main").store
    lazy = xr.open_zarr(store, consolidated=False, chunks={})
    refreeze.write(lazy + 1, sys.argv[1], mode="overwrite")
    print("done", flush=True)
"""


def test_data_that_is_overwritten_by_itself(tmp_path):
    """One value everywhere after each kill, which only grows; and the next write works."""
    path = tmp_path / "r"
    data = xr.Dataset({"t": (("time", "x"), np.zeros((40, 20)))})
    refreeze.write(data, path, encoding={"t": {"chunks": (5, 5)}})
    last = 0.0
    for attempt in range(KILLS):
        child = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", PLUS_ONE, str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        child.stdout.readline()
        time.sleep(0.011 * attempt)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        values = np.unique(opened(path).t.values)
        assert len(values) == 1
        assert values[0] > last
        last = float(values[0])
    assert len(list(repository(path).ancestry(branch="main"))) == int(last) + 2
