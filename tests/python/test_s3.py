"""Sources and targets on an S3-compatible server: the same results as on local disk, many pages, no secrets anywhere."""

import itertools
import os
import subprocess
import sys
import time

import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr

import refreeze
from places import Place
from stores_for_tests import (
    assert_same_dataset,
    assert_same_tree,
    open_result,
    write_array,
    write_mixed_store,
)

AWKWARD = [
    "a#b",
    "what?",
    "a%20b",
    "100%",
    "a b",
    "a+b",
    "ü",
    "日本",
    "it's",
    'a"b',
    "a&b;c,d",
    "a%2Fb",
]


pytestmark = pytest.mark.usefixtures("no_settings_from_outside")


@pytest.fixture
def place(s3_bucket):
    return Place(*s3_bucket)


@pytest.fixture
def local(tmp_path):
    return write_mixed_store(tmp_path / "air.zarr")


def check(local, result):
    assert_same_dataset(local, result)
    assert_same_tree(zarr.open_group(local, mode="r", use_consolidated=False), result.group())


@pytest.mark.parametrize(("source", "target"), [("s3", "s3"), ("s3", "local"), ("local", "s3")])
def test_every_pair_of_places(place, local, tmp_path, source, target):
    """Chunks are read back through the target with the wheel, from wherever they are."""
    given, options = str(local), {}
    if source == "s3":
        given = place.upload(local, "data/air.zarr")
        options["source_options"] = place.options
    repository = str(tmp_path / "repository")
    if target == "s3":
        repository = place.url("repositories/air")
        options["target_options"] = place.options
    report = refreeze.ingest(given, repository, **options)
    assert report.source == given
    assert report.target == repository
    access = place.credentials if source == "s3" else icechunk.credentials.LocalFileSystemAccess
    storage = place.storage("repositories/air") if target == "s3" else None
    result = open_result(report, storage, access)
    check(local, result)
    expected = sorted(
        f"{given if source == 's3' else f'file://{local}'}/{name}/{key}"
        for name, keys in {
            "air": [f"{i}.{j}" for i in range(4) for j in range(4)],
            "one/two/ice": ["0.0", "0.1", "2.0", "2.1", "2.2"],
        }.items()
        for key in keys
    )
    assert result.locations() == expected
    assert refreeze.ingest(given, repository, **options).already_published


def test_settings_from_the_environment(place, local, monkeypatch):
    """AWS_* variables do what options do, for both sides, and options win over them."""
    url = place.upload(local, "air.zarr")
    for name, value in place.server.environment.items():
        monkeypatch.setenv(name, value)
    report = refreeze.ingest(url, place.url("by-environment"))
    check(local, place.read(report, "by-environment"))

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-key-of-this-server")
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
    report = refreeze.ingest(
        url,
        place.url("by-options"),
        source_options=place.options,
        target_options=place.options,
    )
    check(local, place.read(report, "by-options"))


def test_the_command_line_on_s3(place, local, monkeypatch):
    """Options of the command line reach both stores, and the printed lines open the result."""
    url = place.upload(local, "air.zarr")
    command = [sys.executable, "-m", "refreeze", "ingest", url, place.url("cli"), "--quiet"]
    for side, (name, value) in itertools.product(("source", "target"), place.options.items()):
        command += [f"--{side}-option", f"{name}={value}"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert run.stderr == ""
    assert place.server.secret_access_key not in run.stdout
    code = run.stdout[run.stdout.index("import icechunk") :]
    for name in ("access_key_id", "secret_access_key"):
        monkeypatch.setenv(f"AWS_{name.upper()}", place.options[name])
    names = {}
    exec(code, names)  # noqa: S102 the very lines that a user would paste
    xr.testing.assert_identical(names["ds"].load(), xr.open_zarr(local, consolidated=False).load())


def test_stores_and_registries(place, local):
    """(obstore store, path), with and without a prefix, and (registry, url) mean the same as the URL."""
    from obspec_utils.registry import ObjectStoreRegistry

    url = place.upload(local, "da ta/air.zarr")
    plain = place.read(
        refreeze.ingest(
            url, place.url("plain"), source_options=place.options, target_options=place.options
        ),
        "plain",
    )
    bare = place.server.store(place.bucket)
    registry = ObjectStoreRegistry({f"s3://{place.bucket}": bare})
    for number, given in enumerate(
        [
            (bare, "da ta/air.zarr"),
            (place.server.store(place.bucket, "da ta"), "air.zarr"),
            (place.server.store(place.bucket, "da ta/air.zarr"), ""),
            (registry, url),
        ]
    ):
        target = f"store/{number}"
        report = refreeze.ingest(given, place.url(target), target_options=place.options)
        assert report.source == url
        assert report.container == plain.report.container
        result = place.read(report, target)
        assert result.locations() == plain.locations()
        check(local, result)
    one = refreeze.ingest(
        (place.server.store(place.bucket, "da ta/air.zarr"), "one/two/ice"),
        place.url("one"),
        target_options=place.options,
    )
    assert [array.path for array in one.arrays] == ["/ice"]
    assert place.read(one, "one").array("ice")[1, 1] == 7


def test_a_target_storage_of_object_store(place, local):
    """icechunk.Storage on S3 is handed over by its settings."""
    storage = icechunk.Storage.new_s3_object_store(
        icechunk.S3Options(
            region=place.server.region,
            endpoint_url=place.server.endpoint,
            allow_http=True,
            force_path_style=True,
        ),
        place.bucket,
        "handed/over",
        icechunk.s3_static_credentials(
            access_key_id=place.server.access_key_id,
            secret_access_key=place.server.secret_access_key,
        ),
    )
    report = refreeze.ingest(str(local), storage)
    assert place.server.secret_access_key not in str(report)
    check(local, open_result(report, place.storage("handed/over")))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_names_that_urls_write_differently(place, tmp_path, zarr_format):
    """Variables, groups and root folders of any name are listed, referenced and read."""
    source = tmp_path / "source.zarr"
    root = zarr.open_group(source, mode="w", zarr_format=zarr_format)
    for number, name in enumerate(AWKWARD):
        write_array(root, name, "i4")[0] = number
        write_array(root.create_group(f"group {name}"), name, "i4")[0] = number
    prefix = 'a #b%20?"ü/st+ore.zarr'
    url = place.upload(source, prefix)
    report = refreeze.ingest(
        url, place.url("names"), source_options=place.options, target_options=place.options
    )
    result = place.read(report, "names")
    assert_same_tree(root, result.group())
    keys = {
        file.relative_to(source).as_posix()
        for file in source.rglob("*")
        if file.is_file() and not file.name.startswith((".z", "zarr.json"))
    }
    assert set(result.locations()) == {f"{url}/{key}" for key in keys}


def test_more_chunks_than_a_page_holds(place, tmp_path):
    """Listings of several pages are complete, in any key layout, whatever the order of the keys."""
    source = tmp_path / "source.zarr"
    root = zarr.open_group(source, mode="w")
    shapes = {"line": (2_345,), "plane": (51, 41), "dots": (11, 10, 11)}
    keys = {"dots": {"name": "v2", "separator": "."}}
    files = {}
    for name, shape in shapes.items():
        array = root.create_array(
            name,
            shape=shape,
            chunks=(1,) * len(shape),
            dtype="i2",
            compressors=None,
            chunk_key_encoding=keys.get(name),
        )
        for number, coordinates in enumerate(itertools.product(*map(range, shape))):
            if number % 13 != 5:
                key = f"big.zarr/{name}/{array.metadata.encode_chunk_key(coordinates)}"
                files[key] = np.int16(number).tobytes()
    place.write(files)
    url = place.upload(source, "big.zarr")
    report = refreeze.ingest(
        url,
        place.url("many"),
        source_options=place.options,
        target_options=place.options,
        max_refs_per_commit=900,
        refs_per_manifest=500,
    )
    result = place.read(report, "many")
    assert result.locations() == sorted(place.url(key) for key in files)
    assert report.references_written == len(files)
    # A batch is a range of numbers, which lie in several runs among the keys in byte order.
    assert len(files) <= report.keys_listed <= 2 * len(files)
    assert report.commits >= 6
    assert report.list_requests <= 2 * len(files) / 1000 + 4 * report.commits
    for name, shape in shapes.items():
        corner = tuple(length - 1 for length in shape)
        number = int(np.prod(shape)) - 1
        assert result.array(name)[corner] == (0 if number % 13 == 5 else number)


def test_markers_of_folders_are_no_chunks(place, tmp_path):
    """A marker `c/0/` is listed as `c/0`: it is no empty chunk, nor out of order after `c/0-old`."""
    source = tmp_path / "source.zarr"
    root = zarr.open_group(source, mode="w")
    line = root.create_array("line", shape=(6,), chunks=(2,), dtype="i4", fill_value=7)
    line[2:] = [2, 3, 4, 5]
    plane = write_array(root, "plane", "i4")
    url = place.upload(source, "air.zarr")
    place.write({"air.zarr/plane/c/0-old": b"x"})
    for marker in ("plane/c", "plane/c/0", "plane/c/1", "line/c/0"):
        put_marker(place.server, place.bucket, f"air.zarr/{marker}/")
    options = {"source_options": place.options, "target_options": place.options}
    report = refreeze.ingest(url, place.url("markers"), **options)
    result = place.read(report, "markers")
    assert result.chunks("line") == {(1,), (2,)}
    assert result.array("line")[:].tolist() == line[:].tolist() == [7, 7, 2, 3, 4, 5]
    np.testing.assert_array_equal(result.array("plane")[:], plane[:])
    about_keys = {w.partition(" below")[0] for w in report.warnings if w.startswith("array")}
    assert about_keys == {
        "array /line: 1 key",
        "array /plane: 4 keys",
    }

    place.write({"air.zarr/line/c/2": b""})
    with pytest.raises(refreeze.exceptions.UnsupportedArrayError, match=r"line/c/2.*empty object"):
        refreeze.ingest(url, place.url("empty"), **options)
    report = refreeze.ingest(url, place.url("empty"), empty_chunks="skip", **options)
    assert place.read(report, "empty").chunks("line") == {(1,)}


def test_an_object_that_changes_later_is_not_read(place, local):
    """A reference carries the object's last-modified time: a later object is refused."""
    url = place.upload(local, "air.zarr")
    report = refreeze.ingest(
        url, place.url("repository"), source_options=place.options, target_options=place.options
    )
    key = "air.zarr/one/two/ice/0.0"
    if place.server.kind == "versitygw":
        later = time.time() + 2
        os.utime(place.server.root / place.bucket / key, (later, later))
        time.sleep(1.1)  # servers ignore an If-Unmodified-Since that is in their future
    else:
        time.sleep(1.1)
        place.upload(local, "air.zarr")
    result = place.read(report, "repository")
    with pytest.raises(icechunk.IcechunkError, match="changed"):
        result.array("one/two/ice")[0, 0]
    assert result.array("one/two/ice")[6, 0] == 31


def test_a_whole_bucket_as_the_source(place, local):
    """A store at the root of a bucket has no prefix."""
    place.upload(local, "")
    target = place.server.new_bucket()
    report = refreeze.ingest(
        f"s3://{place.bucket}",
        f"s3://{target}/repository",
        source_options=place.options,
        target_options=place.options,
        loadable_variables=[],
    )
    result = open_result(
        report, Place(place.server, target).storage("repository"), place.credentials
    )
    assert report.container == f"s3://{place.bucket}/"
    assert f"s3://{place.bucket}/air/0.0" in result.locations()
    assert result.array("x")[9] == 1


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


def test_a_server_that_refuses_listed_times_is_noticed(place, local):
    """Versitygw refuses a read that carries the object's own time: references take the next second.

    moto does as S3 does: there the references carry the listed time.
    """
    url = place.upload(local, "air.zarr")
    if place.server.kind == "versitygw":
        for path in (place.server.root / place.bucket / "air.zarr").rglob("*"):
            os.utime(path, (1_700_000_000.25, 1_700_000_000.25))
    report = refreeze.ingest(
        url, place.url("repository"), source_options=place.options, target_options=place.options
    )
    noticed = any("If-Unmodified-Since" in warning for warning in report.warnings)
    assert noticed == (place.server.kind == "versitygw")
    assert place.read(report, "repository").array("one/two/ice")[6, 0] == 31
