"""`sync`: a repository becomes what a fresh ingest of the source would be, whatever has happened to it."""

import json
import shutil

import pytest
import zarr

import refreeze
from modes_for_tests import assert_same, grow, rewrite, settled, source, write
from refreeze.exceptions import MismatchError
from refreeze.planning import preparation
from scenarios import cli, local_repository, stamp, tip, upload
from stores_for_tests import open_dataset


def assert_equal(folder, target):
    """Hold the target against the source: verify, and what xarray shows."""
    report = refreeze.verify(folder, target, sample=10)
    assert report.equal, (report.kinds, report.examples)
    session = local_repository(target).readonly_session("main")
    assert_same(open_dataset(session.store).load(), source(folder))
    assert local_repository(target).list_branches() == {"main"}


def test_nothing_changed_means_no_commit(ingested):
    """The target is left as it is, to the byte, and the report has no snapshot."""
    folder, target = ingested
    before = stamp(target)
    report = refreeze.sync(folder, target)
    assert (report.snapshot_id, report.run_id, report.commits) == (None, "", 0)
    assert (report.added, report.changed, report.removed) == (0, 0, 0)
    assert stamp(target) == before


@pytest.mark.parametrize("per_commit", [None, 4])
def test_new_changed_and_removed_chunks(ingested, per_commit):
    """In one commit and in several, published in one step, with counts in all and for each array."""
    folder, target = ingested
    rewrite(folder, "air", slice(0, 3), 5.0)
    (folder / "wind/c/0/0").unlink()
    (folder / "holes/c/1").mkdir()
    shutil.copy(folder / "holes/c/0/0", folder / "holes/c/1/0")
    settled(folder)
    report = refreeze.sync(folder, target, max_refs_per_commit=per_commit)
    assert (report.added, report.changed, report.removed) == (1, 2, 1), report
    assert report.published
    assert report.snapshot_id == tip(target) != report.previous_snapshot_id
    by_path = {one["path"]: (one["added"], one["changed"], one["removed"]) for one in report.arrays}
    assert by_path["/air"] == (0, 2, 0)
    assert by_path["/wind"] == (0, 0, 1)
    assert by_path["/holes"] == (1, 0, 0)
    assert_equal(folder, target)


def test_growth_with_changes_attributes_and_coordinates(ingested):
    """All at once: a source that was reprocessed and has grown."""
    folder, target = ingested
    grow(folder, 0, 12, 19)
    rewrite(folder, "air", slice(0, 3), 5.0)
    root = zarr.open_group(folder, mode="a")
    root.attrs["title"] = "reprocessed"
    root["air"].attrs["scale_factor"] = 2.0
    root["time"][3] = 70
    settled(folder)
    report = refreeze.sync(folder, target)
    assert report.added > 0
    assert report.changed >= 2
    assert_equal(folder, target)
    assert refreeze.sync(folder, target).snapshot_id is None


def test_attributes_alone_are_a_change(ingested):
    """Of an array, without a reference that differs."""
    folder, target = ingested
    zarr.open_group(folder, mode="a")["air"].attrs["units"] = "K"
    report = refreeze.sync(folder, target)
    assert report.snapshot_id == tip(target)
    assert (report.added, report.changed, report.removed, report.manifests_written) == (0, 0, 0, 0)
    assert_equal(folder, target)


def test_arrays_that_come_and_go(ingested):
    """Errors that name them; added, left out and removed when that is asked for."""
    folder, target = ingested
    shutil.copytree(folder / "air", folder / "extra")
    shutil.rmtree(folder / "wind")
    before = tip(target)
    with pytest.raises(MismatchError, match="/extra"):
        refreeze.sync(folder, target)
    with pytest.raises(MismatchError, match="/wind"):
        refreeze.sync(folder, target, new_arrays="ignore")
    assert tip(target) == before
    report = refreeze.sync(folder, target, new_arrays="add", remove_arrays=True)
    assert (report.new_arrays, report.removed_arrays) == (("/extra",), ("/wind",))
    assert report.added == len(list((folder / "extra").glob("c/*/*")))
    assert_equal(folder, target)


@pytest.mark.parametrize(
    "change", [{"data_type": "float64"}, {"fill_value": 7.0}, {"shape": [6, 4]}]
)
def test_what_cannot_be_mended_names_overwrite(ingested, change):
    """Another data type or fill value, and a source that has shrunk; nothing is written."""
    folder, target = ingested
    before = stamp(target)
    document = json.loads((folder / "air/zarr.json").read_text())
    (folder / "air/zarr.json").write_text(json.dumps(document | change))
    with pytest.raises(MismatchError) as raised:
        refreeze.sync(folder, target)
    assert "overwrite" in raised.value.hint
    assert stamp(target) == before


def test_another_source_is_refused(ingested, tmp_path):
    """It names both."""
    _, target = ingested
    with pytest.raises(MismatchError, match="was ingested from"):
        refreeze.sync(write(tmp_path / "b", 0, 12), target)


def test_one_of_several_sources_at_its_own_place(tmp_path):
    """One year of a concatenation; references to the other stay, byte for byte in their manifests."""
    first = write(tmp_path / "a", 0, 12)
    second = write(tmp_path / "b", 12, 24, units="days since 2000-01-13")
    target = tmp_path / "t"
    refreeze.ingest([first, second], target, concat_dim="time")
    assert refreeze.sync(second, target).snapshot_id is None
    rewrite(second, "air", slice(0, 3), 5.0)
    report = refreeze.sync(second, target)
    assert (report.added, report.changed, report.removed) == (0, 2, 0)
    rewrite(first, "wind", slice(0, 4), 6.0)
    report = refreeze.sync([first, second], target)
    assert (report.added, report.changed, report.removed) == (0, 1, 0)
    assert refreeze.verify([first, second], target, sample=10).equal


def test_a_dry_run_reads_metadata_once(ingested, monkeypatch):
    """Regression: it read the sources' metadata, and then verify read it again."""
    read, reads = preparation.read_stores, []
    monkeypatch.setattr(
        preparation, "read_stores", lambda *given, **named: reads.append(1) or read(*given, **named)
    )
    refreeze.sync(*ingested, dry_run=True)
    assert len(reads) == 1


def test_a_dry_run_counts_and_shows_and_writes_nothing(ingested, capsys):
    """Counts and examples, in Python and on the command line."""
    folder, target = ingested
    rewrite(folder, "air", slice(0, 3), 5.0)
    before = stamp(target)
    report = refreeze.sync(folder, target, dry_run=True)
    assert (report.added, report.changed, report.removed, report.snapshot_id) == (0, 2, 0, None)
    assert {one["array"] for one in report.examples} == {"/air"}
    outcome = cli(capsys, "sync", folder, target, "--dry-run")
    assert outcome.code == 0
    assert "2 changed" in outcome.out
    assert stamp(target) == before


def test_staged_and_published_later(ingested, capsys):
    """Readers see nothing before; the command's JSON has the fields of the contract."""
    folder, target = ingested
    before = tip(target)
    rewrite(folder, "air", slice(0, 3), 5.0)
    outcome = cli(capsys, "sync", folder, target, "--no-publish", "--json")
    document = json.loads(outcome.out)
    assert {"added", "changed", "removed", "manifests_written", "snapshot_id"} <= set(document)
    assert tip(target) == before
    published = refreeze.publish(target)
    assert published.snapshot_id == document["snapshot_id"] == tip(target)
    assert_equal(folder, target)


def test_on_a_real_server(s3_bucket, tmp_path, monkeypatch):
    """An unchanged source makes no commit, a changed one only what differs."""
    server, bucket = s3_bucket
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    folder = write(tmp_path / "a", 0, 12)
    url, target = upload(server, bucket, folder, "a"), f"s3://{bucket}/t"
    options = {"source_options": server.options, "target_options": server.options}
    refreeze.ingest(url, target, **options)
    assert refreeze.sync(url, target, **options).snapshot_id is None
    grow(folder, 0, 12, 18)
    upload(server, bucket, folder, "a")
    report = refreeze.sync(url, target, **options)
    assert report.published
    assert refreeze.verify(url, target, sample=10, **options).equal
