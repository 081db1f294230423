"""Secrets given in any way are searched for in everything that refreeze writes or says, and found nowhere.

Searched are the output of every verb at debug level, reports and their `repr`, tracebacks, every file of the repository
as it is and decompressed, commit metadata and the repository's configuration.
"""

from __future__ import annotations

import base64
import io
import logging
import traceback
from urllib.parse import quote

import icechunk
import pytest
from numcodecs import Zstd
from obstore.store import S3Store

import refreeze
from modes_for_tests import write
from s3_server import run_s3_server
from scenarios import flags, run, s3_repository, s3_storage, upload

KEY = "AKIASEARCHEDFOREVERY"
SECRET = "s3archedFor/Everywhere+Always0123456789x"
HEADER = 39
"""Bytes before the content of a file of Icechunk."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a server whose secrets cannot be met by accident, a bucket, and a source in it."""
    with run_s3_server(access_key_id=KEY, secret_access_key=SECRET) as server:
        if server.kind != "versitygw":
            pytest.skip("the files of versitygw are searched")
        bucket = server.new_bucket()
        folder = write(tmp_path_factory.mktemp("source") / "a", 0, 12)
        yield server, bucket, folder, upload(server, bucket, folder, "a")


def spellings():
    """Return the secret, and half of it, in the ways that it may have been written."""
    for secret in (SECRET, SECRET[:20], SECRET[20:]):
        yield from (secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode())


def assert_silent(said, where):
    """Check that nothing is in a text or in bytes."""
    data = said if isinstance(said, bytes) else said.encode()
    for spelling in spellings():
        assert spelling.encode() not in data, (where, spelling)


def files(folder):
    """Yield every file below a folder, as it is and decompressed."""
    for file in sorted(folder.rglob("*")):
        if not file.is_file():
            continue
        data = file.read_bytes()
        yield file, data
        if data.startswith("ICE🧊".encode()):
            try:
                yield file, Zstd().decode(data[HEADER:])
            except RuntimeError:
                yield file, data[HEADER:]


def search(server, bucket, name):
    """Search a repository: files, configuration, and the metadata of its commits."""
    found = list(files(server.root / bucket / name))
    assert len(found) > 6
    for file, data in found:
        assert_silent(data, file)
        assert KEY.encode() not in data, file
    repository = s3_repository(server, bucket, name)
    config = icechunk.Repository.fetch_config(s3_storage(server, bucket, name))
    assert_silent(repr(config) + str(config.virtual_chunk_containers), "configuration")
    for branch in repository.list_branches():
        for commit in repository.ancestry(branch=branch):
            assert_silent(repr(commit) + repr(commit.metadata), commit.id)


@pytest.mark.parametrize("way", ["option", "environment"])
def test_commands(place, tmp_path, way):
    """Every verb in a process of its own, at debug level, those that fail too."""
    server, bucket, _, url = place
    target = f"s3://{bucket}/by-{way}"
    options = dict(server.options)
    source, there = flags("--source-option", options), flags("--target-option", options)
    env = {}
    if way == "environment":
        source, there, env = [], [], server.environment
    wrong = [*there, "--target-option", "endpoint=http://127.0.0.1:9"]
    differences = tmp_path / "differences.csv"
    for code, words in [
        (0, ["plan", url, *source]),
        (0, ["ingest", url, target, *source, *there, "--no-publish"]),
        (0, ["status", target, *there]),
        (0, ["publish", target, *there]),
        (0, ["ingest", url, target, *source, *there, "--mode", "overwrite"]),
        (0, ["sync", url, target, *source, *there]),
        (0, ["verify", url, target, *source, *there, "--sample", 3, "--output", differences]),
        (0, ["coverage", target, *there]),
        (0, ["list", f"{url}/air", *source]),
        (1, ["ingest", url, target, *source, *there, "--skip", "wind"]),
        (1, ["ingest", f"s3://{bucket}/nothing", target, *source, *there]),
        (1, ["status", target, *wrong, "--target-option", "connect_timeout=1s"]),
    ]:
        done = run(*words, "--log-level", "debug", env=env)
        assert done.code == code, done
        assert_silent(done.out + done.err, words[0])
    assert_silent(differences.read_bytes(), "report")
    search(server, bucket, f"by-{way}")


@pytest.mark.parametrize("way", ["options", "store", "provider"])
def test_calls(place, tmp_path, caplog, way):
    """Reports, logs and tracebacks of the Python interface; secrets of a store that is handed over, too."""
    server, bucket, _, url = place
    caplog.set_level(logging.DEBUG)
    given = {"target_options": server.options}
    source = url
    if way == "options":
        given["source_options"] = server.options
    elif way == "store":
        source = (server.store(bucket), "a")
    else:
        source = (with_provider(server, bucket), "a")
    target = f"s3://{bucket}/by-{way}"
    said = [
        repr(refreeze.plan(source, target, **given)),
        *reported(refreeze.ingest(source, target, **given)),
        *reported(refreeze.verify(source, target, sample=3, **given)),
        *reported(refreeze.sync(source, target, **given)),
        *reported(refreeze.status(target, target_options=server.options)),
    ]
    refused = {**server.options, "access_key_id": "somebody-else"}
    for wrong in (
        lambda: refreeze.ingest(source, target, **given, skip_variables=["wind"]),
        lambda: refreeze.ingest(source, target, **given | {"target_options": refused}),
        lambda: refreeze.verify(source, target, **given, region={"time": slice(1, 2)}),
        lambda: refreeze.sync(source, f"s3://{bucket}/nothing", **given),
    ):
        with pytest.raises(refreeze.exceptions.RefreezeError) as raised:
            wrong()
        text = io.StringIO()
        traceback.print_exception(raised.value, file=text)
        said += [text.getvalue(), repr(raised.value), repr(vars(raised.value))]
    for one in [*said, caplog.text]:
        assert_silent(one, way)
    search(server, bucket, f"by-{way}")


def reported(report):
    """Return a report as it is shown."""
    return repr(report), repr(report.to_dict())


def with_provider(server, bucket):
    """Return a store whose credentials come from a function."""
    return S3Store(
        bucket,
        endpoint=server.endpoint,
        region=server.region,
        client_options={"allow_http": True},
        credential_provider=lambda: {
            "access_key_id": KEY,
            "secret_access_key": SECRET,
            "token": None,
            "expires_at": None,
        },
    )


def test_the_search_finds_what_is_there(place, tmp_path):
    """A secret in an attribute of a store, which is data, would be found."""
    server, bucket, _, _ = place
    folder = write(tmp_path / "b", 0, 6, attributes={"note": SECRET})
    refreeze.ingest(folder, f"s3://{bucket}/with-secret", target_options=server.options)
    with pytest.raises(AssertionError):
        search(server, bucket, "with-secret")
