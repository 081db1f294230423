"""What a `sync` writes, and what it leaves alone.

That is manifests without a difference, everything when nothing has changed, and attributes of groups that are not its
source's alone.
"""

import pytest
import zarr

import refreeze
from fault_proxy import fault_proxy
from modes_for_tests import rewrite, write
from scenarios import local_repository, upload


def manifests(target):
    """Return the identifiers of the manifests that main has."""
    repository = local_repository(target)
    files = repository.list_manifest_files(repository.lookup_branch("main"))
    return {file.id for file in files}


def title(target, path="/"):
    """Return an attribute of a group on main."""
    store = local_repository(target).readonly_session("main").store
    return zarr.open_group(store, path=path, mode="r").attrs["title"]


@pytest.fixture
def place(tmp_path):
    """Return a source of 24 days and a target with a manifest for every two references."""
    folder, target = write(tmp_path / "a", 0, 24), tmp_path / "t"
    zarr.open_group(folder, mode="a").attrs["title"] = "first"
    refreeze.ingest(folder, target, refs_per_manifest=2)
    return folder, target


def test_only_manifests_with_a_difference_are_written(place):
    """One chunk of another value: one manifest is another, and all others are the same files."""
    folder, target = place
    before = manifests(target)
    assert len(before) > 4
    rewrite(folder, "air", slice(0, 1), 5.0)
    report = refreeze.sync(folder, target)
    after = manifests(target)
    assert 0 < report.manifests_written <= 2
    assert len(after - before) == report.manifests_written
    assert len(before - after) == report.manifests_written
    assert refreeze.verify(folder, target).equal


def test_nothing_is_sent_to_be_written_when_nothing_has_changed(s3_bucket, tmp_path):
    """Of an unchanged store the listings are asked for, as by a verify, and no request writes."""
    server, bucket = s3_bucket
    url = upload(server, bucket, write(tmp_path / "a", 0, 12), "a")
    target = f"s3://{bucket}/t"
    with fault_proxy(server) as (seen, faults):
        options = {"source_options": seen.options, "target_options": seen.options}
        refreeze.ingest(url, target, **options)
        faults.begin(lambda _: False)
        report = refreeze.sync(url, target, **options)
        asked = list(faults.seen)
        compared = refreeze.verify(url, target, **options)
    assert report.snapshot_id is None
    assert {request.method for request in asked} <= {"GET", "HEAD"}
    assert report.list_requests == compared.list_requests


def test_attributes_of_groups_are_those_of_the_source(place):
    """Replaced, with a commit; and again nothing to do."""
    folder, target = place
    zarr.open_group(folder, mode="a").attrs["title"] = "second"
    report = refreeze.sync(folder, target)
    assert (report.snapshot_id is not None, report.manifests_written) == (True, 0)
    assert title(target) == "second"
    assert refreeze.sync(folder, target).snapshot_id is None


@pytest.mark.parametrize(
    "part",
    [{"arrays": ["air"]}, {"skip_variables": ["wind"]}, {"region": {"time": slice(0, 12)}}],
    ids=["array", "skip", "region"],
)
def test_attributes_of_groups_stay_when_a_part_is_synced(place, part):
    """With `--array`, `--skip` or `--region` the groups are not the part's."""
    folder, target = place
    zarr.open_group(folder, mode="a").attrs["title"] = "second"
    assert refreeze.sync(folder, target, **part).snapshot_id is None
    assert title(target) == "first"


def test_attributes_of_groups_stay_when_others_have_brought_something(tmp_path):
    """One of several sources, merged or one after the other, does not speak for the group."""
    first, second = write(tmp_path / "a", 0, 12), write(tmp_path / "b", 12, 24)
    for folder, name in ((first, "first"), (second, "second")):
        zarr.open_group(folder, mode="a").attrs["title"] = name
    target = tmp_path / "t"
    refreeze.ingest([first, second], target, concat_dim="time")
    assert refreeze.sync(second, target).snapshot_id is None
    assert title(target) == "first"
