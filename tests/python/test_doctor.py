"""`refreeze doctor`: what it finds of versions, settings, sources, targets, clocks and locks."""

import email.utils
import http.server
import json
import threading

import pytest

import refreeze
from endpoint import BUCKET, array
from refreeze.stores.server_clock import clock_difference
from scenarios import cli, flags, upload, write_store


def states(report, subject):
    """Return the state of every check of a subject, by name."""
    return {check.name: check.state for check in report.checks if check.subject == subject}


@pytest.fixture
def no_settings(monkeypatch, tmp_path):
    """Take settings of stores out of the environment, and the home with its profiles."""
    import os

    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_", "AZURE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_versions_fit(no_settings):
    """Alone it tells versions and whether they fit, and finds nothing wrong with this environment."""
    report = refreeze.doctor()
    assert report.ok
    assert {"refreeze", "icechunk", "zarr", "obstore", "virtualizarr", "python"} <= set(
        report.versions
    )
    found = states(report, "versions")
    assert found["icechunk"] == found["zarr"] == found["obstore"] == "ok"
    assert "virtualizarr" in found


def test_a_version_that_does_not_fit(no_settings, monkeypatch):
    """An icechunk of another minor version is a problem that names the one to install."""
    from importlib import metadata

    real = metadata.version
    monkeypatch.setattr(
        metadata, "version", lambda name: "3.0.0" if name == "icechunk" else real(name)
    )
    report = refreeze.doctor()
    (problem,) = [check for check in report.checks if check.state == "problem"]
    assert (problem.name, report.ok) == ("icechunk", False)
    assert "3.0.0 does not fit" in problem.found
    assert "pip install 'icechunk" in problem.hint


def test_settings_by_name_only(no_settings, monkeypatch, capsys, tmp_path):
    """Names of settings are told, values never; what refreeze does not read is said to be that."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2-and-more")
    monkeypatch.setenv("AWS_PROFILE", "work-profile")
    source = write_store(tmp_path / "air.zarr")
    for words in (["doctor", source], ["doctor", source, "--json"]):
        outcome = cli(capsys, *words)
        assert outcome.code == 0, outcome
        assert "AWS_SECRET_ACCESS_KEY" in outcome.out
        assert "hunter2-and-more" not in outcome.out + outcome.err
        assert "work-profile" not in outcome.out + outcome.err
        assert "not read by refreeze: AWS_PROFILE" in outcome.out


def test_profiles_that_nobody_reads(no_settings, tmp_path):
    """Credentials in a profile alone are the reason of many refusals: the way out is named."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[default]\n")
    (check,) = [one for one in refreeze.doctor().checks if one.name == "profiles"]
    assert check.state == "note"
    assert "aws configure export-credentials" in check.hint


def test_local_places(no_settings, tmp_path):
    """A local store is there; a folder that is to be made is writable, has locks and stays unmade."""
    source, target = write_store(tmp_path / "air.zarr"), tmp_path / "new" / "repository"
    report = refreeze.doctor(source, target)
    assert states(report, "source") == {"content": "ok"}
    assert states(report, "target") == dict.fromkeys(
        ("repository", "writable", "locks", "clock"), "ok"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["air.zarr"]


def test_a_repository_alone(no_settings, tmp_path):
    """A repository in the place of SOURCE is looked at as a target, which nothing is left in."""
    source, target = write_store(tmp_path / "air.zarr"), tmp_path / "repository"
    refreeze.ingest(source, target)
    before = sorted(target.rglob("*"))
    report = refreeze.doctor(target)
    assert (report.source, report.target) == (None, str(target))
    assert states(report, "target")["repository"] == "ok"
    assert sorted(target.rglob("*")) == before


def test_a_bucket(no_settings, s3_bucket, tmp_path):
    """A real server lists in order, starts after keys and honours conditions; its bucket stays as it was."""
    import obstore

    server, bucket = s3_bucket
    url = upload(server, bucket, write_store(tmp_path / "air.zarr"), "air.zarr")
    store = server.store(bucket)
    keys = {one["path"] for one in obstore.list(store).collect()}
    report = refreeze.doctor(
        url,
        f"s3://{bucket}/repository",
        source_options=server.options,
        target_options=server.options,
    )
    assert report.ok, report
    assert states(report, "source") == dict.fromkeys(
        ("reachable", "listing order", "start-after", "content", "clock"), "ok"
    )
    assert states(report, "target") == dict.fromkeys(
        ("repository", "conditional writes", "clock"), "ok"
    )
    assert {one["path"] for one in obstore.list(store).collect()} == keys
    assert server.secret_access_key not in json.dumps(report.to_dict())


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ({"start_after": "ignored"}, {"start-after": "note", "listing order": "ok"}),
        ({"order": "descending"}, {"listing order": "note"}),
    ],
    ids=["start-after ignored", "out of order"],
)
def test_what_a_server_does_not_honour(no_settings, serve, faults, expected):
    """A server that ignores start-after, or lists in no order, is told from one that does as S3."""
    endpoint = serve(array("a", 30, 10), page_size=100)
    endpoint.fail(**faults)
    report = refreeze.doctor((endpoint.store(), "a"))
    found = states(report, "source")
    assert {name: found[name] for name in expected} == expected


def test_a_target_that_loses_commits(no_settings, serve, capsys):
    """A server that ignores conditional writes is a problem; the exit code is 1 and JSON says the same."""
    endpoint = serve(array("a", 3))
    endpoint.fail(ignore_write_conditions=True)
    options = flags("--source-option", endpoint.options) + flags(
        "--target-option", endpoint.options
    )
    outcome = cli(capsys, "doctor", f"s3://{BUCKET}/a", f"s3://{BUCKET}/new", *options, "--json")
    assert outcome.code == 1
    document = outcome.document
    assert document["ok"] is False
    problems = [check for check in document["checks"] if check["state"] == "problem"]
    assert [(one["subject"], one["name"]) for one in problems] == [("target", "conditional writes")]
    assert "If-None-Match" in problems[0]["found"]


@pytest.mark.parametrize(
    ("source", "name"),
    [("nowhere.zarr", "address"), ("gopher://hole", "address"), ("s3://", "address")],
)
def test_addresses_that_lead_nowhere(no_settings, capsys, source, name):
    """What is wrong with an address is a finding like any other, not a usage error."""
    outcome = cli(capsys, "doctor", source, "--json")
    assert outcome.code == 1
    (problem,) = [one for one in outcome.document["checks"] if one["state"] == "problem"]
    assert (problem["subject"], problem["name"]) == ("source", name)


def test_a_clock_that_is_wrong():
    """The date of any answer, even a refusal, tells the server's time; ours is behind it here."""

    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response_only(403)
            self.send_header("Date", email.utils.formatdate(2_000_000_000, usegmt=True))
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        ahead = clock_difference(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
    import time

    assert abs(ahead - (time.time() - 2_000_000_000)) < 60
