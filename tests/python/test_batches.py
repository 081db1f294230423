"""What is committed together, how much of it, and what that costs in requests."""

import itertools
import json
import logging
import os
import re
import shutil
import sys

import icechunk
import numpy as np
import pytest
import zarr

import refreeze
from endpoint import array
from refreeze.exceptions import IncompleteError
from scenarios import (
    SMALL_COMMITS,
    cli,
    group,
    kill_after,
    local_contents,
    local_repository,
    nodes,
    write_series,
    write_store,
)

SPARSE = {"kind": "scatter", "every": 500_000_000}
"""2,000 objects in a grid of 10¹² chunks."""


@pytest.fixture
def source(tmp_path):
    return write_series(tmp_path / "series.zarr")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "target.icechunk"


def steps(target):
    """Return the chunks that each commit has added, by array, oldest commit first."""
    repository = local_repository(target)
    history = list(reversed(list(repository.ancestry(branch="main"))))
    added = []
    for before, after in itertools.pairwise(history):
        diff = repository.diff(from_snapshot_id=before.id, to_snapshot_id=after.id)
        added.append({path: [tuple(c) for c in cs] for path, cs in diff.updated_chunks.items()})
    return added


def write_plate(place):
    """Write an OME-Zarr 0.4 plate: 8 rows of 12 wells with 3 fields of 5 levels, each of 4 chunks."""
    document = {
        "zarr_format": 2,
        "shape": [1, 4, 4],
        "chunks": [1, 2, 2],
        "dtype": "<u2",
        "compressor": None,
        "fill_value": 0,
        "filters": None,
        "order": "C",
        "dimension_separator": "/",
    }
    level = place / "level"
    for row in "01":
        (level / "0" / row).mkdir(parents=True)
        for column in "01":
            (level / "0" / row / column).write_bytes(np.arange(1, 5, dtype="<u2").tobytes())
    (level / ".zarray").write_text(json.dumps(document))
    field = place / "field"
    field.mkdir()
    datasets = [{"path": str(number)} for number in range(5)]
    attributes = {"multiscales": [{"version": "0.4", "datasets": datasets}]}
    (field / ".zattrs").write_text(json.dumps(attributes))
    (field / ".zgroup").write_text('{"zarr_format": 2}')
    for number in range(5):
        shutil.copytree(level, field / str(number), copy_function=os.link)
    plate = place / "plate.zarr"
    for row, column in itertools.product("ABCDEFGH", range(1, 13)):
        for number in range(3):
            there = plate / row / str(column) / str(number)
            shutil.copytree(field, there, copy_function=os.link)
    for folder in (plate, *plate.glob("*"), *plate.glob("*/*")):
        (folder / ".zgroup").write_text('{"zarr_format": 2}')
    return plate


def test_a_plate_of_small_arrays(tmp_path, target):
    """1,440 arrays of 4 chunks each, in 393 groups: three commits at most, none by array.

    One of 5,760 took 18 s, two commits and 168 MB; its files take longer to write and to delete.
    """
    report = refreeze.ingest(write_plate(tmp_path), target)
    assert len(report.arrays) == report.manifests_written == 1_440
    assert report.references_written == 4 * 1_440
    assert report.commits <= 3
    root = group(local_repository(target))
    well = root["H/12/2"]
    assert well.attrs["multiscales"][0]["version"] == "0.4"
    for number in range(5):
        assert well[str(number)][0].tolist() == [[1, 2] * 2, [3, 4] * 2] * 2


def test_a_commit_is_a_range_of_the_shared_dimension(serve, target):
    """Arrays of chunks of 1, 4 and 6 hours: each commit holds the same hours of all of them."""
    arrays = {"hourly": 1, "four": 4, "six": 6}
    endpoint = serve(
        *(
            array(
                name,
                480 // hours,
                20,
                zarr={"dimension_names": ["time", "x"], "chunk_shape": [hours, 1]},
            )
            for name, hours in arrays.items()
        ),
    )
    report = refreeze.ingest(
        "s3://bucket",
        target,
        source_options=endpoint.options,
        max_refs_per_commit=3_500,
        refs_per_manifest=240,
        no_read_check=True,
    )
    # 13,600 references.
    assert report.commits <= 7
    _metadata, *commits = steps(target)
    assert len(commits) == report.commits - 1
    ends = dict.fromkeys(arrays, 0)
    for commit in commits:
        assert sum(map(len, commit.values())) <= 3_500
        assert commit.keys() == {f"/{name}" for name in arrays}
        begin = ends["hourly"]
        for name, hours in arrays.items():
            rows = sorted({row for row, _ in commit[f"/{name}"]})
            assert len(commit[f"/{name}"]) == 20 * len(rows)
            assert rows == list(range(ends[name] // hours, rows[-1] + 1))
            # A manifest (12 rows) is never divided: it belongs where it begins.
            assert 0 <= ends[name] - begin < 12 * hours
            assert rows[0] % 12 == 0
            ends[name] = (rows[-1] + 1) * hours
    assert set(ends.values()) == {480}


@pytest.mark.parametrize("limit", [2, 7, 50])
def test_no_commit_holds_more_than_allowed(source, target, limit):
    """Whatever the limit, and however the arrays divide: every commit keeps to it."""
    report = refreeze.ingest(source, target, max_refs_per_commit=limit)
    metadata, *commits = steps(target)
    assert metadata == {"/time": [(0,)]}
    held = [sum(map(len, commit.values())) for commit in commits]
    assert max(held) <= limit
    assert sum(held) == report.references_written == 86
    assert len(held) == report.commits - 1
    whole = target.parent / "whole.icechunk"
    refreeze.ingest(source, whole)
    assert local_contents(target) == local_contents(whole)


def test_a_sparse_giant(serve, target):
    """10¹² possible chunks and 2,000 objects: few requests, few commits, nothing lost."""
    endpoint = serve(array("giant", 1_000_000, 1_000_000, pattern=SPARSE))
    report = refreeze.ingest(
        "s3://bucket", target, source_options=endpoint.options, no_read_check=True
    )
    assert report.references_written == 2_000
    assert report.commits <= 3
    assert report.list_requests <= 20
    assert endpoint.stats()["list"] <= 21
    assert report.arrays[0].missing == 10**12 - 2_000
    keys = {item["path"] for page in endpoint.store("giant").list() for item in page}
    found = local_contents(target)["/giant"][1]
    assert {f"c/{row}/{column}" for row, column in found} == keys - {"zarr.json"}


def test_a_sparse_giant_is_resumed_as_cheaply(serve, target):
    """Regression: a resumed run took the array for full and listed it chunk by possible chunk."""
    endpoint = serve(array("giant", 1_000_000, 1_000_000, pattern=SPARSE))
    options = {
        "source_options": endpoint.options,
        "max_refs_per_commit": 600,
        "no_read_check": True,
    }
    whole = refreeze.ingest("s3://bucket", target.parent / "whole", **options)
    assert whole.commits > 3
    kill_after(2, "s3://bucket", target, **options)
    report = refreeze.ingest("s3://bucket", target, **options)
    assert report.list_requests <= whole.list_requests + 8
    assert local_contents(target) == local_contents(target.parent / "whole")


def test_a_sparse_grid_on_the_local_disk(tmp_path, target):
    """Folders that are not there cost nothing."""
    source = tmp_path / "sparse.zarr"
    root = zarr.open_group(source, mode="w", zarr_format=3)
    giant = root.create_array("giant", shape=(10**6, 10**6), chunks=(1, 1), dtype="i1")
    giant[0, 0] = 1
    template = source / "giant" / "c" / "0" / "0"
    expected = {(0, 0)}
    for number in range(1, 1_500):
        row, column = (number * 7_919) % 300, (number * 104_729) % 10**6
        chunk = source / "giant" / "c" / str(row * 3_000) / str(column)
        chunk.parent.mkdir(exist_ok=True)
        chunk.hardlink_to(template)
        expected.add((row * 3_000, column))
    report = refreeze.ingest(source, target)
    assert report.references_written == len(expected) == 1_500
    assert report.commits <= 3
    # Each folder once, or a few times.
    assert report.list_requests < 1_500
    assert set(local_contents(target)["/giant"][1]) == expected


@pytest.mark.parametrize("pattern", ["block", "first_half"])
def test_density_that_changes(serve, target, pattern):
    """A dense part of a sparse array, larger than a commit: still bounded, complete and monotone."""
    rows = {"block": 1_000, "first_half": 200}[pattern]
    corners = {"from": [300, 300], "to": [360, 350]} if pattern == "block" else {}
    limit, count = {"block": (700, 3_000), "first_half": (19_000, 100_000)}[pattern]
    endpoint = serve(array("a", rows, 1_000, pattern={"kind": pattern, **corners}))
    events = []
    report = refreeze.ingest(
        "s3://bucket",
        target,
        source_options=endpoint.options,
        max_refs_per_commit=limit,
        no_read_check=True,
        progress=events.append,
    )
    assert report.references_written == count
    repository = local_repository(target)
    commits = [
        int(said[1])
        for snapshot in repository.ancestry(branch="main")
        if (said := re.fullmatch(r"refreeze: (\d+) references", snapshot.message))
    ]
    assert max(commits) <= limit
    assert sum(commits) == count
    chunks = set(local_contents(target)["/a"][1])
    if pattern == "block":
        assert chunks == {(y, x) for y in range(300, 360) for x in range(300, 350)}
    else:
        assert chunks == {(y, x) for y in range(100) for x in range(1_000)}
    assert_monotone(events, report)


def assert_monotone(events, report):
    figures = (
        "list_requests",
        "keys_listed",
        "chunks_found",
        "references_written",
        "commits",
    )
    for figure in figures:
        told = [event[figure] for event in events]
        assert told == sorted(told), figure
    last = events[-1]
    assert last["stage"] == "done"
    assert last["references_written"] == report.references_written
    assert last["commits"] == report.commits
    assert last["list_requests"] == report.list_requests
    assert last["keys_listed"] == report.keys_listed


def test_progress_and_log(caplog, source, target):
    """Figures only grow, end complete, and every commit leaves a record with the same figures."""
    events = []
    caplog.set_level(logging.INFO, logger="refreeze")
    report = refreeze.ingest(source, target, progress=events.append, **SMALL_COMMITS)
    assert_monotone(events, report)
    stages = [event["stage"] for event in events]
    order = ["metadata", "list", "commit", "check", "publish", "done"]
    assert set(stages) == set(order)
    assert sorted(order, key=stages.index) == order
    assert events[-1]["chunks_found"] >= 86
    records = [record for record in caplog.records if hasattr(record, "refreeze")]
    assert {record.name for record in records} == {"refreeze"}
    assert {record.levelno for record in records} == {logging.INFO}
    figures = [record.refreeze for record in records]
    assert [figure["commits"] for figure in figures] == list(range(1, report.commits + 1))
    assert figures[-1]["references_written"] == 86
    assert all(figure in events for figure in figures)
    assert records[-1].getMessage() == "commit 25: 86 references so far"


def test_progress_of_a_resumed_run(source, target):
    """What was done before counts as done from the first event of the listing on."""
    kill_after(9, source, target, **SMALL_COMMITS)
    events = []
    report = refreeze.ingest(source, target, progress=events.append, **SMALL_COMMITS)
    assert_monotone(events, report)
    begun = next(event for event in events if event["stage"] == "list")
    assert begun["references_written"] == 29
    assert begun["commits"] == 0


def test_a_callback_that_fails_does_not_end_it(source, target, monkeypatch):
    """What it raises is told to `sys.unraisablehook`."""
    raised = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: raised.append(args.exc_value))

    def fail(event):
        raise LookupError(event["stage"])

    assert refreeze.ingest(source, target, progress=fail).published
    assert {type(error) for error in raised} == {LookupError}


def test_expect_complete(capsys, source, target):
    """Missing chunks: an error with examples, nothing published; without the option it is."""
    with pytest.raises(IncompleteError, match="11 chunks are missing in 1 of 5 arrays") as raised:
        refreeze.ingest(source, target, expect_complete=True)
    assert re.search(r"sparse/c/\d/\d of array /sparse", raised.value.message)
    assert nodes(local_repository(target)) == []
    (run,) = refreeze.status(target).runs
    assert run.state == "staged"
    ended = cli(capsys, "ingest", source, target, "--expect-complete", "--json")
    assert ended.code == 1
    assert ended.document["error"]["type"] == "IncompleteError"
    assert re.search(r"sparse/c/\d/\d", ended.document["error"]["message"])
    report = refreeze.ingest(source, target)
    assert (report.published, report.list_requests) == (True, 0)
    assert report.run_id == run.run_id


def test_expect_complete_in_small_commits(source, target):
    """Missing chunks are counted over all commits, those of an earlier attempt included."""
    kill_after(24, source, target, **SMALL_COMMITS)
    with pytest.raises(IncompleteError, match="11 chunks are missing in 1 of 5") as raised:
        refreeze.ingest(source, target, expect_complete=True, **SMALL_COMMITS)
    assert "of array /sparse" in raised.value.message


def test_expect_complete_of_what_is_complete(tmp_path, target):
    """Nothing is missing, copied coordinates included."""
    source = write_store(tmp_path / "air.zarr")
    assert refreeze.ingest(source, target, expect_complete=True, expect_count=5).published


@pytest.mark.parametrize("expected", [0, 85, 87, 10**12])
def test_expect_count(capsys, source, target, expected):
    """Another number of references than expected: both are named; the right one is published."""
    ended = cli(capsys, "ingest", source, target, "--expect-count", expected, "--json")
    assert ended.code == 1
    error = ended.document["error"]
    assert error["type"] == "IncompleteError"
    assert error["message"] == f"86 references were found, not {expected}"
    assert nodes(local_repository(target)) == []
    assert refreeze.ingest(source, target, expect_count=86).published


def test_splits_of_the_repository_win(source, target):
    """Rules that match an array decide on its manifests, also when it takes many commits."""
    config = icechunk.RepositoryConfig.default()
    rule = {
        icechunk.ManifestSplitCondition.path_matches("hourly"): {
            icechunk.ManifestSplitDimCondition.Axis(0): 5,
            icechunk.ManifestSplitDimCondition.Axis(1): 1,
        }
    }
    config.manifest = icechunk.ManifestConfig(
        splitting=icechunk.ManifestSplittingConfig.from_dict(rule)
    )
    config.inline_chunk_threshold_bytes = 77
    storage = icechunk.local_filesystem_storage(str(target))
    icechunk.Repository.create(storage, config=config).save_config()
    before = icechunk.Repository.fetch_config(storage)
    kill_after(6, source, target, max_refs_per_commit=8)
    refreeze.ingest(source, target, max_refs_per_commit=11)
    after = icechunk.Repository.fetch_config(storage)
    assert after.inline_chunk_threshold_bytes == 77
    old, new = (c.manifest.splitting.split_sizes for c in (before, after))
    assert str(new[: len(old)]) == str(old)
    repository = local_repository(target)
    snapshot = repository.inspect_snapshot(repository.lookup_branch("main"))
    (hourly,) = (node for node in snapshot["nodes"] if node["path"] == "/hourly")
    for manifest in hourly["manifest_refs"]:
        (start, stop), (left, right) = manifest["extents"]
        assert start // 5 == (stop - 1) // 5
        assert right - left == 1
