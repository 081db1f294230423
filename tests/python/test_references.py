"""What an ingest leaves in the repository: references that notice change, bounded commits, history, configuration."""

import math
import os
import time
from datetime import UTC, datetime

import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr

import refreeze
from stores_for_tests import (
    assert_same_array,
    chunk_files,
    ingest,
    ingest_and_compare,
    open_result,
    write_array,
)


@pytest.fixture
def source(tmp_path):
    """Return a store of two gridded arrays of 40 by 6 chunks, one line of 40, and a coordinate."""
    path = tmp_path / "source.zarr"
    root = zarr.open_group(path, mode="w", zarr_format=2, attributes={"title": "air"})

    def write(name, shape, chunks, dimensions):
        array = root.create_array(
            name,
            shape=shape,
            chunks=chunks,
            dtype="i4",
            compressors=None,
            fill_value=None,
            attributes={"_ARRAY_DIMENSIONS": dimensions},
        )
        array[...] = np.arange(np.prod(shape)).reshape(shape)
        return array

    write("air", (80, 12), (2, 2), ["time", "x"])
    write("ice", (80, 12), (2, 2), ["time", "x"])
    write("line", (80,), (2,), ["time"])
    write("time", (80,), (40,), ["time"])
    for chunk in (path / "ice").glob("1?.*"):
        chunk.unlink()
    return path


@pytest.fixture
def target(tmp_path):
    """Return where the repository goes."""
    return tmp_path / "target.icechunk"


def manifests(result):
    return result.repository.list_manifest_files(result.session.snapshot_id)


def history(result, branch="main"):
    return list(result.repository.ancestry(branch=branch))


def test_a_fresh_store_is_readable_at_once(source, target):
    """Files that were written within this very second have fractional times and still verify."""
    chunk = source / "air" / "0.0"
    now = time.time_ns()
    for nanoseconds in (now // 10**9 * 10**9 + 999_999_999, now // 10**9 * 10**9 + 1):
        os.utime(chunk, ns=(nanoseconds, nanoseconds))
        result = ingest(source, target / str(nanoseconds))
        assert result.array("air")[0, 1] == 1


def test_a_chunk_that_changes_later_is_not_read(source, target):
    """A reference is to the object as it was: afterwards the read fails, and only that one."""
    result = ingest(source, target)
    chunk = source / "air" / "3.4"
    later = chunk.stat().st_mtime + 2
    os.utime(chunk, (later, later))
    result = open_result(result.report)
    with pytest.raises(icechunk.IcechunkError, match="changed"):
        result.array("air")[6, 8]
    assert result.array("air")[0, 0] == 0
    assert result.array("time")[79] == 79


def test_a_chunk_that_grows_in_place_is_not_read_in_part(source, target):
    """A rewritten object of another size, with a later time, is refused as well."""
    result = ingest(source, target)
    chunk = source / "air" / "0.0"
    chunk.write_bytes(chunk.read_bytes() * 2)
    later = time.time() + 2
    os.utime(chunk, (later, later))
    with pytest.raises(icechunk.IcechunkError):
        open_result(result.report).array("air")[0, 0]


def test_old_objects_keep_their_time(source, target):
    """A restored older time, even before 1970, passes: only later ones are refused."""
    for name, seconds in {"0.0": 0, "0.1": -5, "0.2": 10**9}.items():
        os.utime(source / "air" / name, (seconds, seconds))
    result = ingest(source, target)
    np.testing.assert_array_equal(result.array("air")[0, :6], np.arange(6))


def test_commits_are_bounded_and_published_together(source, target):
    """Small commits end with the same references as one, and readers see them in one step."""
    seen = []

    def look(event):
        # Runs between commits: the branch must still be where it was.
        if event["commits"] and event["stage"] in {"list", "commit", "check", "publish"}:
            repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
            seen.append((repository.lookup_branch("main"), repository.list_branches()))

    one = ingest(source, target.parent / "one")
    report = refreeze.ingest(source, target, max_refs_per_commit=100, progress=look)
    many = open_result(report)
    assert one.report.commits == 2
    assert report.commits >= 1 + math.ceil(report.references_written / 100)
    assert many.locations() == one.locations()
    commits = history(many)
    assert len(commits) == report.commits + 1
    assert {tip for tip, _ in seen} == {commits[-1].id}
    assert all(f"refreeze/{report.run_id}" in branches for _, branches in seen)
    assert many.repository.list_branches() == {"main"}
    counted = sum(
        part["references"]
        for commit in commits
        for part in commit.metadata.get("refreeze.batches", {}).get("arrays", [])
    )
    assert counted == report.references_written == 40 * 6 + 30 * 6 + 40


def test_manifests_are_bounded_and_aligned(source, target):
    """A manifest holds at most what was asked for, and the split is saved for later writers."""
    result = ingest_and_compare(source, target, refs_per_manifest=50)
    files = manifests(result)
    assert all(file.num_chunk_refs <= 50 for file in files)
    # 8 rows of 6 in each: 5 manifests of air, 5 of ice (two of them short), the line, the coordinate.
    assert sorted(file.num_chunk_refs for file in files) == [2, 12, 24, 40, *[48] * 8]
    assert result.report.manifests_written == len(files)
    assert result.report.manifest_bytes == sum(file.size_bytes for file in files)
    split = result.repository.config.manifest.splitting
    assert split is not None
    assert "air" in str(split)


def test_a_later_commit_keeps_the_manifests(source, target):
    """The saved split is that of the manifests: writing one chunk rewrites one manifest."""
    result = ingest(source, target, refs_per_manifest=50)
    before = {file.id for file in manifests(result)}
    session = result.repository.writable_session("main")
    zarr.open_array(session.store, path="air", mode="r+")[0, 0] = -1
    session.commit("one chunk")
    after = {file.id for file in manifests(open_result(result.report))}
    assert len(before - after) == 1
    assert len(after - before) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"max_refs_per_commit": 1, "refs_per_manifest": 1, "arrays": ["line"]},
        {"max_refs_per_commit": 7, "refs_per_manifest": 5},
        {"max_refs_per_commit": 1_000, "refs_per_manifest": 1_000_000},
    ],
)
def test_limits_do_not_change_the_result(source, target, options):
    """Whatever the limits, the same chunks are referenced and the report's numbers add up."""
    result = ingest(source, target, **options)
    report = result.report
    root = zarr.open_group(source, mode="r")
    for array in report.arrays:
        assert_same_array(root[array.path], result.array(array.path))
        assert result.chunks(array.path) == set(
            chunk_files(source / array.path[1:], root[array.path])
        )
    assert report.references_written == report.added
    assert report.references_written == sum(array.references for array in report.arrays)
    sizes = {"/air": 16, "/ice": 16, "/line": 8, "/time": 0}
    assert report.bytes_referenced == sum(
        sizes[array.path] * array.references for array in report.arrays
    )
    assert report.changed == report.removed == report.resumed_batches == 0
    assert len(history(result)) == report.commits + 1


def test_commits_say_what_they_are_of(source, target):
    """Run, plan, source and completed batches are in every commit's properties."""
    result = ingest(source, target)
    commits = history(result)[:-1]
    for commit in commits:
        assert commit.metadata["refreeze.run"] == result.report.run_id
        assert commit.metadata["refreeze.source"] == str(source)
        assert len(commit.metadata["refreeze.plan"]) == 32
        assert commit.metadata["refreeze.batches"]
        assert commit.message.startswith("refreeze: ")
    assert len({commit.metadata["refreeze.plan"] for commit in commits}) == 1
    assert commits[0].id == result.report.snapshot_id
    assert result.report.published


def test_the_users_message_is_on_every_commit(source, target):
    """`message` replaces the default text, whatever is in it."""
    result = ingest(source, target, message="ERA5, März\nsecond line", max_refs_per_commit=100)
    commits = history(result)[:-1]
    assert len(commits) > 2
    assert {commit.message for commit in commits} == {"ERA5, März\nsecond line"}


def test_the_saved_configuration_opens_the_data(source, target):
    """Any client finds container and split in the repository itself, and must only authorise."""
    report = refreeze.ingest(source, target)
    assert report.container == f"file://{source}/"
    config = icechunk.Repository.fetch_config(icechunk.local_filesystem_storage(str(target)))
    (container,) = config.virtual_chunk_containers.values()
    assert container.url_prefix == report.container
    assert container.name
    assert config.manifest.splitting is not None

    storage = icechunk.local_filesystem_storage(str(target))
    closed = icechunk.Repository.open(storage).readonly_session("main")
    with pytest.raises(icechunk.IcechunkError, match="authoriz"):
        zarr.open_array(closed.store, path="air", mode="r")[0, 0]
    assert zarr.open_array(closed.store, path="time", mode="r")[5] == 5
    assert open_result(report).array("air")[0, 1] == 1


def test_ordinary_commits_go_on_top(source, target):
    """The result is an ordinary repository: write, tag, diff, expire and collect as ever."""
    result = ingest(source, target)
    session = result.repository.writable_session("main")
    root = zarr.open_group(session.store, mode="r+")
    root.create_array("new", shape=(3,), dtype="i4")[:] = [1, 2, 3]
    root["air"][0] = -1
    root.attrs["title"] = "changed"
    snapshot = session.commit("by hand")
    repository = result.repository
    repository.create_tag("v1", snapshot_id=snapshot)
    diff = repository.diff(from_snapshot_id=result.report.snapshot_id, to_branch="main")
    assert diff.new_arrays == {"/new"}
    again = open_result(result.report)
    assert again.array("air")[0].tolist() == [-1] * 12
    assert again.array("air")[1, 1] == 13
    assert history(again)[0].message == "by hand"
    collected = repository.garbage_collect(delete_object_older_than=datetime.now(UTC), dry_run=True)
    assert collected.manifests_deleted == 0


def test_the_same_ingest_again_writes_nothing(source, target):
    """Repetition is recognised by what was published, also beneath later commits."""
    result = ingest(source, target)
    files = {path: path.stat().st_mtime_ns for path in target.rglob("*") if path.is_file()}
    again = refreeze.ingest(source, target, max_refs_per_commit=10)
    assert again.already_published
    assert again.published
    assert again.commits == again.references_written == again.manifests_written == 0
    assert again.snapshot_id == result.report.snapshot_id
    assert again.run_id == result.report.run_id
    assert "nothing was written" in again.warnings[0]
    assert files == {path: path.stat().st_mtime_ns for path in target.rglob("*") if path.is_file()}

    session = result.repository.writable_session("main")
    zarr.open_group(session.store, mode="r+").attrs["a"] = 1
    session.commit("by hand")
    assert refreeze.ingest(source, target).already_published
    with pytest.raises(refreeze.exceptions.AlreadyExistsError, match="air"):
        refreeze.ingest(source, target, loadable_variables=[])
    assert len(history(open_result(result.report))) == result.report.commits + 2


def test_a_branch_of_its_own(source, target):
    """An existing branch is published on; main stays where it was."""
    first = ingest(source, target, arrays=["line"])
    first.repository.create_branch("other", snapshot_id=first.report.snapshot_id)
    report = refreeze.ingest(source, target, branch="other", skip_variables=["line"])
    assert set(open_result(report, branch="other").group()) == {"air", "ice", "line", "time"}
    assert set(open_result(report).group()) == {"line"}


def test_two_sources_in_one_repository(source, target, tmp_path):
    """Each source has its container; both are read at once."""
    other = tmp_path / "other.zarr"
    write_array(zarr.open_group(other, mode="w"), "snow")
    first = refreeze.ingest(source, target)
    second = refreeze.ingest(other, target, target_group="more")
    assert first.container != second.container
    repository = icechunk.Repository.open(
        icechunk.local_filesystem_storage(str(target)),
        authorize_virtual_chunk_access=icechunk.containers_credentials(
            dict.fromkeys(
                (first.container, second.container), icechunk.credentials.LocalFileSystemAccess
            )
        ),
    )
    root = zarr.open_group(repository.readonly_session("main").store, mode="r")
    assert root["air"][1, 1] == 13
    assert_same_array(zarr.open_array(other / "snow", mode="r"), root["more/snow"])


def test_storage_and_repository_objects_as_targets(source, target):
    """icechunk.Storage and icechunk.Repository are taken like the path."""
    plain = ingest(source, target / "plain")
    storage = icechunk.local_filesystem_storage(str(target / "storage"))
    by_storage = open_result(refreeze.ingest(source, storage), storage)
    assert by_storage.locations() == plain.locations()
    storage = icechunk.local_filesystem_storage(str(target / "repository"))
    repository = icechunk.Repository.create(storage)
    by_repository = open_result(refreeze.ingest(source, repository), storage)
    assert by_repository.locations() == plain.locations()
    xr.testing.assert_identical(by_repository.dataset().load(), plain.dataset().load())


def test_nothing_to_reference(tmp_path, target):
    """Arrays without chunks are ingested without a container."""
    root = zarr.open_group(tmp_path / "absent.zarr", mode="w")
    root.create_array("absent", shape=(5,), chunks=(2,), dtype="f4", fill_value=3)
    result = ingest_and_compare(tmp_path / "absent.zarr", target / "absent")
    assert result.report.commits == 1
    assert result.array("absent")[:].tolist() == [3] * 5
