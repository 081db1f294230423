"""What may be given as an executor, and what is refused with the line that does work."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import refreeze
from crews_for_tests import SMALL, references, store_of
from refreeze.distributed.choice import crew_of, places_of
from refreeze.distributed.lithops_crew import LithopsCrew
from refreeze.stores.web_store import Probing
from refreeze.work import Secrets

CORE = json.dumps({"run_id": "r", "refreeze": refreeze.__version__, "arrays": []})


def places(tmp_path: Path, **options: Any) -> Any:
    return places_of(
        [str(tmp_path / "s")],
        str(tmp_path / "t"),
        source_options=options,
        target_options=None,
        memory=64 << 20,
        concurrency=8,
        probing=Probing(),
    )


class FunctionExecutor:
    """As that of lithops: no submit, but call_async and wait."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    def call_async(self, function: Any, data: dict[str, Any]) -> Future[Any]:
        self.payloads.append(pickle.dumps(data))
        future: Future[Any] = Future()
        future.set_result(function(**data))
        return future

    def wait(self, futures: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        return futures, []


class _Result:
    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def result(self, *, throw_except: bool) -> Any:
        assert throw_except
        return self._future.result()


def test_a_function_executor_does_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has call_async and wait is lithops'; its results come as from any other."""
    import sys
    from types import ModuleType

    waiting = ModuleType("lithops.wait")
    waiting.ANY_COMPLETED = 1  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lithops", ModuleType("lithops"))
    monkeypatch.setitem(sys.modules, "lithops.wait", waiting)
    executor = FunctionExecutor()
    monkeypatch.setattr(
        executor, "wait", lambda futures, **_: ([_Result(future) for future in futures], [])
    )
    source, target = store_of(tmp_path), tmp_path / "t.icechunk"
    report = refreeze.ingest(str(source), str(target), executor=executor, **SMALL)
    whole = tmp_path / "whole.icechunk"
    refreeze.ingest(str(source), str(whole))
    assert report.published
    assert executor.payloads
    assert references(target) == references(whole)


def test_secrets_do_not_go_to_the_storage_of_lithops(tmp_path: Path) -> None:
    """Arguments of its functions are files in a bucket: secrets among them are refused."""
    crew = crew_of(FunctionExecutor(), None, None, 1)
    assert isinstance(crew, LithopsCrew)
    crew.places = places(tmp_path, secret_access_key="hushhush")
    with pytest.raises(ValueError, match="role or environment") as refused:
        crew.start(CORE)
    assert "hushhush" not in str(refused.value)


def test_one_engine_at_a_time(tmp_path: Path) -> None:
    """An executor and processes together are a mistake."""
    with pytest.raises(ValueError, match="one of executor, client and workers"):
        refreeze.ingest("a", str(tmp_path / "t"), executor=FunctionExecutor(), workers=2)
    for verb in (refreeze.sync, refreeze.verify):
        with pytest.raises(ValueError, match="at least 1"):
            verb(str(store_of(tmp_path)), str(tmp_path / "t"), workers=0)


def test_secrets_are_never_shown() -> None:
    """Whoever prints the arguments of a task sees that there are some, and no more."""
    secrets = Secrets({"secret_access_key": "hushhush"}, {"token": "hushhush"})
    for shown in (repr(secrets), str(secrets), f"{secrets}", repr([secrets])):
        assert "hushhush" not in shown
    assert pickle.loads(pickle.dumps(secrets)).source == secrets.source  # noqa: S301 our own


def test_verify_by_processes_finds_what_one_finds(tmp_path: Path) -> None:
    """The counts of units add up, and so do their examples; `output` is refused."""
    from concurrent.futures import ThreadPoolExecutor

    source, target = store_of(tmp_path), tmp_path / "t.icechunk"
    refreeze.ingest(str(source), str(target), **SMALL)
    (source / "air" / "c" / "3" / "1").unlink()
    (source / "sparse" / "c" / "8").write_bytes(b"x" * 9)
    alone = refreeze.verify(str(source), str(target))
    with ThreadPoolExecutor(2) as executor:
        together = refreeze.verify(str(source), str(target), executor=executor, sample=5)
        with pytest.raises(ValueError, match="one process"):
            refreeze.verify(str(source), str(target), executor=executor, output="a.csv")
    assert not alone.equal
    for name in (
        "checked",
        "kinds",
        "missing_in_target",
        "missing_in_source",
        "metadata_differences",
    ):
        assert getattr(together, name) == getattr(alone, name)
    assert together.sampled == 5
    with ThreadPoolExecutor(2) as executor:
        assert refreeze.sync(str(source), str(target), executor=executor).removed == 1
        assert refreeze.verify(str(source), str(target), executor=executor).equal


def test_units_of_a_comparison_cover_everything_once() -> None:
    """Whatever the shapes, each chunk is in one unit, and shares of the sample add up."""
    from refreeze.planning import verify_units
    from refreeze.planning.verify import ToCompare

    plan = ToCompare(compared=[((0, 1_000), (2, 900), (0, 3)), ((0, 1),), ((5, 9), (0, 10**7)), ()])
    for workers in (1, 3, 100):
        cut = verify_units.units(plan, workers, 1_000)
        assert sum(unit["sample"] for unit in cut) == 1_000
        for array, whole in enumerate(plan.compared):
            boxes = [box for unit in cut for number, box in unit["parts"] if number == array]
            volume = sum(verify_units._chunks(box) for box in boxes)
            assert volume == verify_units._chunks(whole)
            assert len(set(boxes)) == len(boxes)
