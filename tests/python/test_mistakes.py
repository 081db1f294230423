"""The mistakes that newcomers make: each is called what it is, with the command that works.

Held to the letter by snapshots, as `test_cli_snapshots` does; where the command can be run here, it is.
"""

import json
import re
import shlex

import icechunk
import numpy as np
import pytest
import zarr

import refreeze
from refreeze.exceptions import SourceNotFoundError
from scenarios import cli, flags, write_store

FAR = "127.0.0.1:PORT"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    """Take settings of stores out of the environment."""
    import os

    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)


@pytest.fixture
def said(capsys, tmp_path, monkeypatch):
    """Run an ingest that must fail; return what it says, without what differs every time."""
    monkeypatch.chdir(tmp_path)

    def run(source, *options):
        outcome = cli(capsys, "ingest", source, "target", *options)
        assert outcome.code == 1
        assert not outcome.out
        assert not (tmp_path / "target").exists()
        text = outcome.err.replace(str(tmp_path), "FOLDER")
        text = re.sub(r"127\.0\.0\.1:\d+", FAR, text)
        return re.sub(r"in [\d.]+(s|ms|µs)", "in N ms", text)

    return run


def options(bucket, **changed):
    """Return settings that reach the server in memory, with changes; None leaves one out."""
    settings = {**bucket.options, **changed}
    return flags("--source-option", {key: value for key, value in settings.items() if value})


def answering(status, code, message, **headers):
    """Answer everything with an error of S3."""
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return lambda _: (status, headers, body)


FILES = {
    "model.nc": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "classic.nc": b"CDF\x01" + bytes(100),
    "forecast.grib2": b"GRIB" + bytes(100),
    "image.tif": b"II*\0" + bytes(100),
    "store.zarr.zip": b"PK\x03\x04" + bytes(100),
    "table.parquet": b"PAR1" + bytes(100),
    "references.json": json.dumps({"version": 1, "refs": {".zgroup": "{}"}}).encode(),
    "page.html": b"<!DOCTYPE html>\n<html><body>data</body></html>",
    "notes.txt": b"nothing that anybody knows",
}


@pytest.mark.parametrize("name", FILES)
def test_a_file(said, snapshot, tmp_path, name):
    """A NetCDF file, Kerchunk references, a web page that was saved: each by its first bytes."""
    (tmp_path / name).write_bytes(FILES[name])
    assert said(name) == snapshot


def test_a_file_in_a_bucket(said, snapshot, bucket):
    """The same on a bucket, where nothing lies below an object."""
    bucket.objects["model.nc"] = FILES["model.nc"]
    assert said("s3://bucket/model.nc", *options(bucket)) == snapshot


def test_the_command_for_a_netcdf_file_works(tmp_path):
    """What the hint says to do with a NetCDF file is done, and ends in a repository."""
    xr = pytest.importorskip("xarray")
    file = tmp_path / "model.nc"
    xr.Dataset({"t": ("x", np.arange(4.0))}).to_netcdf(file, engine="h5netcdf")
    with pytest.raises(SourceNotFoundError) as raised:
        refreeze.ingest(file, tmp_path / "target")
    words = shlex.split(raised.value.hint.partition(": ")[2].partition("; Virt")[0])
    exec(words[words.index("-c") + 1].rstrip(","))  # noqa: S102 what the hint says
    store = words[words.index("ingest") + 1]
    assert refreeze.ingest(store, tmp_path / "target").references_written == 1


def test_a_repository(said, snapshot, tmp_path):
    """An Icechunk repository as the source is one already."""
    icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "air.icechunk")))
    assert said("air.icechunk") == snapshot


def test_kerchunk_parquet(said, snapshot, tmp_path):
    """A folder of Kerchunk references as Parquet has metadata of Zarr, in a form of its own."""
    (tmp_path / "air.parq" / "air").mkdir(parents=True)
    (tmp_path / "air.parq" / ".zmetadata").write_text('{"metadata": {}, "record_size": 1000}')
    assert said("air.parq") == snapshot


def test_a_folder_of_stores(said, snapshot, tmp_path):
    """The folder above a store: the store is named."""
    write_store(tmp_path / "model" / "air.zarr")
    assert said("model") == snapshot


def test_one_slash(said, snapshot):
    """``s3:/`` is no local folder."""
    assert said("s3:/bucket/air.zarr", "--source-option", "region=eu-west-1") == snapshot


def test_one_slash_of_a_target(capsys, snapshot, tmp_path, monkeypatch):
    """No folder `s3:` comes into being."""
    monkeypatch.chdir(tmp_path)
    write_store(tmp_path / "air.zarr")
    outcome = cli(capsys, "ingest", "air.zarr", "s3:/bucket/air.icechunk")
    assert (outcome.code, outcome.err) == (1, snapshot)
    assert not (tmp_path / "s3:").exists()


def test_a_bucket_without_region(said, snapshot, bucket):
    """S3 answers 301 and says the region."""
    bucket.answers = answering(
        301, "PermanentRedirect", "use the endpoint", x_amz_bucket_region="eu-west-3"
    )
    assert said("s3://bucket/air.zarr", *options(bucket, region=None)) == snapshot


def test_a_signature_for_another_region(said, snapshot, bucket):
    """S3 answers 400 and says the region in the text."""
    message = "the region 'us-east-1' is wrong; expecting 'eu-west-1'"
    bucket.answers = answering(400, "AuthorizationHeaderMalformed", message)
    assert said("s3://bucket/air.zarr", *options(bucket)) == snapshot


def test_http_that_was_not_allowed(said, snapshot, bucket):
    """An endpoint with ``http://`` needs a setting more, which then works."""
    assert said("s3://bucket/air.zarr", *options(bucket, allow_http=None)) == snapshot


def test_https_for_a_server_of_http(said, snapshot, bucket):
    """The answer to a handshake is no handshake."""
    endpoint = bucket.url.replace("http:", "https:")
    assert said("s3://bucket/air.zarr", *options(bucket, endpoint=endpoint)) == snapshot


def test_http_for_a_server_of_https(said, snapshot, bucket):
    """What servers say then."""
    bucket.answers = lambda _: (400, {}, b"Client sent an HTTP request to an HTTPS server.\n")
    assert said("s3://bucket/air.zarr", *options(bucket)) == snapshot


@pytest.mark.parametrize(
    "settings",
    [{}, {"skip_signature": "true"}, {"request_payer": "true"}],
    ids=["keys", "anonymous", "paying"],
)
def test_a_private_bucket(said, snapshot, bucket, settings):
    """A refusal names what to change: keys, none, or who pays for the requests."""
    bucket.answers = answering(403, "AccessDenied", "Access Denied")
    assert said("s3://bucket/air.zarr", *options(bucket, **settings)) == snapshot


def test_requester_pays(bucket, tmp_path):
    """The setting that the refusal names is what lets a requester in."""
    bucket.upload(write_store(tmp_path / "air.zarr"), "air.zarr")
    refusal = answering(403, "AccessDenied", "Access Denied")
    bucket.answers = lambda request: (
        None if request.headers.get("x-amz-request-payer") == "requester" else refusal(request)
    )
    with pytest.raises(refreeze.exceptions.AccessError, match="request_payer=true"):
        refreeze.plan("s3://bucket/air.zarr", source_options=bucket.options)
    paying = {**bucket.options, "request_payer": "true"}
    assert refreeze.plan("s3://bucket/air.zarr", source_options=paying).arrays


def test_a_page_of_the_web(said, snapshot, bucket):
    """An address from a browser: the server has a page there, and nothing of a store below it."""
    page = b"<!DOCTYPE html><html><body>data</body></html>"
    bucket.answers = lambda asked: (
        (200, {"Content_Type": "text/html"}, page)
        if asked.path == "/datasets/air"
        else (404, {}, b"")
    )
    assert said(f"{bucket.url}/datasets/air", "--probe") == snapshot


def test_a_server_that_answers_everything_with_a_page(said, snapshot, bucket):
    """So do applications of the web, with status 200."""
    page = b"<!DOCTYPE html><html><body>data</body></html>"
    bucket.answers = lambda _: (200, {"Content_Type": "text/html"}, page)
    assert said(f"{bucket.url}/datasets/air", "--probe") == snapshot


def test_a_store_on_the_web_that_cannot_be_listed(said, snapshot, bucket, tmp_path, capsys):
    """It has consolidated metadata alone; with the option that the error names it is ingested."""
    store = write_store(tmp_path / "air.zarr")
    zarr.consolidate_metadata(str(store))
    bucket.upload(store, "air.zarr")
    bucket.answers = lambda asked: (404, {}, b"") if asked.is_list else None
    assert said(f"{bucket.url}/bucket/air.zarr") == snapshot
    outcome = cli(capsys, "ingest", f"{bucket.url}/bucket/air.zarr", "target", "--probe", "--quiet")
    assert outcome.code == 0, outcome.err
