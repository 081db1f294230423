"""Options and arguments that mean nothing, or nothing yet: exit code 2 or a `TypeError`, by name."""

import icechunk
import pytest

import refreeze
from refreeze.stores.resolve import NotInThisVersionError
from scenarios import (
    cli,
    write_store,
)

LATER = [
    ("https://host/x.zarr", "https://"),
    ("http://user:secret@host/x.zarr", "http://"),
]


@pytest.mark.parametrize(("url", "named"), LATER)
def test_schemes_of_later_versions(capsys, source, url, named):
    """Exit 2 and "not in this version" as a target."""
    outcome = cli(capsys, "ingest", source, url)
    assert outcome.code == 2
    assert f"{named} is not in this version" in outcome.err
    assert "secret" not in outcome.err
    with pytest.raises(NotInThisVersionError):
        refreeze.ingest(source, url)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "command"),
        (("ingest",), "SOURCE... TARGET"),
        (("ingest", "a"), "SOURCE"),
        (("lst", "a"), "lst"),
        (("ingest", "a", "b", "--regionn", "x"), "--regionn"),
        (("ingest", "a", "b", "--array"), "--array"),
        (("ingest", "a", "b", "--mode", "list"), "'list'"),
        (("ingest", "a", "b", "--mode", "append"), "append_dim"),
        (("ingest", "a", "b", "--mode", "update"), "region"),
        (("ingest", "a", "b", "--append-dim", "time"), "mode append"),
        (("ingest", "a", "b", "--region", "time"), "DIM=START:STOP"),
        (("ingest", "a", "b", "--empty-chunks", "list"), "'list'"),
        (("ingest", "a", "b", "--log-level", "loud"), "loud"),
        (("ingest", "a", "b", "--max-refs-per-commit", "many"), "--max-refs-per-commit"),
        (("ingest", "a", "b", "--max-refs-per-commit", "0"), "max_refs_per_commit"),
        (("ingest", "a", "b", "--refs-per-manifest", "1000001"), "1,000,000"),
        (("ingest", "a", "b", "--branch", ""), "branch"),
        (("ingest", "", "b"), "empty path"),
        (("ingest", "ftp://host/a", "b"), "ftp://"),
        (("ingest", "s3://", "b"), "bucket"),
        (("ingest", "file://a", "b"), "three slashes"),
        (("ingest", "s3://x/a", "b", "--source-option", "endpont=x"), "endpont"),
        (("ingest", "a", "s3://x/b", "--target-option", "endpont=x"), "endpont"),
        (("ingest", "s3://x/a", "b", "--source-option", "endpoint"), "KEY=VALUE"),
        (("ingest", "a", "b", "--source-option", "region=x"), "local path"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, tuple) else "",
)
def test_wrong_usage(capsys, monkeypatch, tmp_path, arguments, named):
    """Exit 2, at most three lines, the thing that is wrong named, and no claim of a later version."""
    monkeypatch.chdir(tmp_path)
    write_store(tmp_path / "a")
    outcome = cli(capsys, *arguments)
    assert outcome.code == 2
    assert named in outcome.err
    assert "not in this version" not in outcome.err
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") <= 3
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"source": 5},
        {"target": 5},
        {"target": None},
        {"source": ("a", 5)},
        {"source": ("a", "b", 5)},
        {"group": 5},
        {"target_group": b"x"},
        {"branch": None},
        {"message": 5},
        {"mode": None},
        {"arrays": "air"},
        {"arrays": [5]},
        {"skip_variables": 5},
        {"loadable_variables": "none"},
        {"max_refs_per_commit": "5"},
        {"refs_per_manifest": True},
        {"refs_per_manifest": 2.5},
        {"progress": "bar"},
        {"source_options": ["SECRET"]},
        {"target_options": "SECRET"},
        {"region": {"time": 1}},
    ],
    ids=str,
)
def test_wrong_types(source, target, options):
    """Every wrong type is a TypeError, and nothing has happened."""
    arguments = {"source": source, "target": target} | options
    with pytest.raises((TypeError, NotInThisVersionError)) as raised:
        refreeze.ingest(arguments.pop("source"), arguments.pop("target"), **arguments)
    assert "SECRET" not in str(raised.value)
    assert not target.exists()


def test_options_for_stores_that_have_theirs(s3_bucket, source):
    """Options go with URLs; beside a store they would be silently ignored."""
    server, bucket = s3_bucket
    with pytest.raises(TypeError, match="source options"):
        refreeze.ingest((server.store(bucket), "x"), "b", source_options={"region": "x"})
    with pytest.raises(TypeError, match="target options"):
        refreeze.ingest(source, icechunk.in_memory_storage(), target_options={"region": "x"})
