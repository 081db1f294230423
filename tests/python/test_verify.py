"""`verify`: every kind of difference between sources and a repository is found, and nothing else."""

import csv
import json
import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

import refreeze
from modes_for_tests import grow, rewrite, settled, write
from refreeze.exceptions import MismatchError, RegionError, TargetNotFoundError
from scenarios import cli, local_repository, stamp, upload


def kinds(report):
    """Return what differs, and how often."""
    assert report.equal == (not report.kinds)
    return report.kinds


def test_an_ingested_store_is_equal_and_the_target_is_not_written(ingested):
    """All references and copied chunks are compared, some are read both ways, nothing is written."""
    source, target = ingested
    before = stamp(target)
    report = refreeze.verify(source, target, sample=20)
    assert report.equal, report
    assert not report.examples, report
    chunks = [file for file in source.rglob("*") if file.is_file() and file.suffix != ".json"]
    assert report.checked == len(chunks)
    assert (report.sampled, report.sample_mismatches, report.stale) == (20, 0, 0)
    assert stamp(target) == before


def test_new_vanished_and_changed_chunks_are_told_with_both_sides(ingested):
    """A chunk that was added, one deleted, one of another length and one of another time."""
    source, target = ingested
    (source / "air/c/1/0").unlink()
    (source / "holes/c/1").mkdir()
    shutil.copy(source / "holes/c/0/0", source / "holes/c/1/0")
    with (source / "air/c/2/1").open("ab") as file:
        file.write(b"more")
    os.utime(source / "wind/c/0/0", (1_700_000_900,) * 2)
    report = refreeze.verify(source, target)
    assert kinds(report) == {
        "missing_in_source": 1,
        "missing_in_target": 1,
        "length": 1,
        "last_modified": 1,
    }
    assert (report.missing_in_source, report.missing_in_target, report.changed) == (1, 1, 2)
    told = {one["kind"]: one for one in report.examples}
    assert told["missing_in_source"]["coordinates"] == [1, 0]
    assert told["missing_in_source"]["source"] is None
    assert told["missing_in_target"]["array"] == "/holes"
    assert told["missing_in_target"]["target"] is None
    assert told["length"]["source"]["length"] == told["length"]["target"]["length"] + 4
    assert told["last_modified"]["source"]["last_modified"] == "2023-11-14T22:28:20Z"
    assert told["length"]["source"]["location"].endswith("/air/c/2/1")


def test_a_reference_to_another_object_is_a_difference(ingested):
    """Also to another chunk of the same array, be it the first that is looked at; and a native chunk."""
    source, target = ingested
    repository = local_repository(target)
    session = repository.writable_session("main")
    (prefix,) = repository.config.virtual_chunk_containers
    size = (source / "air/c/0/1").stat().st_size
    modified = int((source / "air/c/0/1").stat().st_mtime) + 1
    for key, chunk in (("air/c/0/0", "air/c/0/1"), ("wind/c/0/0", "air/c/0/1")):
        url = f"{prefix}{chunk}"
        from datetime import UTC, datetime

        session.store.set_virtual_ref(
            key, url, offset=0, length=size, checksum=datetime.fromtimestamp(modified, UTC)
        )
    zarr.open_array(session.store, path="sharded", mode="a")[0:6] = 5
    session.commit("wrong references")
    report = refreeze.verify(source, target)
    # A native chunk is no difference by itself, its length is.
    assert kinds(report) == {"location": 2, "length": 1}
    assert {one["array"] for one in report.examples} == {"/air", "/wind", "/sharded"}


def test_metadata_and_copied_coordinates_are_compared(ingested):
    """Attributes of arrays and groups, fill values, and the values of what is copied."""
    source, target = ingested
    root = zarr.open_group(source, mode="a")
    root.attrs["title"] = "reprocessed"
    root["air"].attrs["units"] = "K"
    root["time"][7] = 70
    document = json.loads((source / "wind/zarr.json").read_text())
    (source / "wind/zarr.json").write_text(json.dumps(document | {"fill_value": 1.5}))
    settled(source)
    report = refreeze.verify(source, target)
    assert kinds(report) == {
        "group_attribute": 1,
        "attributes.units": 1,
        "fill_value": 1,
        "values": 1,
    }
    values = next(one for one in report.examples if one["kind"] == "values")
    assert (values["array"], values["coordinates"]) == ("/time", [1])
    assert (values["source"], values["target"]) == ({"value": "70"}, {"value": "7"})


def test_arrays_that_are_new_or_gone_are_differences(ingested):
    """With their chunks, which one side does not have."""
    source, target = ingested
    shutil.rmtree(source / "wind")
    shutil.copytree(source / "air", source / "extra")
    report = refreeze.verify(source, target)
    assert report.kinds["array_missing_in_source"] == report.kinds["array_missing_in_target"] == 1
    assert report.missing_in_target == len(list((source / "extra").glob("c/*/*")))
    assert report.missing_in_source == 3
    only = refreeze.verify(source, target, arrays=["air", "holes", "time"])
    assert only.equal


def test_growth_and_shrinking_are_told(ingested):
    """A longer source misses references, a shorter one objects; shapes differ."""
    source, target = ingested
    grow(source, 0, 12, 20)
    report = refreeze.verify(source, target, arrays=["air", "time"])
    assert report.kinds["shape"] == 2, report
    assert report.missing_in_target == 6, report
    assert refreeze.verify(source, target, region={"time": slice(0, 12)}, arrays=["air"]).equal
    shutil.rmtree(source)
    write(source, 0, 6)
    report = refreeze.verify(source, target, arrays=["air"])
    assert report.kinds["shape"] == 1, report
    assert report.missing_in_source == 4, report


def test_sources_that_follow_each_other_are_compared_together_or_alone(tmp_path):
    """Each at its own offset; references to others are left alone, with a warning."""
    first, second = (
        write(tmp_path / "a", 0, 12),
        write(tmp_path / "b", 12, 24, units="days since 2000-01-13"),
    )
    target = tmp_path / "t"
    refreeze.ingest([first, second], target, concat_dim="time")
    both = refreeze.verify([first, second], target, sample=10)
    assert both.equal, both
    assert not both.warnings, both
    for alone in (first, second):
        report = refreeze.verify(alone, target)
        assert report.equal, report
        assert 0 < report.checked < both.checked, report
        assert any("other sources" in text for text in report.warnings)
    rewrite(second, "air", slice(0, 3), 5.0)
    (second / "wind/c/2/0").unlink()
    assert refreeze.verify(first, target).equal
    report = refreeze.verify([first, second], target)
    assert (report.changed, report.missing_in_source) == (2, 1), report
    assert {tuple(one["coordinates"]) for one in report.examples} == {(4, 0), (4, 1), (5, 0)}


def test_merged_sources_are_compared_together_or_alone(tmp_path):
    """What another source has brought is no difference when that is not given."""
    first, second = (
        write(tmp_path / "a", 0, 12, names=("air",)),
        write(tmp_path / "b", 0, 12, names=("wind",), attributes={"title": "other"}),
    )
    target = tmp_path / "t"
    for name in ("crs", "month", "height"):
        shutil.rmtree(second / name)
    refreeze.ingest([first, second], target)
    assert refreeze.verify([first, second], target).equal
    assert refreeze.verify(first, target).equal
    report = refreeze.verify(second, target)
    assert report.equal, report
    assert report.warnings, report


def test_a_part_of_a_source_is_compared_with_its_region(tmp_path):
    """After a create with a region, at the recorded offset; without it shapes differ."""
    source, target = write(tmp_path / "a", 0, 24), tmp_path / "t"
    region = {"time": slice(12, 24)}
    refreeze.ingest(source, target, region=region)
    report = refreeze.verify(source, target, region=region)
    assert report.equal, report
    rewrite(source, "air", slice(12, 15), 5.0)
    report = refreeze.verify(source, target, region=region)
    assert [one["coordinates"][0] for one in report.examples] == [0, 0]
    assert not refreeze.verify(source, target).equal
    with pytest.raises(MismatchError, match="begins at element 12"):
        refreeze.verify(source, target, region={"time": slice(0, 24)})


def test_a_sampled_object_that_has_changed_is_stale(ingested):
    """Icechunk refuses to read it, which is no failure of verify but a finding of its own kind."""
    source, target = ingested
    for file in (source / "air/c").rglob("*"):
        if file.is_file():
            os.utime(file, (1_700_000_900,) * 2)
    report = refreeze.verify(source, target, sample=1_000, arrays=["air", "wind"])
    assert (report.stale, report.sample_mismatches) == (8, 0), report
    assert report.sampled == 11
    assert report.changed == 8
    stale = next(one for one in report.examples if one["kind"] == "stale")
    assert "has changed" in stale["target"]["error"]


def test_a_sample_is_spread_over_arrays_and_manifests(tmp_path):
    """One of each array in turn, and of each of its manifests: what is stale is in the file, so all that were read."""
    folder, target = write(tmp_path / "a", 0, 12, names=("air", "wind")), tmp_path / "t"
    refreeze.ingest(folder, target, refs_per_manifest=4, arrays=["air", "wind"])
    for file in folder.rglob("c/*/*"):
        os.utime(file, (1_700_000_900,) * 2)
    output = tmp_path / "differences.csv"
    report = refreeze.verify(folder, target, sample=4, output=output, arrays=["air", "wind"])
    assert report.sampled == report.stale == 4
    with output.open() as file:
        stale = [row for row in csv.DictReader(file) if row["kind"] == "stale"]
    read = [(row["array"], tuple(json.loads(row["coordinates"]))) for row in stale]
    # `air` has two manifests of two days each, `wind` one.
    assert sorted(name for name, _ in read) == ["/air", "/air", "/wind", "/wind"]
    assert {at[0] // 2 for name, at in read if name == "/air"} == {0, 1}


@pytest.mark.parametrize("suffix", ["parquet", "csv", "arrow"])
def test_every_difference_is_in_the_file(ingested, tmp_path, suffix):
    """More than a report shows: array, coordinates, kind and both sides."""
    source, target = ingested
    for file in list((source / "air/c").rglob("*")):
        if file.is_file():
            file.unlink()
    zarr.open_group(source, mode="a").attrs["title"] = "other"
    output = tmp_path / f"differences.{suffix}"
    report = refreeze.verify(source, target, output=output)
    assert report.missing_in_source == 8
    assert len(report.examples) < 9
    if suffix == "csv":
        with output.open() as file:
            rows = list(csv.DictReader(file))
    elif suffix == "parquet":
        rows = pq.read_table(output).to_pylist()
    else:
        rows = pa.ipc.open_file(output).read_all().to_pylist()
    assert len(rows) == sum(report.kinds.values())
    gone = [row for row in rows if row["kind"] == "missing_in_source"]
    assert {tuple(json.loads(row["coordinates"])) for row in gone} == {
        (at, x) for at in range(4) for x in range(2)
    }
    assert not any(row["source"] for row in gone)
    assert all(json.loads(row["target"])["length"] for row in gone)


def test_the_command_exits_with_one_when_anything_differs(ingested, capsys, tmp_path):
    """0 and 1; JSON and text; 2 for wrong usage, and typed errors for what is not there."""
    source, target = ingested
    assert cli(capsys, "verify", source, target).code == 0
    (source / "air/c/1/0").unlink()
    outcome = cli(capsys, "verify", source, target, "--json", "--sample", 3)
    assert outcome.code == 1
    document = json.loads(outcome.out)
    assert document["missing_in_source"] == 1
    assert document["equal"] is False
    assert document["examples"][0]["array"] == "/air"
    outcome = cli(capsys, "verify", source, target)
    assert outcome.code == 1
    assert "missing_in_source: 1" in outcome.out
    assert "[1, 0]" in outcome.out
    assert cli(capsys, "verify", source, target, "--sample", "-1").code == 2
    assert cli(capsys, "verify", source, target, "--output", tmp_path / "x.txt").code == 2
    assert cli(capsys, "verify", target).code == 2
    assert cli(capsys, "verify", source, tmp_path / "nothing").code == 1


def test_bad_calls_get_the_errors_of_the_contract(ingested, tmp_path):
    """Another source, a target without the arrays, regions that do not fit."""
    source, target = ingested
    other = write(tmp_path / "other", 0, 12)
    with pytest.raises(MismatchError, match="was ingested from"):
        refreeze.verify(other, target)
    with pytest.raises(TargetNotFoundError, match="has no array"):
        refreeze.verify(source, target, target_group="elsewhere")
    with pytest.raises(RegionError):
        refreeze.verify(source, target, region={"time": slice(50, 60)})
    with pytest.raises(RegionError, match="depth"):
        refreeze.verify(source, target, region={"depth": slice(0, 1)})
    with pytest.raises(RegionError):
        refreeze.verify(source, target, region={"time": slice(1, 12)}, arrays=["air"])
    with pytest.raises(TypeError, match="sample"):
        refreeze.verify(source, target, sample="3")


def test_memory_and_batches_do_not_change_what_is_found(ingested):
    """Parts that are small, from manifests that are larger than they."""
    source, target = ingested
    (source / "air/c/1/0").unlink()
    small = refreeze.verify(source, target, memory="16MiB", concurrency=1)
    assert small.kinds == refreeze.verify(source, target).kinds == {"missing_in_source": 1}


def test_on_a_real_server(s3_bucket, tmp_path, monkeypatch):
    """Source and target on S3, read both ways; an object that was written again is found."""
    server, bucket = s3_bucket
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    folder = write(tmp_path / "a", 0, 12)
    url = upload(server, bucket, folder, "a")
    options = {"source_options": server.options, "target_options": server.options}
    refreeze.ingest(url, f"s3://{bucket}/t", refs_per_manifest=4, **options)
    report = refreeze.verify(url, f"s3://{bucket}/t", sample=10, **options)
    assert report.equal, report
    assert report.sampled == 10, report
    rewrite(folder, "air", slice(0, 3), 5.0)
    (tmp_path / "part").mkdir()
    shutil.copytree(folder / "air/c/0", tmp_path / "part/air/c/0")
    import time

    time.sleep(1.1)  # Times of objects are whole seconds.
    upload(server, bucket, tmp_path / "part", "a")
    report = refreeze.verify(url, f"s3://{bucket}/t", **options)
    assert report.changed == 2, report
    assert set(report.kinds) <= {"length", "last_modified"}, report


def test_references_with_e_tags_are_compared_by_them(s3_bucket, tmp_path, monkeypatch):
    """What references carry is what is listed; another object of the same length is found."""
    server, bucket = s3_bucket
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    folder = write(tmp_path / "a", 0, 12)
    url = upload(server, bucket, folder, "a")
    options = {"source_options": server.options, "target_options": server.options}
    refreeze.ingest(url, f"s3://{bucket}/t", checksum="etag", **options)
    report = refreeze.verify(url, f"s3://{bucket}/t", sample=10, **options)
    assert report.equal, report
    chunk = folder / "air/c/0/0"
    chunk.write_bytes(bytes(reversed(chunk.read_bytes())))
    upload(server, bucket, folder, "a")
    report = refreeze.verify(url, f"s3://{bucket}/t", **options)
    assert report.kinds == {"e_tag": 1}, report
