"""What writing says: reports of dry runs, progress, and the log. Dry runs write nothing at all."""

import logging

import icechunk
import numpy as np
import pytest
import xarray as xr

import refreeze
from archives_for_tests import day, opened
from refreeze.exceptions import (
    AlreadyExistsError,
    ConflictError,
    MismatchError,
    RegionError,
    TargetNotFoundError,
)

da = pytest.importorskip("dask.array")


def files(path):
    return {file: file.stat().st_mtime_ns for file in path.rglob("*")}


@pytest.mark.parametrize("chunks", [None, {"time": 10}])
def test_a_dry_run_of_write_says_what_the_write_does(tmp_path, chunks):
    """Same layout and arrays, for every mode, on a target that is there and on one that is not."""
    target, data = tmp_path / "r", day(0) if chunks is None else day(0).chunk(chunks)
    later = day(1) if chunks is None else day(1).chunk(chunks)
    jobs = [
        (data, {"encoding": {"t": {"chunks": (10, 3, 4)}}}),
        (later, {"mode": "append", "append_dim": "time"}),
        (later * 2, {"mode": "append", "append_dim": "time", "if_present": "overwrite"}),
        (later * 3, {"mode": "update", "region": {"time": slice(24, 48)}}),
        (data, {"mode": "overwrite"}),
        (data.t, {"mode": "create", "name": "group/other"}),
        (xr.DataTree.from_dict({"/a": data, "/b/c": data}), {"name": "tree"}),
    ]
    for number, (what, options) in enumerate(jobs):
        before = files(target)
        dry = refreeze.write(what, target, dry_run=True, **options)
        assert files(target) == before
        assert (dry.dry_run, dry.commits, dry.snapshot_id) == (True, 0, None)
        assert target.exists() == (number > 0)
        done = refreeze.write(what, target, **options)
        assert (done.dry_run, done.commits) == (False, 1)
        assert dry.arrays == done.arrays
        if "if_present" not in options:
            assert dry.layout == done.layout
        if number:
            assert dry.replaced_snapshot_id == done.replaced_snapshot_id


@pytest.mark.parametrize(
    "data", [np.arange(30.0), da.arange(30.0, chunks=7)], ids=["numpy", "dask"]
)
def test_a_dry_run_of_arrays(tmp_path, data):
    target = tmp_path / "r"
    jobs = [
        (data, {"encoding": {"chunks": (6,)}}),
        (data, {"mode": "append"}),
        (data, {"mode": "update", "indices": slice(3, 33)}),
        (data, {"mode": "overwrite"}),
    ]
    for what, options in jobs:
        before = files(target)
        dry = refreeze.write(what, target, name="n", dry_run=True, **options)
        assert files(target) == before
        assert dry.layout == refreeze.write(what, target, name="n", **options).layout
    assert dry.layout[0]["shape"] == [30]


def test_a_dry_run_refuses_what_the_write_refuses(tmp_path):
    """The same errors, conflicts with what the data was read from included."""
    target = tmp_path / "r"
    with pytest.raises(TargetNotFoundError):
        refreeze.write([1], target, mode="append", dry_run=True)
    refreeze.write(day(0), target)
    stale = opened(target)
    options = {"mode": "append", "append_dim": "time"}
    for error, data, given in (
        (AlreadyExistsError, day(0), {}),
        (MismatchError, day(0), options),
        (MismatchError, day(1).drop_vars("t"), options),
        (RegionError, day(1), {"mode": "update", "region": "auto"}),
        (TargetNotFoundError, [1], {"mode": "update", "indices": 0}),
        (ValueError, [1], {"mode": "update"}),
        (ValueError, [1], {"encoding": {"no_such": 1}}),
    ):
        before = files(target)
        with pytest.raises(error):
            refreeze.write(data, target, dry_run=True, **given)
        assert files(target) == before
    refreeze.write(day(0) + 1, target, mode="overwrite")
    with pytest.raises(ConflictError):
        refreeze.write(stale, target, mode="overwrite", dry_run=True)


def test_a_dry_run_of_a_saver(tmp_path):
    target = tmp_path / "r"
    for approach, data, options in (
        ("append", np.ones((4, 3)), {"chunks": (2, 3)}),
        ("append", np.ones((4, 3)), {}),
        ("update", 5, {"indices": 0}),
        ("overwrite", np.ones(7), {}),
    ):
        saver, before = refreeze.ZarrSaver(target, approach=approach), files(target)
        dry = saver.save(data, dry_run=True, **options)
        assert files(target) == before
        assert (dry.dry_run, dry.commits, dry.snapshot_id) == (True, 0, None)
        assert dry.layout == saver.save(data, **options).layout
    with pytest.raises(IndexError):
        refreeze.ZarrSaver(target, approach="update").save(5, indices=9, dry_run=True)
    with pytest.raises(ValueError, match="cannot hold"):
        refreeze.ZarrSaver(target).save(["text"], dry_run=True)


def test_branch_and_message_of_a_saver(tmp_path):
    """A saver of another branch leaves main as it is."""
    refreeze.ZarrSaver(tmp_path / "r").save([1])
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(tmp_path / "r")))
    repo.create_branch("side", repo.lookup_branch("main"))
    side = refreeze.ZarrSaver(tmp_path / "r", branch="side", message="mine")
    assert side.save([2]).branch == "side"
    assert next(iter(repo.ancestry(branch="side"))).message == "mine"
    assert side.open()["dataset"][:].tolist() == [1, 2]
    assert refreeze.ZarrSaver(tmp_path / "r").open()["dataset"][:].tolist() == [1]


def test_progress_and_log(tmp_path, caplog):
    """Bytes only grow, all arrays are counted, the last event says that it is done."""
    caplog.set_level(logging.INFO, "refreeze")
    for number, work in enumerate(
        (
            lambda **o: refreeze.write(day(0), tmp_path / "w", **o),
            lambda **o: refreeze.write(np.ones(50), tmp_path / "a", encoding={"chunks": 9}, **o),
            lambda **o: refreeze.ZarrSaver(tmp_path / "s").save([1, 2], **o),
            lambda **o: refreeze.create_template(day(0), tmp_path / "t", **o),
            lambda **o: refreeze.write_region(day(0), tmp_path / "t", **o),
        )
    ):
        events = []
        caplog.clear()
        report = work(progress=events.append)
        stages = [event["stage"] for event in events]
        assert stages[-2:] == ["commit", "done"]
        assert set(stages) <= {"read", "write", "commit", "done"}
        kind = "arrays" if number < 3 else "files"
        assert events[-1][f"{kind}_done"] == events[-1][f"{kind}_total"] > 0
        sizes = [event["bytes"] for event in events]
        assert sizes == sorted(sizes)
        assert report.snapshot_id in caplog.text
