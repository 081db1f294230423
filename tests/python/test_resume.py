"""What may change between two attempts of a run, and what may not."""

import json
import shutil
from datetime import UTC, datetime

import icechunk
import numpy as np
import pytest
import zarr

import refreeze
from refreeze.exceptions import IncompleteError, MismatchError, TargetNotFoundError
from scenarios import (
    SMALL_COMMITS,
    cli,
    edit,
    foreign_commit,
    group,
    kill_after,
    local_contents,
    local_repository,
    state,
    write_series,
    write_store,
)

DONE = 5


@pytest.fixture
def source(tmp_path):
    return write_series(tmp_path / "series.zarr")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "target.icechunk"


@pytest.fixture
def expected(tmp_path, source):
    """Return what an uninterrupted ingest makes of the source."""
    refreeze.ingest(source, tmp_path / "expected.icechunk")
    return local_contents(tmp_path / "expected.icechunk")


def assert_resumes(source, target, run, **options):
    report = refreeze.ingest(source, target, **options)
    assert report.run_id == run.run_id
    assert report.resumed_batches == run.batches_done == DONE - 1
    assert report.references_written == 86
    assert local_repository(target).list_branches() == {"main"}
    return report


def assert_refused(source, target, run, match, **options):
    """Check the error, and that the run is as it was."""
    with pytest.raises(MismatchError, match=match) as raised:
        refreeze.ingest(source, target, **SMALL_COMMITS | options)
    assert run.run_id in raised.value.message
    assert "--restart" in raised.value.hint
    assert refreeze.status(target).runs == (run,)


@pytest.mark.parametrize(
    "options",
    [
        {"memory": "64MiB", "concurrency": 2},
        {"max_refs_per_commit": 1},
        {"max_refs_per_commit": 1000, "refs_per_manifest": 3, "message": "at last"},
        {"expect_count": 86, "no_read_check": True},
    ],
)
def test_options_of_the_work_may_change(source, target, expected, options):
    """Other limits go on with the plan that is stored, and end with the same references."""
    run = kill_after(DONE, source, target, **SMALL_COMMITS)
    report = assert_resumes(source, target, run, **options)
    assert report.warnings == ()
    assert local_contents(target) == expected
    if options.get("max_refs_per_commit") == 1:
        made = list(local_repository(target).ancestry(branch="main"))[: report.commits]
        assert [snapshot.message for snapshot in made] == ["refreeze: 1 references"] * len(made)
    if "message" in options:
        # Everything that is left fits one commit.
        assert report.commits == 1


def test_a_batch_of_which_a_part_is_committed(source, target, expected):
    """Smaller commits divide what is left of the plan; another kill among the parts loses none."""
    kill_after(3, source, target, max_refs_per_commit=20)
    safe = [
        kill_after(2, source, target, max_refs_per_commit=limit).batches_done for limit in (3, 2, 7)
    ]
    assert safe == sorted(safe)
    report = refreeze.ingest(source, target)
    assert report.resumed_batches == safe[-1]
    assert report.references_written == 86
    assert local_contents(target) == expected


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"empty_chunks": "skip"}, "--empty-chunks was error and is skip"),
        ({"locations": "absolute"}, "--locations was relative and is absolute"),
        ({"loadable_variables": []}, "/time was copied and is to be referenced"),
        ({"loadable_variables": ["time", "scalar"]}, "/scalar was referenced and is to be copied"),
        ({"skip_variables": ["sparse"]}, "/sparse was part of it and is not selected"),
        ({"arrays": ["hourly"]}, "was part of it and is not selected"),
    ],
)
def test_options_of_the_result_may_not(source, target, expected, options, match):
    """What would mix two results is refused, says what differs, and does not touch the run."""
    run = kill_after(DONE, source, target, **SMALL_COMMITS)
    assert_refused(source, target, run, match, **options)
    assert_resumes(source, target, run, **SMALL_COMMITS)
    assert local_contents(target) == expected


def test_a_wider_selection_may_not(source, target):
    """An array that was not part of the run is named."""
    run = kill_after(DONE, source, target, **SMALL_COMMITS, skip_variables=["scalar"])
    assert_refused(source, target, run, "/scalar was not part of it")


def test_another_source_may_not(tmp_path, capsys, source, target):
    """The same arrays from elsewhere are another ingest; both places are named."""
    run = kill_after(DONE, source, target, **SMALL_COMMITS)
    other = tmp_path / "other.zarr"
    shutil.copytree(source, other)
    assert_refused(other, target, run, f"the source was file://{source}/ and is file://{other}/")
    ended = cli(capsys, "ingest", other, target, "--json")
    assert ended.code == 1
    assert ended.document["error"]["type"] == "MismatchError"
    assert "--restart" in ended.document["error"]["hint"]


def _codecs(document):
    return [{"name": "bytes", "configuration": {"endian": "little"}}]


def _attributes(**changes):
    return lambda document: document["attributes"] | changes


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("data_type", "float32", 'data_type was "int32" and is "float32"'),
        ("fill_value", 7, "fill_value was 0 and is 7"),
        ("shape", [25, 4], r"shape was \[26, 4\] and is \[25, 4\]"),
        ("shape", [26, 4, 1], "dimension|shape"),
        ("dimension_names", ["time", "y"], "dimension_names was"),
        ("codecs", _codecs, "codecs was"),
        ("attributes", _attributes(units="degC"), 'units was "K" and is "degC"'),
        ("attributes", _attributes(scale_factor=0.5), "scale_factor was absent and is 0.5"),
        ("attributes", {"long_name": "x"}, 'units was "K" and is absent'),
        (
            "chunk_grid",
            {"name": "regular", "configuration": {"chunk_shape": [2, 2]}},
            "chunk_grid was",
        ),
    ],
)
def test_a_source_that_changed_its_meaning(source, target, field, value, match):
    """Structure and attributes that change the numbers: refused, naming the array and what differs."""
    run = kill_after(DONE, source, target, **SMALL_COMMITS)
    path = source / "hourly" / "zarr.json"
    document = json.loads(path.read_text())
    changes = {field: value(document) if callable(value) else value}
    if field == "shape" and len(value) == 3:
        changes["chunk_grid"] = {"name": "regular", "configuration": {"chunk_shape": [1, 2, 1]}}
        changes["dimension_names"] = ["time", "x", "z"]
        match = "/hourly: its chunk_grid was"
    edit(path, **changes)
    assert_refused(source, target, run, match)
    path.write_text(json.dumps(document))
    assert_resumes(source, target, run, **SMALL_COMMITS)


def test_a_title_that_changed(source, target, expected):
    """Other attributes are a warning; the run keeps those that it began with."""
    run = kill_after(DONE, source, target, **SMALL_COMMITS)
    edit(source / "hourly" / "zarr.json", attributes={"units": "K", "long_name": "another"})
    report = assert_resumes(source, target, run, **SMALL_COMMITS)
    (warning,) = report.warnings
    assert "/hourly" in warning
    assert "attributes" in warning
    assert local_contents(target) == expected


def test_a_source_that_has_grown(source, target):
    """It is finished at the length it began with, reads as it was then, and append is named."""
    run = kill_after(DONE, source, target, **SMALL_COMMITS)
    root = zarr.open_group(source, mode="r+")
    before = {name: root[name][...] for name in ("hourly", "nested/even", "sparse", "time")}
    for name in before:
        array = root[name]
        array.resize((40, *array.shape[1:]))
        array[26:, ...] = 99
        if name == "sparse":
            # Not in the last chunk of the old length: that one was a hole.
            array[26:27, 2:] = 0
    report = assert_resumes(source, target, run, **SMALL_COMMITS)
    assert len([w for w in report.warnings if "grown" in w and "append" in w]) == 4
    grown = next(warning for warning in report.warnings if "/hourly" in warning)
    assert "[26, 4] to [40, 4]" in grown
    result = group(local_repository(target))
    for name, values in before.items():
        np.testing.assert_array_equal(result[name][...], values)
    shapes = {array.path: array.shape for array in report.arrays}
    assert shapes["/hourly"] == (26, 4)
    assert shapes["/time"] == (26,)


def test_restart_discards_the_run(source, target, expected):
    """A new run begins at the beginning, with whatever options; of the old one no branch is left."""
    run = kill_after(DONE, source, target, **SMALL_COMMITS)
    report = refreeze.ingest(source, target, restart=True, locations="absolute")
    assert report.run_id != run.run_id
    assert report.resumed_batches == 0
    assert local_repository(target).list_branches() == {"main"}
    (now,) = refreeze.status(target).runs
    assert (now.run_id, now.state) == (report.run_id, "published")
    chunks = {path: set(chunks) for path, (_, chunks) in local_contents(target).items()}
    assert chunks == {path: set(chunks) for path, (_, chunks) in expected.items()}


def test_restart_discards_every_run_of_these_arrays(source, target):
    """Regression: one was left, and the next attempt took it for its own and failed."""
    for name in ("hourly", "scalar"):
        refreeze.ingest(source, target, arrays=[name], no_publish=True)
    other = refreeze.ingest(source, target, target_group="other", no_publish=True)
    refreeze.ingest(source, target, restart=True, no_publish=True)
    runs = refreeze.status(target).runs
    assert len(runs) == 2
    assert other.run_id in {run.run_id for run in runs}
    assert refreeze.ingest(source, target).published


def test_restart_without_a_run(source, target, expected):
    """There may be nothing to discard."""
    assert refreeze.ingest(source, target, restart=True).resumed_batches == 0
    assert local_contents(target) == expected


@pytest.mark.parametrize("next_one", ["same", "other"])
def test_branches_of_finished_runs_are_removed(tmp_path, source, target, next_one):
    """A kill between publishing and tidying leaves a branch: the next ingest removes it, no other."""
    report = refreeze.ingest(source, target)
    repository = local_repository(target)
    left = f"refreeze/{report.run_id}"
    repository.create_branch(left, report.snapshot_id)
    # Branches of others that look like it are none of ours.
    first = list(repository.ancestry(branch="main"))[-1].id
    repository.create_branch("refreeze/mine", first)
    repository.create_branch("refreeze/theirs", report.snapshot_id)
    foreign_commit(target)
    (run,) = refreeze.status(target).runs
    assert (run.state, run.run_id) == ("published", report.run_id)
    with pytest.raises(TargetNotFoundError, match="no staged ingest"):
        refreeze.publish(target)
    repository.list_branches()
    if next_one == "other":
        refreeze.ingest(write_store(tmp_path / "o.zarr"), target, target_group="o")
    else:
        assert refreeze.ingest(source, target).already_published
    assert repository.list_branches() == {"main", "refreeze/mine", "refreeze/theirs"}


def test_a_staged_run_is_published_by_the_same_command(source, target, expected):
    """Nothing is listed again, nothing is committed again."""
    staged = refreeze.ingest(source, target, no_publish=True)
    again = refreeze.ingest(source, target, no_publish=True)
    assert (again.run_id, again.snapshot_id) == (staged.run_id, staged.snapshot_id)
    assert not staged.published
    assert not again.published
    assert again.commits == 0
    report = refreeze.ingest(source, target)
    assert report.run_id == staged.run_id
    assert report.published
    assert (report.list_requests, report.commits, report.manifests_written) == (0, 0, 0)
    assert report.references_written == 86
    assert report.bytes_referenced == staged.bytes_referenced
    arrays = {array.path: (array.references, array.missing) for array in report.arrays}
    assert arrays == {array.path: (array.references, array.missing) for array in staged.arrays}
    assert local_contents(target) == expected


def test_copied_chunks_are_remembered(tmp_path, target):
    """Regression: a resumed run took the coordinates that it had copied for missing."""
    source = write_store(tmp_path / "air.zarr")
    refreeze.ingest(source, target, no_publish=True)
    assert refreeze.ingest(source, target, expect_complete=True).published


def test_a_copied_chunk_that_is_missing_is_remembered(source, target):
    """Completeness covers what was copied before the interruption, too."""
    (source / "time" / "c" / "0").unlink()
    refreeze.ingest(source, target, skip_variables=["sparse"], no_publish=True)
    with pytest.raises(IncompleteError, match="/time"):
        refreeze.ingest(source, target, skip_variables=["sparse"], expect_complete=True)
    assert refreeze.status(target).runs[0].state == "staged"


def test_runs_of_other_arrays_are_left_alone(tmp_path, source, target):
    """An ingest of other arrays neither resumes nor removes an unfinished run."""
    run = kill_after(DONE, source, target, **SMALL_COMMITS)
    refreeze.ingest(write_store(tmp_path / "o.zarr"), target, target_group="o")
    assert refreeze.status(target).runs[-1] == run


def test_a_run_of_another_version(tmp_path, source, target):
    """Regression: it blocked every ingest, the status and --restart, which its error recommends."""
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(target)))
    repository.create_branch("refreeze/abc", repository.lookup_branch("main"))
    session = repository.writable_session("refreeze/abc")
    zarr.create_group(session.store).create_array("hourly", shape=(2,), dtype="i4")
    later = {
        "refreeze.run": "abc",
        "refreeze.batches": {"x": 1},
        "refreeze.resolved": {"format": 9},
    }
    session.commit("by a later version", metadata=later)
    refreeze.status(target)
    refreeze.ingest(write_store(tmp_path / "o.zarr"), target, target_group="o")
    assert refreeze.ingest(source, target, restart=True).published


def test_a_repository_of_which_creation_was_killed(source, target, expected):
    """Regression: what a kill inside the creation leaves made every later attempt fail."""
    icechunk.Repository.create(icechunk.local_filesystem_storage(str(target)))
    (target / "repo").unlink()
    assert {file.name for file in target.iterdir()} <= {"snapshots", "transactions", "config.yaml"}
    refreeze.ingest(source, target)
    assert local_contents(target) == expected


def test_arrays_without_chunks_stay_one_run(tmp_path, target):
    """Regression: a source without chunks that was staged began another run with every attempt."""
    source = tmp_path / "absent.zarr"
    inner = zarr.open_group(source, mode="w", zarr_format=3).create_group("a/b")
    inner.attrs["by"] = "us"
    inner.create_array("absent", shape=(4,), chunks=(2,), dtype="f4")
    first = refreeze.ingest(source, target, no_publish=True)
    again = refreeze.ingest(source, target, no_publish=True)
    assert (again.run_id, again.commits) == (first.run_id, 0)
    (run,) = refreeze.status(target).runs
    assert (run.run_id, run.state) == (first.run_id, "staged")
    assert refreeze.ingest(source, target).run_id == first.run_id
    assert dict(group(local_repository(target))["a/b"].attrs) == {"by": "us"}
    assert local_repository(target).list_branches() == {"main"}
    assert refreeze.ingest(source, target).already_published
    with pytest.raises(IncompleteError, match="0 references were found, not 1"):
        refreeze.ingest(source, target, expect_count=1)


@pytest.mark.parametrize("expired", [False, True])
def test_expectations_of_what_is_published(capsys, source, target, expired):
    """Regression: they were not looked at when the same ingest had been published before."""
    refreeze.ingest(source, target, **SMALL_COMMITS)
    if expired:
        local_repository(target).expire_snapshots(older_than=datetime.now(UTC))
    foreign_commit(target)
    before = state(local_repository(target))
    assert refreeze.ingest(source, target, expect_count=86).already_published
    with pytest.raises(IncompleteError, match="86 references were found, not 85") as raised:
        refreeze.ingest(source, target, expect_count=85)
    assert "published before" in raised.value.hint
    with pytest.raises(IncompleteError, match="11 chunks are missing in 1 of") as raised:
        refreeze.ingest(source, target, expect_complete=True)
    assert "for example sparse/c/" in raised.value.message
    ended = cli(capsys, "ingest", source, target, "--expect-complete", "--json")
    assert (ended.code, ended.document["error"]["type"]) == (1, "IncompleteError")
    assert state(local_repository(target)) == before
    complete = {"target_group": "complete", "skip_variables": ["sparse"], "expect_complete": True}
    refreeze.ingest(source, target, **complete)
    assert refreeze.ingest(source, target, **complete).already_published
