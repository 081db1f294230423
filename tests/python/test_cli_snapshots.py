"""What people read on the command line: help, results and errors, held to the letter by snapshots.

A change that is meant is accepted with ``make test-python ARGS="-k snapshots --snapshot-update"``, and
the difference is read in the review.
"""

import re

import pytest
import zarr

from scenarios import cli, write_store

VERBS = ("ingest", "plan", "list", "status", "publish", "demo")


@pytest.fixture(autouse=True)
def _width(monkeypatch):
    """Make lines as long here as anywhere."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERMINAL_WIDTH", "100")


@pytest.fixture
def said(capsys, tmp_path):
    """Run a command line; return exit code, stdout and stderr without what differs every time."""

    def run(*words):
        outcome = cli(capsys, *words)
        text = f"exit {outcome.code}\n--- stdout\n{outcome.out}--- stderr\n{outcome.err}"
        text = text.replace(str(tmp_path), "FOLDER")
        text = re.sub(r"\b[0-9A-HJKMNP-TV-Z]{20}\b", "SNAPSHOT", text)
        text = re.sub(r"\b[0-9a-hjkmnp-tv-z]{20}\b", "RUN", text)
        text = re.sub(r"(container \S+)-[0-9a-f]{8}\b", r"\1-DIGEST", text)
        text = re.sub(r"\d\d\d\d-\d\d-\d\dT\d\d:\d\d:\d\d", "TIME", text)
        text = re.sub(r"zarr-[0-9a-z]+(?=[\"/'])", "CONTAINER", text)
        text = re.sub(r"[\d.]+ s\b", "N s", text)
        return re.sub(r"[\d.,]+ MB of memory", "N MB of memory", text)

    return run


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help(said, snapshot, verb):
    """Options, defaults and the example of every verb."""
    assert said(*[word for word in (verb, "--help") if word]) == snapshot


def test_results(said, snapshot, tmp_path):
    """What plan, ingest, status, list and a second ingest say of a small store."""
    source, target = write_store(tmp_path / "air.zarr"), tmp_path / "repository"
    assert said("plan", source) == snapshot(name="plan")
    assert said("ingest", source, target, "--no-publish") == snapshot(name="staged")
    assert said("status", target) == snapshot(name="status of a staged run")
    assert said("publish", target) == snapshot(name="publish")
    assert said("ingest", source, target) == snapshot(name="again")
    assert said("status", target) == snapshot(name="status")
    assert said("list", source / "air") == snapshot(name="list")
    assert said("ingest", source, tmp_path / "other") == snapshot(name="ingest")


@pytest.mark.parametrize(
    "words",
    [
        ["ingest"],
        ["ingest", "nowhere.zarr", "target"],
        ["ingest", "air.zarr", "target", "--mode", "replace"],
        ["ingest", "air.zarr", "target", "--memory", "much"],
        ["ingest", "air.zarr", "target", "--region", "time=1:2"],
        ["ingest", "air.zarr", "target", "--region", "height=0:2"],
        ["ingest", "air.zarr", "target", "--array", "nothing*"],
        ["ingest", "air.zarr", "target", "--mode", "append", "--append-dim", "time"],
        ["ingest", "air.zarr", "gopher://target"],
        ["plan", "air.zarr", "--json", "--region", "height=0:2"],
        ["list", "air.zarr"],
        ["list", "air.zarr/air", "--output", "table.doc"],
        ["status", "target"],
        ["publish", "target"],
        ["verify", "air.zarr", "target"],
        ["frobnicate"],
        ["plan", "air.zarr", "--frobnicate"],
    ],
    ids=" ".join,
)
def test_errors(said, snapshot, tmp_path, monkeypatch, words):
    """What is wrong, where, and what to do."""
    monkeypatch.chdir(tmp_path)
    write_store(tmp_path / "air.zarr")
    assert said(*words) == snapshot


def test_a_conflict(said, snapshot, tmp_path):
    """The message that sends to `publish --rebase`."""
    import icechunk

    source, target = write_store(tmp_path / "air.zarr"), tmp_path / "repository"
    said("ingest", source, target, "--no-publish")
    storage = icechunk.local_filesystem_storage(str(target))
    session = icechunk.Repository.open(storage).writable_session("main")
    zarr.create_group(session.store, path="theirs")
    session.commit("theirs")
    assert said("publish", target) == snapshot
