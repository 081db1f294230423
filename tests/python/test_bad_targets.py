"""Targets that cannot take an ingest, or hold something else: typed errors, and nothing is changed."""

import shutil

import icechunk
import obstore
import pytest
import zarr

import refreeze
from refreeze.exceptions import (
    AlreadyExistsError,
    SourceNotFoundError,
    TargetError,
)
from refusals import fails
from scenarios import (
    cli,
    edit,
    nodes,
    stamp,
    state,
    write_store,
)


def test_a_folder_with_other_things(tmp_path, source):
    """A folder that is in use for something else is not taken over."""
    target = tmp_path / "documents"
    target.mkdir()
    (target / "thesis.tex").write_text("x")
    fails(TargetError, target, "not empty", source=source, target=target)
    assert stamp(target) == {"thesis.tex": b"x"}


def test_a_zarr_store_as_target(source, tmp_path):
    """A store is no repository: swapped arguments do no harm."""
    other = write_store(tmp_path / "other.zarr")
    before = stamp(other)
    fails(TargetError, other, source=source, target=other)
    fails(TargetError, source, source=source, target=source)
    assert stamp(other) == before


def test_a_prefix_with_other_things(s3_bucket, source):
    """The same on S3."""
    server, bucket = s3_bucket
    obstore.put(server.store(bucket), "documents/thesis.tex", b"x")
    url = f"s3://{bucket}/documents"
    fails(TargetError, url, source=source, target=url, target_options=server.options)


def test_the_root_of_a_bucket(s3_bucket, source):
    """Icechunk wants a prefix; the hint says so."""
    server, bucket = s3_bucket
    error = fails(
        TargetError, bucket, source=source, target=f"s3://{bucket}", target_options=server.options
    )
    assert "prefix" in error.hint


def test_a_file_as_target(tmp_path, source):
    """A file is no place for a repository, nor is anything below it."""
    file = tmp_path / "file"
    file.write_text("x")
    fails(TargetError, file, source=source, target=file)
    fails(TargetError, file, source=source, target=file / "below")
    assert file.read_text() == "x"


def test_a_repository_of_spec_version_1(tmp_path, source):
    """It is refused, not upgraded in silence: the error names the call that upgrades it."""
    target = tmp_path / "old"
    storage = icechunk.local_filesystem_storage(str(target))
    icechunk.Repository.create(storage, spec_version=1)
    before = stamp(target)
    error = fails(TargetError, target, "version 1", source=source, target=target)
    assert "icechunk.upgrade_icechunk_repository" in error.hint
    fails(TargetError, target, "version 1", source=source, target=storage)
    assert stamp(target) == before


def test_a_repository_in_memory(source):
    """It lives in the other library's memory: TypeError, for storage and repository."""
    storage = icechunk.in_memory_storage()
    with pytest.raises(TypeError, match="memory"):
        refreeze.ingest(source, storage)
    with pytest.raises(TypeError, match="memory"):
        refreeze.ingest(source, icechunk.Repository.create(storage))


def test_a_folder_whose_name_speaks_of_memory(source, tmp_path):
    """Regression: the path was taken for the kind of storage."""
    storage = icechunk.local_filesystem_storage(str(tmp_path / "in-memory" / "memory"))
    refreeze.ingest(source, storage)
    assert "/air" in nodes(icechunk.Repository.open(storage))


def test_the_same_ingest_again(source, target, capsys):
    """It writes nothing and says so; the exit code is 0."""
    first = refreeze.ingest(source, target)
    before = stamp(target)
    again = refreeze.ingest(source, target)
    assert again.already_published
    assert (again.commits, again.references_written, again.added) == (0, 0, 0)
    assert again.snapshot_id == first.snapshot_id
    assert again.run_id == first.run_id
    assert any("nothing was written" in warning for warning in again.warnings)
    outcome = cli(capsys, "ingest", source, target)
    assert outcome.code == 0
    assert "Nothing to do" in outcome.out
    assert "nothing was written" in outcome.err
    assert stamp(target) == before


def test_groups_without_arrays(tmp_path, target):
    """An ingest that would hold no array is never a success, in no mode and as no plan."""
    source = tmp_path / "empty.zarr"
    zarr.open_group(source, mode="w", zarr_format=3).create_group("inner")
    for mode in ("create", "overwrite"):
        fails(SourceNotFoundError, "no array", source, source=source, target=target, mode=mode)
    with pytest.raises(SourceNotFoundError, match="no array"):
        refreeze.plan(source)
    assert not target.exists()


@pytest.mark.parametrize("changed", ["metadata", "attributes", "selection", "source"])
def test_arrays_that_are_there(source, target, tmp_path, changed):
    """Anything but the very same ingest is refused; it names the arrays in the way."""
    refreeze.ingest(source, target)
    before = stamp(target)
    options = {}
    if changed == "metadata":
        edit(source / "air/zarr.json", fill_value=7)
    elif changed == "attributes":
        edit(source / "air/zarr.json", attributes={"units": "K"})
    elif changed == "selection":
        options = {"arrays": ["air"]}
    else:
        source = write_store(tmp_path / "other.zarr")
    error = fails(AlreadyExistsError, target, "/air", source=source, target=target, **options)
    assert "--target-group" in error.hint
    assert stamp(target) == before


def test_an_array_that_another_made(source, target):
    """An array of somebody else is in the way like one of ours."""
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(target)))
    session = repository.writable_session("main")
    zarr.create_array(session.store, name="time", shape=(3,), dtype="int8")
    session.commit("theirs")
    before = state(repository)
    fails(AlreadyExistsError, "/time", source=source, target=target)
    assert state(repository) == before


def test_an_array_where_a_group_is_needed(source, target):
    """A node of the other kind is in the way too, in both directions."""
    refreeze.ingest(source, target)
    before = stamp(target)
    fails(AlreadyExistsError, "/air", source=source, target=target, target_group="air")
    fails(AlreadyExistsError, "/air", source=source, target=target, target_group="air/below")
    deep = source / "nested/deep"
    shutil.copytree(deep, deep.parent / "nested")
    fails(
        AlreadyExistsError,
        "/nested",
        source=source,
        target=target,
        group="nested",
        arrays=["nested"],
    )
    assert stamp(target) == before
