"""Bad input: each a typed error that names what and where, says what to do, and leaves nothing behind."""

import os

import obstore
import pytest
from iris_sample_data import path as iris_folder

import refreeze
from refreeze import exceptions
from refreeze.exceptions import (
    SourceNotFoundError,
    TargetError,
    UnsupportedArrayError,
)
from refusals import BUILT_IN, fails
from scenarios import (
    VALUES,
    assert_nothing_published,
    edit,
    group,
    local_repository,
    nodes,
    s3_repository,
    state,
    upload,
    write_store,
)


def test_nothing_at_a_local_path(tmp_path, target):
    """A path that does not exist is not an empty store."""
    fails(SourceNotFoundError, tmp_path / "nope", source=tmp_path / "nope", target=target)
    assert not target.exists()


def test_a_folder_that_is_no_store(tmp_path, target):
    """A folder without Zarr metadata is refused before the target is touched."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "data.csv").write_text("1,2")
    fails(SourceNotFoundError, folder, source=folder, target=target)
    assert not target.exists()


def test_nothing_in_a_bucket(s3_bucket, target):
    """An absent prefix of a bucket, by its URL."""
    server, bucket = s3_bucket
    url = f"s3://{bucket}/nope.zarr"
    fails(SourceNotFoundError, url, source=url, target=target, source_options=server.options)
    assert not target.exists()


def test_no_such_bucket(s3_server, target):
    """An absent bucket, by its URL."""
    url = "s3://refreeze-no-such-bucket/air.zarr"
    fails(SourceNotFoundError, url, source=url, target=target, source_options=s3_server.options)
    assert not target.exists()


def test_no_such_target_bucket(s3_server, source):
    """A target in an absent bucket is an error of the target."""
    url = "s3://refreeze-no-such-bucket/air.icechunk"
    fails(TargetError, url, source=source, target=url, target_options=s3_server.options)


@pytest.mark.parametrize("as_url", [False, True])
def test_a_netcdf_file(target, as_url):
    """The most likely mistake: the hint names the tool for it."""
    file = os.path.join(iris_folder, "A1B_north_america.nc")  # noqa: PTH118 iris gives a string
    named = f"file://{file}" if as_url else file
    error = fails(SourceNotFoundError, file, "is a file", source=named, target=target)
    assert "NetCDF" in error.hint
    assert "VirtualiZarr" in error.hint
    assert not target.exists()


def test_a_netcdf_object(s3_bucket, target):
    """On S3 a NetCDF object has nothing below it."""
    server, bucket = s3_bucket
    obstore.put(server.store(bucket), "model.nc", b"CDF\x01")
    url = f"s3://{bucket}/model.nc"
    fails(SourceNotFoundError, url, source=url, target=target, source_options=server.options)


@pytest.mark.parametrize("options", [{"arrays": ["nope"]}, {"arrays": ["air", "zz*"]}])
def test_an_unknown_array(source, target, options):
    """The error lists the arrays that there are."""
    error = fails(
        SourceNotFoundError, options["arrays"][-1], source=source, target=target, **options
    )
    assert error.hint == "arrays: air, nested/deep, time"
    assert not target.exists()


def test_an_unknown_group(source, target):
    """A group that is not there is named with its store."""
    fails(SourceNotFoundError, "nope", source, source=source, target=target, group="nope")


def test_skipping_what_is_not_there_warns(source, target):
    """A skip pattern without a match is a warning: the result is what was asked for."""
    report = refreeze.ingest(source, target, skip_variables=["tas"])
    assert any("tas" in warning for warning in report.warnings)


def corrupt(path):
    path.write_text('{"zarr_format": 3, "node_type"')


def test_a_corrupt_root(source, target):
    """Damage at the root names the store."""
    corrupt(source / "zarr.json")
    fails(UnsupportedArrayError, source, source=source, target=target)
    assert not target.exists()


def test_a_corrupt_nested_array(source, target):
    """Damage deep in the hierarchy names the array."""
    corrupt(source / "nested/deep/zarr.json")
    fails(UnsupportedArrayError, "nested/deep", source=source, target=target)
    assert not target.exists()


def test_a_corrupt_array_in_a_bucket(s3_bucket, source, target):
    """The same on S3, where members are read in one go."""
    server, bucket = s3_bucket
    corrupt(source / "nested/deep/zarr.json")
    url = upload(server, bucket, source, "air.zarr")
    fails(
        UnsupportedArrayError,
        "nested/deep",
        source=url,
        target=target,
        source_options=server.options,
    )


@pytest.mark.parametrize("document", [".zarray", ".zattrs"])
def test_a_corrupt_version_2_array(tmp_path, target, document):
    """Version 2 keeps its metadata in two documents; damage in either names the array."""
    source = write_store(tmp_path / "v2.zarr", zarr_format=2)
    (source / "air" / document).write_text("{")
    fails(UnsupportedArrayError, "air", source=source, target=target)
    assert not target.exists()


UNSUPPORTED = {
    "codec": {"codecs": [{"name": "acme.shrink", "configuration": {}}]},
    "rectilinear": {
        "chunk_grid": {
            "name": "rectilinear",
            "configuration": {"kind": "inline", "chunk_shapes": [[2, 4], [4]]},
        }
    },
    "acme-grid": {"chunk_grid": {"name": "acme-grid", "configuration": {}}},
    "fanout": {"chunk_key_encoding": {"name": "fanout", "configuration": {}}},
    "storage transformers": {"storage_transformers": [{"name": "acme.log", "configuration": {}}]},
    "data type": {"data_type": "acme12"},
}


NAMED = {"codec": "acme.shrink", "data type": "acme12", "storage transformers": "storage"}


@pytest.mark.parametrize("feature", UNSUPPORTED)
def test_unsupported_metadata(source, target, feature):
    """What cannot be referenced is refused by array and feature, and can be left out."""
    edit(source / "air/zarr.json", **UNSUPPORTED[feature])
    error = fails(UnsupportedArrayError, "air", source=source, target=target)
    assert NAMED.get(feature, feature) in error.message.lower()
    assert not target.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"compressor": {"id": "acme"}},
        {"filters": [{"id": "acme"}]},
        {"dtype": "|O", "filters": None},
    ],
)
def test_unsupported_version_2_metadata(tmp_path, target, change):
    """The codecs of version 2 likewise."""
    source = write_store(tmp_path / "v2.zarr", zarr_format=2)
    edit(source / "air/.zarray", **{key: value for key, value in change.items() if value})
    fails(UnsupportedArrayError, "air", source=source, target=target)
    assert not target.exists()


def test_an_unsupported_array_can_be_skipped(source, target):
    """Storage transformers in one array do not keep the others from being ingested."""
    edit(source / "air/zarr.json", **UNSUPPORTED["storage transformers"])
    report = refreeze.ingest(source, target, skip_variables=["air"])
    assert {array.path for array in report.arrays} == {"/time", "/nested/deep"}


@pytest.mark.parametrize("key", ["air/c/1/0", "time/c/0"])
def test_an_empty_chunk(source, target, key):
    """An object of no bytes, referenced or copied: an error that names it; main stays empty."""
    (source / key).write_bytes(b"")
    error = fails(UnsupportedArrayError, key, source=source, target=target)
    assert "--empty-chunks skip" in error.hint
    assert_nothing_published(target)


def test_an_empty_chunk_can_be_skipped(source, target):
    """Asked to, refreeze treats it as missing: it reads as the fill value."""
    (source / "air/c/1/0").write_bytes(b"")
    report = refreeze.ingest(source, target, empty_chunks="skip")
    assert next(a for a in report.arrays if a.path == "/air").missing == 1
    air = group(local_repository(target))["air"][:]
    assert (air[2:4] == 0).all()
    assert (air[:2] == VALUES[:2]).all()
    assert (air[4:] == VALUES[4:]).all()


def test_an_empty_chunk_in_a_bucket(s3_bucket, source):
    """The same on S3; what is staged there can be discarded, as the hint says."""
    server, bucket = s3_bucket
    (source / "air/c/1/0").write_bytes(b"")
    options = {"source_options": server.options, "target_options": server.options}
    url = upload(server, bucket, source, "air.zarr")
    fails(
        UnsupportedArrayError,
        "air/c/1/0",
        source=url,
        target=f"s3://{bucket}/repo",
        max_refs_per_commit=1,
        **options,
    )
    left = state(s3_repository(server, bucket, "repo"))
    assert left["nodes"] == []
    published = {name for name in left["branches"] if not name.startswith("refreeze/")}
    assert published == {"main"}
    refreeze.ingest(url, f"s3://{bucket}/repo", empty_chunks="skip", restart=True, **options)


def test_strays_among_local_chunks(source, target):
    """Strangers and chunks outside the grid are ignored, counted and warned of once an array."""
    (source / "nested/deep/notes.txt").write_text("x")
    for stray in ("README", "c/.DS_Store", "c/9/0", "c/01/0", "c/2/0.bak", "c.0.0"):
        (source / "air" / stray).parent.mkdir(exist_ok=True)
        (source / "air" / stray).write_text("x")
    (source / "air/c/5").mkdir()  # an empty folder is what a directory marker is on disk
    report = refreeze.ingest(source, target)
    about = [warning for warning in report.warnings if "/air:" in warning]
    assert len(about) == 1
    assert "6 keys" in about[0]
    assert "for example air/" in about[0]
    assert len([warning for warning in report.warnings if "notes.txt" in warning]) == 1
    assert (group(local_repository(target))["air"][:] == VALUES).all()


def test_strays_beside_arrays(source, target, s3_bucket):
    """Regression: a file in a group made a local store unreadable; in a bucket it is the same."""
    server, bucket = s3_bucket
    (source / "README.md").write_text("x")
    (source / "nested/.DS_Store").write_bytes(b"\0")
    report = refreeze.ingest(source, target)
    assert any("README.md" in warning for warning in report.warnings)
    assert any(".DS_Store" in warning for warning in report.warnings)
    url = upload(server, bucket, source, "air.zarr")
    report = refreeze.ingest(url, target, target_group="s3", source_options=server.options)
    assert any("README.md" in warning for warning in report.warnings)
    assert {"/air", "/s3/air", "/s3/nested/deep"} <= set(nodes(local_repository(target)))


def test_strays_and_directory_markers_in_a_bucket(s3_bucket, source, target):
    """Zero-byte objects that stand for directories are no chunks either."""
    server, bucket = s3_bucket
    url = upload(server, bucket, source, "air.zarr")
    store = server.store(bucket)
    for stray in ("air/README", "air/c/7/0", "air/c/1/0.bak"):
        obstore.put(store, f"air.zarr/{stray}", b"x")
    markers = ["air.zarr/", "air.zarr/air/", "air.zarr/air/c/", "air.zarr/air/c/1/"]
    for marker in markers:
        put_marker(server, bucket, marker)
    report = refreeze.ingest(url, target, source_options=server.options)
    about = [warning for warning in report.warnings if "/air:" in warning]
    assert len(about) == 1
    assert "air/" in about[0].partition("for example ")[2]
    assert next(a for a in report.arrays if a.path == "/air").references == 3


def put_marker(server, bucket, key):
    """Put an object whose key ends in a slash, which obstore would not do."""
    import botocore.session

    client = botocore.session.get_session().create_client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key_id,
        aws_secret_access_key=server.secret_access_key,
        region_name=server.region,
    )
    client.put_object(Bucket=bucket, Key=key, Body=b"")


def test_every_class_is_listed():
    """The table of built-in bases above is of classes that callers can import by name."""
    assert {kind.__name__ for kind in BUILT_IN} <= set(exceptions.__all__)
