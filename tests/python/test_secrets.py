"""Secrets of stores are written nowhere: no log, repr, commit, configuration or error."""

import io
import logging
import re

import obstore
import pytest
from numcodecs import Zstd

import refreeze
from places import Place
from refreeze.exceptions import RefreezeError
from refreeze.stores.resolve import resolve_source, resolve_target
from stores_for_tests import write_mixed_store

pytestmark = pytest.mark.usefixtures("no_settings_from_outside")


@pytest.fixture
def place(s3_bucket):
    return Place(*s3_bucket)


@pytest.fixture
def local(tmp_path):
    return write_mixed_store(tmp_path / "air.zarr")


SECRET = "VerySecretKey/0123456789+abcdef"


def everything_in(objects):
    """Return all bytes of all files, as they are and decompressed."""
    whole = b""
    for content in objects:
        whole += content
        for match in re.finditer(re.escape(b"\x28\xb5\x2f\xfd"), content):
            try:
                whole += bytes(Zstd().decode(content[match.start() :]))
            except RuntimeError:
                continue
    return whole


@pytest.mark.parametrize("how", ["options", "environment", "store"])
def test_secrets_are_written_nowhere(  # noqa: PLR0917 each fixture is a place to look into
    place, local, monkeypatch, caplog, capfd, how
):
    """No key is in the repository's bytes, the report, the output, the logs or any repr."""
    caplog.set_level(logging.DEBUG)
    url = place.upload(local, "air.zarr")
    given, options = url, {}
    target_options = {"target_options": place.options}
    if how == "options":
        options = {"source_options": place.options}
    elif how == "environment":
        for name, value in place.server.environment.items():
            monkeypatch.setenv(name, value)
        target_options = {}
    else:
        given = (place.server.store(place.bucket), "air.zarr")
    report = refreeze.ingest(given, place.url("repository"), **options, **target_options)
    result = place.read(report, "repository")

    store = place.server.store(place.bucket)
    keys = [entry["path"] for entry in obstore.list(store, "repository").collect()]
    written = everything_in(bytes(obstore.get(store, key).bytes()) for key in keys)
    assert b"refreeze.run" in written  # what is compressed has been looked into
    shown = io.StringIO()
    print(report, report.to_dict(), result.repository.config, file=shown)
    print(list(result.repository.ancestry(branch="main")), file=shown)
    print(resolve_source(given, options.get("source_options")), file=shown)
    print(resolve_target(place.url("repository"), place.options), file=shown)
    said = "".join(capfd.readouterr()) + caplog.text + shown.getvalue()
    assert place.server.secret_access_key not in said
    assert place.server.access_key_id not in said
    assert place.server.secret_access_key.encode() not in written
    assert place.server.access_key_id.encode() not in written


@pytest.mark.parametrize("side", ["source", "target"])
def test_secrets_are_in_no_error(place, local, caplog, capfd, side):
    """A refused, wrong or misplaced secret is not repeated in messages, hints or causes."""
    if place.server.kind == "moto":
        pytest.skip("moto accepts any signature")
    caplog.set_level(logging.DEBUG)
    url = place.upload(local, "air.zarr")
    settings = {"source_options": place.options, "target_options": place.options}
    attempts = [
        {**place.options, "secret_access_key": SECRET},
        {**place.options, "token": SECRET},
        {**place.options, "endpoint": f"http://user:{SECRET.replace('/', '')}@127.0.0.1:9"},
        {**place.options, "no_such_setting": SECRET},
        {**place.options, "endpoint": f"http://user:{SECRET}@127.0.0.1:9"},
    ]
    for number, attempt in enumerate(attempts):
        with pytest.raises((RefreezeError, ValueError)) as raised:
            refreeze.ingest(
                url, place.url(f"no/{number}"), **(settings | {f"{side}_options": attempt})
            )
        chain, error = [], raised.value
        while error is not None:
            chain += [str(error), repr(error), repr(vars(error))]
            error = error.__cause__ or error.__context__
        text = "\n".join(chain) + "".join(capfd.readouterr()) + caplog.text
        assert SECRET not in text, (number, text)
        assert SECRET.partition("/")[0] not in text, (number, text)
    in_url = f"s3://key:{SECRET.replace('/', '')}@{place.bucket}/air.zarr"
    with pytest.raises(ValueError, match="credentials do not belong") as raised:
        refreeze.ingest(in_url, place.url("no")) if side == "source" else refreeze.ingest(
            str(local), in_url
        )
    assert "Secret" not in str(raised.value)
