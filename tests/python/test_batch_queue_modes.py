"""Every mode of an ingest through files: plan, work in any order and again, commit; the result is one process's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import zarr

import refreeze
from refreeze.exceptions import IncompleteError, MismatchError
from refreeze.verbs.batch_queue import begin, commit, work
from refreeze.work import carry_out
from scenarios import run as command
from test_batch_queue import SMALL, store_of

LIMITS = ["--max-refs-per-commit", "10", "--refs-per-manifest", "5"]
PARTS = 3


def year(folder: Path, name: str, first: int, steps: int = 20, value: int = 1) -> Path:
    """Write a store of some time steps."""
    path = folder / name
    root = zarr.open_group(path, mode="w")
    names = ["time", "x"]
    air = root.create_array(
        "air", shape=(steps, 4), chunks=(1, 2), dtype="i4", dimension_names=names
    )
    air[:] = np.arange(steps * 4).reshape(steps, 4) + value
    time = root.create_array(
        "time", shape=(steps,), chunks=(steps,), dtype="i4", dimension_names=["time"]
    )
    time[:] = np.arange(first, first + steps)
    return path


def grow(path: Path, steps: int) -> None:
    root = zarr.open_group(path, mode="a")
    air, time = root["air"], root["time"]
    before = air.shape[0]
    air.resize((before + steps, 4))
    air[before:] = 9
    time.resize((before + steps,))
    time[before:] = np.arange(before, before + steps)


class Case:
    """What is in the target before, and the command that changes it."""

    def __init__(
        self,
        before: Callable[[Path], list[Path]] | None,
        change: Callable[[Path], list[Path]],
        options: list[str],
    ) -> None:
        self.before, self.change, self.options = before, change, options


def first(folder: Path) -> list[Path]:
    return [year(folder, "a", 0)]


def grown(folder: Path) -> list[Path]:
    grow(folder / "a", 12)
    return [folder / "a"]


def other(folder: Path) -> list[Path]:
    return [year(folder, "b", 20, value=100)]


def two_more(folder: Path) -> list[Path]:
    return [year(folder, "b", 20, value=100), year(folder, "c", 40, value=200)]


def changed(folder: Path) -> list[Path]:
    for chunk in (folder / "a" / "air" / "c" / "7").iterdir():
        chunk.unlink()
    zarr.open_group(folder / "a", mode="a")["air"][3:5] = 77
    return [folder / "a"]


def merged(folder: Path) -> list[Path]:
    first(folder)
    other_name = year(folder, "d", 0)
    group = zarr.open_group(other_name, mode="a")
    wind = group.create_array(
        "wind", shape=(20, 4), chunks=(1, 4), dtype="i4", dimension_names=["time", "x"]
    )
    wind[:] = 5
    del group["air"]
    return [folder / "a", other_name]


CASES = {
    "create": Case(None, first, []),
    "several": Case(
        None, lambda folder: first(folder) + two_more(folder), ["--concat-dim", "time"]
    ),
    "merged": Case(None, merged, []),
    "region": Case(None, first, ["--region", "time=4:16"]),
    "append": Case(first, grown, ["--mode", "append", "--append-dim", "time"]),
    "concat-two": Case(first, two_more, ["--mode", "append", "--concat-dim", "time"]),
    "overwrite": Case(first, other, ["--mode", "overwrite"]),
    "update": Case(first, changed, ["--mode", "update", "--region", "time=0:20"]),
}


def contents(target: Path) -> dict[str, Any]:
    """Return the references of each array, with their size, and what native arrays hold."""
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    session = repo.readonly_session("main")
    root = zarr.open_group(session.store, mode="r")
    found: dict[str, Any] = {name: array.shape for name, array in root.arrays()}
    found["time"] = root["time"][:].tolist()
    found["references"] = sorted(session.all_virtual_chunk_locations())
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_mode_by_parts(tmp_path: Path, name: str) -> None:
    """Readers see nothing before the commit, which names what is missing; then what one process makes."""
    case = CASES[name]
    target, whole, run = tmp_path / "t", tmp_path / "whole", tmp_path / "run.json"
    if case.before is not None:
        sources = [str(path) for path in case.before(tmp_path)]
        for place in (target, whole):
            refreeze.ingest(sources, str(place), **SMALL)
    before = contents(target) if case.before is not None else None
    sources = [str(path) for path in case.change(tmp_path)]
    begun = command("plan", *sources, target, *case.options, *LIMITS, "--output", run, "--json")
    assert begun.code == 0, begun
    assert json.loads(begun.out)["units"] >= 2
    # Another time the same: the run goes on.
    again = command("plan", *sources, target, *case.options, *LIMITS, "--output", run, "--json")
    assert json.loads(again.out) == json.loads(begun.out)
    for part in (2, 0, 2):
        work(run, f"{part}/{PARTS}")
    missing = None
    if len(json.loads(run.read_text())["units"]) >= PARTS:
        with pytest.raises(IncompleteError) as missing:
            commit(run)
        assert "/air [" in str(missing.value) or "/wind [" in str(missing.value)
        assert "refreeze work" in str(missing.value)
    if before is not None:
        assert contents(target) == before
    for part in (1, 0):
        work(run, f"{part}/{PARTS}")
    report = commit(run)
    assert report.published
    direct = command("ingest", *sources, whole, *case.options, *LIMITS, "--json")
    assert direct.code == 0, direct
    assert contents(target) == contents(whole)
    for field in ("mode", "added", "changed", "removed", "references_written"):
        if missing is None or field == "mode":
            assert report.to_dict()[field] == json.loads(direct.out)[field], field
    assert work(run, "0/1")["over"]
    assert not list(target.glob("refreeze/*/*"))


def test_the_commands_refuse_the_plan_of_another_version(tmp_path: Path) -> None:
    """Both work and commit, by exit code and class, naming both versions."""
    run = tmp_path / "run.json"
    begin(str(store_of(tmp_path)), str(tmp_path / "t"), run, **SMALL)
    document = json.loads(run.read_text()) | {"refreeze": "9.8.7"}
    run.write_text(json.dumps(document))
    for words in (("work", run, "--part", "0/1"), ("commit", run)):
        refused = command(*words, "--json")
        assert refused.code == 1
        error = json.loads(refused.out)["error"]
        assert error["type"] == "MismatchError"
        assert "9.8.7" in error["message"]
        assert refreeze.__version__ in error["message"]


def test_a_damaged_unit_is_no_unit(tmp_path: Path) -> None:
    """Whatever is given as a unit of a plan, the error says what is wrong with it."""
    run = tmp_path / "run.json"
    plan, _ = begin(str(store_of(tmp_path)), str(tmp_path / "t"), run, **SMALL)
    assert plan is not None
    for unit in ("{", "{}", '{"parts": 3}', '{"parts": [[99, [[0, 1]]]]}'):
        with pytest.raises(MismatchError, match="unit"):
            carry_out(plan, unit)
