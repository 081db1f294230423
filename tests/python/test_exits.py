"""How processes end that have read through zarr and obstore: with their own exit code, and quietly.

Threads of obstore's runtime outlive the work. One that comes back to Python while the interpreter
is torn down aborts the process, in a few of a hundred. So this file counts for something when it
runs often: ``make test-exits`` runs 500 commands, a test run of everything a few.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
import zarr

from scenarios import command, upload

COMMANDS = int(os.environ.get("REFREEZE_EXITS", "8"))

LIBRARY = """
import sys
import refreeze
from refreeze.metadata.selection import Selection, read_metadata
from refreeze.metadata.values import read_box
from refreeze.stores.resolve import resolve_source
refreeze.plan(sys.argv[1])
source = resolve_source(sys.argv[1], {})
(air,) = read_metadata(source, Selection(arrays=("air",))).arrays
assert read_box(source, air, ((0, 8),)).tolist() == list(range(8))
"""
"""What planning a concatenation reads, in a process whose interpreter is torn down."""


@pytest.fixture(scope="module")
def stores(s3_server, tmp_path_factory):
    """Upload a version 2 store with texts, which zarr-python reads, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("exits")
    good, broken = folder / "good.zarr", folder / "broken.zarr"
    for place in (good, broken):
        root = zarr.open_group(place, mode="w", zarr_format=2)
        for name in ("air", "soil", "sea"):
            array = root.create_array(name, shape=(8,), chunks=(2,), dtype="i4")
            array[:] = np.arange(8)
            array.attrs["_ARRAY_DIMENSIONS"] = ["time"]
        time = root.create_array("time", shape=(8,), chunks=(4,), dtype="i8")
        time[:] = np.arange(8)
        time.attrs["_ARRAY_DIMENSIONS"] = ["time"]
        texts = root.create_array("texts", shape=(8,), chunks=(8,), dtype="str")
        texts[:] = np.array([f"day {day}" for day in range(8)])
    (broken / "air" / ".zarray").write_text('{"zarr_format": 2, "shape": [8')
    bucket = s3_server.new_bucket()
    return [upload(s3_server, bucket, place, place.name) for place in (good, broken)]


def test_exit_codes_are_kept(s3_server, stores, tmp_path):
    """Regression: exit -6 after all was done; 29 lines of a future's exception after a failed read."""
    good, broken = stores
    kinds = {
        "plan": (command("plan", good, "--json"), 0),
        "ingest": (command("ingest", good, None, "--quiet"), 0),
        "failure": (command("ingest", broken, None, "--quiet"), 1),
        "library": ([sys.executable, "-c", LIBRARY, good], 0),
    }
    ended = []
    for number in range(COMMANDS):
        kind = list(kinds)[number % len(kinds)]
        line, expected = kinds[kind]
        target = str(tmp_path / f"target{number}")
        done = subprocess.run(
            [target if word == "None" else word for word in line],
            env={**os.environ, **s3_server.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        lines = done.stderr.splitlines()
        quiet = (lines[:1] or [""])[0].startswith("error: ") if expected else not lines
        quiet &= len(lines) <= 3
        if done.returncode != expected or not quiet:
            ended.append((number, kind, done.returncode, done.stderr[-600:]))
    assert ended == []
