"""The documents of a distributed ingest, held against what they were: workers of another day read them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import zarr

import refreeze
from refreeze.verbs.batch_queue import begin
from refreeze.work import WorkPlan, carry_out

GOLDEN = Path(__file__).parents[1] / "golden"
IDENTIFIERS = re.compile(r'"[0-9A-Za-z]{20}"')
"""Of runs, snapshots, nodes and manifests: new ones each time."""


@pytest.fixture
def plan(tmp_path: Path) -> WorkPlan:
    """Return the plan of an ingest with an array and a copied coordinate, in units of four references."""
    root = zarr.open_group(tmp_path / "source.zarr", mode="w")
    dims = ["time", "x"]
    air = root.create_array(
        "air", shape=(4, 4), chunks=(1, 2), dtype="i4", dimension_names=dims, compressors=None
    )
    air[:] = np.arange(1, 17).reshape(4, 4)
    x = root.create_array("x", shape=(4,), chunks=(4,), dtype="i4", dimension_names=["x"])
    x[:] = np.arange(4)
    file = tmp_path / "run.json"
    begin(
        [str(tmp_path / "source.zarr")],
        str(tmp_path / "target"),
        output=file,
        max_refs_per_commit=4,
        refs_per_manifest=4,
    )
    return WorkPlan.read(file)


def form(value: object) -> object:
    """Return the names of a document's members, with the types of what they hold."""
    if isinstance(value, dict):
        return {name: form(member) for name, member in sorted(value.items())}
    if isinstance(value, list):
        return [form(member) for member in value[:1]]
    return type(value).__name__


def test_the_plan(plan: WorkPlan, tmp_path: Path) -> None:
    """A job array that waits for days is carried out by what is installed then."""
    text = (tmp_path / "run.json").read_text(encoding="utf-8")
    text = IDENTIFIERS.sub('"ID"', text.replace(str(tmp_path), "FOLDER"))
    text = text.replace(f'"{refreeze.__version__}"', '"VERSION"')
    assert json.loads(text) == json.loads((GOLDEN / "work-plan.json").read_text(encoding="utf-8"))


def test_a_result(plan: WorkPlan) -> None:
    """The coordinator of another day reads what workers have left in the target."""
    written = json.loads(carry_out(plan, plan.units[0]))
    assert form(written) == json.loads((GOLDEN / "work-result.json").read_text(encoding="utf-8"))
    assert written["format"] == 1
