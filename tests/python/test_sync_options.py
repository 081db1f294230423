"""`sync` with the options of an ingest: references keep the form that they have, and every option reaches the core."""

import json
import shutil

import numpy as np
import pytest
import zarr

import refreeze
from modes_for_tests import rewrite, settled, write
from refreeze.exceptions import MismatchError, RegionError, SourceNotFoundError, TargetNotFoundError
from scenarios import (
    cli,
    flags,
    foreign_commit,
    local_contents,
    local_repository,
    stamp,
    tip,
    upload,
)


@pytest.mark.parametrize(
    "form", [{"locations": "absolute"}, {"checksum": "none"}, {"checksum": "last-modified"}]
)
def test_references_keep_their_form(tmp_path, form):
    """However they name objects and notice changes, unchanged ones are left alone, and new ones look like them."""
    folder, target = write(tmp_path / "a", 0, 12), tmp_path / "t"
    refreeze.ingest(folder, target, **form)
    before = stamp(target)
    assert refreeze.sync(folder, target).snapshot_id is None
    assert stamp(target) == before
    (folder / "wind/c/0/0").unlink()
    report = refreeze.sync(folder, target)
    assert (report.added, report.changed, report.removed) == (0, 0, 1)
    shutil.copy(folder / "wind/c/1/0", folder / "wind/c/0/0")
    report = refreeze.sync(folder, target)
    assert (report.added, report.changed, report.removed) == (1, 0, 0)
    refreeze.ingest(folder, tmp_path / "fresh", **form)
    for path, (document, chunks) in local_contents(tmp_path / "fresh").items():
        assert local_contents(target)[path] == (document, chunks), path


def test_references_keep_their_tags(s3_bucket, tmp_path):
    """A repository whose references carry ETags is synced by them; another checksum changes all."""
    server, bucket = s3_bucket
    folder = write(tmp_path / "a", 0, 12)
    url, target = upload(server, bucket, folder, "a"), f"s3://{bucket}/t"
    options = {"source_options": server.options, "target_options": server.options}
    refreeze.ingest(url, target, checksum="etag", **options)
    assert refreeze.sync(url, target, **options).snapshot_id is None
    chunk = folder / "air/c/0/0"
    chunk.write_bytes(bytes(reversed(chunk.read_bytes())))
    upload(server, bucket, folder, "a")
    report = refreeze.sync(url, target, **options)
    assert (report.added, report.changed, report.removed) == (0, 1, 0)
    assert refreeze.verify(url, target, sample=10, **options).equal
    report = refreeze.sync(url, target, checksum="last-modified", arrays=["air"], **options)
    assert (report.added, report.changed, report.removed) == (0, 8, 0)


def test_the_options_of_the_command(ingested, capsys):
    """Every option of an ingest that makes sense is one of the command too."""
    folder, target = ingested
    shutil.copytree(folder / "air", folder / "extra")
    rewrite(folder, "air", slice(0, 3), 5.0)
    document = cli(
        capsys, "sync", folder, target, "--new-arrays", "add", "--load", "extra", "--load", "time",
        "--load", "x", "--load", "crs", "--checksum", "last-modified", "--memory", "64MiB",
        "--concurrency", 3, "--max-refs-per-commit", 4, "--message", "monday", "--array", "air",
        "--array", "extra", "--skip", "wind", "--json",
    ).document  # fmt: skip
    assert (document["changed"], document["new_arrays"]) == (2, ["/extra"])
    history = list(local_repository(target).ancestry(branch="main"))
    assert history[0].message == "monday"
    repository = local_repository(target)
    locations = repository.readonly_session("main").all_virtual_chunk_locations()
    assert any("/air/" in location for location in locations)
    assert not any("/extra/" in location for location in locations)
    assert cli(capsys, "verify", folder, target, "--load", "extra", "--array", "extra").code == 0
    assert cli(capsys, "sync", folder, target, "--checksum", "md5").code == 2
    assert cli(capsys, "sync", folder, target, "--new-arrays", "some").code == 2
    assert cli(capsys, "sync", folder, target, "--region", "time").code == 2
    assert cli(capsys, "sync", target).code == 2


def test_a_group_into_another_group(tmp_path):
    """With --group and --target-group, both ways."""
    root = tmp_path / "root"
    zarr.open_group(root, mode="w")
    folder = write(root / "deep", 0, 12)
    target = tmp_path / "t"
    where = {"group": "deep", "target_group": "models/one"}
    refreeze.ingest(root, target, **where)
    assert refreeze.sync(root, target, **where).snapshot_id is None
    rewrite(folder, "air", slice(0, 3), 5.0)
    assert not refreeze.verify(root, target, **where).equal
    report = refreeze.sync(root, target, **where)
    assert (report.added, report.changed, report.removed) == (0, 2, 0)
    assert refreeze.verify(root, target, **where).equal


def test_a_region_alone(ingested):
    """Only what lies in it is followed."""
    folder, target = ingested
    rewrite(folder, "air", slice(0, 3), 5.0)
    rewrite(folder, "air", slice(9, 12), 6.0)
    region = {"time": slice(0, 3)}
    report = refreeze.sync(folder, target, region=region, arrays=["air"])
    assert (report.added, report.changed, report.removed) == (0, 2, 0)
    assert refreeze.verify(folder, target, region=region, arrays=["air"]).equal
    assert refreeze.verify(folder, target, arrays=["air"]).changed == 2
    with pytest.raises(RegionError):
        refreeze.sync(folder, target, region={"time": slice(1, 3)}, arrays=["air"])
    with pytest.raises(RegionError):
        refreeze.sync(folder, target, region={"time": slice(90, 99)})


def test_a_branch_of_its_own(ingested):
    """Another branch than main."""
    folder, target = ingested
    repository = local_repository(target)
    repository.create_branch("dev", repository.lookup_branch("main"))
    rewrite(folder, "air", slice(0, 3), 5.0)
    before = tip(target)
    report = refreeze.sync(folder, target, branch="dev")
    assert report.snapshot_id == repository.lookup_branch("dev")
    assert tip(target) == before
    assert refreeze.verify(folder, target, branch="dev").equal
    assert not refreeze.verify(folder, target).equal


def test_a_branch_that_has_moved(ingested):
    """Published onto somebody else's commit with a rebase, and refused where that touched the same array."""
    folder, target = ingested
    rewrite(folder, "air", slice(0, 3), 5.0)
    refreeze.sync(folder, target, no_publish=True)
    foreign_commit(target)
    with pytest.raises(refreeze.exceptions.ConflictError):
        refreeze.publish(target)
    refreeze.publish(target, rebase=True)
    report = refreeze.verify(folder, target, arrays=["air", "wind", "time"])
    assert report.equal, report.kinds
    rewrite(folder, "air", slice(3, 6), 6.0)
    refreeze.sync(folder, target, no_publish=True, skip_variables=["theirs"])
    session = local_repository(target).writable_session("main")
    zarr.open_array(session.store, path="air", mode="a").attrs["by"] = "them"
    session.commit("of the same array")
    with pytest.raises(refreeze.exceptions.ConflictError):
        refreeze.publish(target, rebase=True)


def test_bad_calls(ingested, tmp_path, capsys):
    """The errors of the contract, and on the command line one to three lines and their exit codes."""
    folder, target = ingested
    empty = tmp_path / "empty"
    before = stamp(target)
    with pytest.raises(SourceNotFoundError):
        refreeze.sync(empty, target)
    with pytest.raises(TargetNotFoundError):
        refreeze.sync(folder, empty)
    with pytest.raises(TargetNotFoundError):
        refreeze.sync(folder, target, target_group="elsewhere")
    with pytest.raises(TargetNotFoundError):
        refreeze.sync(folder, target, branch="elsewhere")
    with pytest.raises(SourceNotFoundError):
        refreeze.sync(folder, target, arrays=["nothing"])
    with pytest.raises(MismatchError, match="was ingested from"):
        refreeze.sync(write(tmp_path / "b", 0, 12), target)
    for wrong in ({"checksum": 3}, {"new_arrays": 3}, {"dry_run": 1}, {"memory": []}):
        with pytest.raises(TypeError):
            refreeze.sync(folder, target, **wrong)
    for wrong in ({"checksum": "md5"}, {"new_arrays": "some"}, {"concurrency": 0}):
        with pytest.raises(ValueError, match=r"md5|some|concurrency"):
            refreeze.sync(folder, target, **wrong)
    assert stamp(target) == before
    assert not empty.exists()
    outcome = cli(capsys, "sync", tmp_path / "b", target, "--json")
    assert (outcome.code, outcome.document["error"]["type"]) == (1, "MismatchError")
    assert 1 <= len(outcome.err.splitlines()) <= 3


def test_objects_of_no_bytes(ingested):
    """An error that names the key, or a chunk that is missing; verify tells them as missing."""
    folder, target = ingested
    (folder / "air/c/1/0").write_bytes(b"")
    with pytest.raises(refreeze.exceptions.RefreezeError, match="air/c/1/0"):
        refreeze.sync(folder, target)
    compared = refreeze.verify(folder, target)
    assert compared.kinds == {"missing_in_source": 1}
    report = refreeze.sync(folder, target, empty_chunks="skip")
    assert (report.added, report.changed, report.removed) == (0, 0, 1)
    assert refreeze.verify(folder, target).equal


def test_sources_that_were_merged(tmp_path):
    """Each alone, and both together."""
    first, second = write(tmp_path / "a", 0, 12, names=("air",)), tmp_path / "b"
    root = zarr.open_group(second, mode="w")
    root.create_array("mask", data=np.ones((2, 2)), chunks=(1, 2), dimension_names=("y", "x2"))
    settled(second)
    target = tmp_path / "t"
    refreeze.ingest([first, second], target)
    assert refreeze.sync([first, second], target).snapshot_id is None
    for alone in (first, second):
        assert refreeze.sync(alone, target).snapshot_id is None, alone
    rewrite(first, "air", slice(0, 3), 5.0)
    assert refreeze.sync(second, target).snapshot_id is None
    assert refreeze.sync(first, target).changed == 2
    assert refreeze.verify([first, second], target, sample=5).equal


def test_every_setting_reaches_the_servers(s3_bucket, tmp_path, capsys):
    """Options for source and target on the command line, of both verbs."""
    server, bucket = s3_bucket
    url = upload(server, bucket, write(tmp_path / "a", 0, 12), "a")
    target = f"s3://{bucket}/t"
    stores = [*flags("--source-option", server.options), *flags("--target-option", server.options)]
    assert cli(capsys, "ingest", url, target, *stores).code == 0
    outcome = cli(capsys, "sync", url, target, *stores, "--json")
    assert (outcome.code, outcome.document["snapshot_id"]) == (0, None)
    output = tmp_path / "differences.parquet"
    outcome = cli(
        capsys, "verify", url, target, *stores, "--json", "--sample", 5, "--output", output
    )
    assert (outcome.code, outcome.document["equal"], outcome.document["sampled"]) == (0, True, 5)
    assert json.loads(outcome.out)["output"] == str(output)
    assert output.exists()
