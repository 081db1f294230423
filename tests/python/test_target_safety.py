"""Targets that are not safe, that fail half-way, and that two processes want at once."""

import subprocess
import sys

import obstore
import pytest

import refreeze
from refreeze.exceptions import (
    AccessError,
    AlreadyExistsError,
    ConflictError,
    TargetError,
)
from scenarios import (
    SMALL_COMMITS,
    contents,
    local_contents,
    run,
    s3_repository,
    start_attempt,
    write_series,
    write_store,
)


@pytest.fixture
def source(tmp_path):
    return write_series(tmp_path / "series.zarr")


@pytest.fixture
def expected(tmp_path, source):
    """Return what an uninterrupted ingest makes of the source."""
    refreeze.ingest(source, tmp_path / "expected.icechunk")
    return local_contents(tmp_path / "expected.icechunk")


def ingest(source, bucket, **options):
    return refreeze.ingest(source, "s3://bucket/x", target_options=bucket.options, **options)


def test_a_safe_store_passes(source, bucket):
    """The server of these tests, when it behaves: nothing of the probe is left."""
    assert ingest(source, bucket).published
    assert bucket.objects
    assert not [key for key in bucket.objects if "probe" in key]


def test_the_real_server_passes(source, s3_bucket):
    """Conditions are honoured by versitygw; an object of the probe is not left behind."""
    server, name = s3_bucket
    refreeze.ingest(source, f"s3://{name}/x", target_options=server.options)
    keys = [item["path"] for page in obstore.list(server.store(name)) for item in page]
    assert keys
    assert not [key for key in keys if "probe" in key]


@pytest.mark.parametrize(
    ("ignored", "said"),
    [
        ({"If-None-Match"}, r"let 8 of 8 writers create the same object \(If-None-Match"),
        ({"If-Match"}, r"replaces an object whose version is another \(If-Match"),
        ({"If-Match", "If-None-Match"}, "If-None-Match"),
    ],
)
def test_a_store_that_ignores_conditions(source, bucket, ignored, said):
    """Commits could be lost: an error that says what the server does, and nothing is left there."""
    bucket.ignored = ignored
    with pytest.raises(TargetError, match=said) as raised:
        ingest(source, bucket)
    assert "--unsafe-target" in raised.value.hint
    assert bucket.objects == {}
    # At one's own risk.
    assert ingest(source, bucket, unsafe_target=True).published
    assert bucket.objects


def test_a_repository_is_not_probed_again(source, bucket):
    """Where there is a repository, nothing is written but the ingest."""
    ingest(source, bucket)
    bucket.ignored = {"If-None-Match"}
    assert ingest(source, bucket, target_group="again").published


def test_what_a_killed_probe_left(source, bucket):
    """Regression: its object made every later attempt fail, since the prefix was not empty."""
    bucket.objects["x/refreeze-probe-0123456789abc"] = b"refreeze asks"
    assert ingest(source, bucket).published
    assert not [key for key in bucket.objects if "probe" in key]


def test_two_processes_that_create_the_repository(source, bucket):
    """Regression: the quicker one took the other's probe for a left-over and removed it."""
    first = []
    bucket.meanwhile = lambda: first.append(ingest(source, bucket, target_group="first"))
    assert ingest(source, bucket, target_group="second").published
    assert first[0].published
    runs = refreeze.status("s3://bucket/x", target_options=bucket.options).runs
    assert [run.state for run in runs] == ["published", "published"]
    assert not [key for key in bucket.objects if "probe" in key]


@pytest.mark.parametrize(
    ("status", "after", "error"),
    [(403, 0, AccessError), (403, 40, AccessError), (507, 97, TargetError)],
)
def test_a_put_that_is_refused(source, bucket, status, after, error):
    """Half-way: a typed error that names the target; when the server is well again, it goes on."""
    bucket.failing = (status, after)
    with pytest.raises(error) as raised:
        ingest(source, bucket, **SMALL_COMMITS)
    assert "Traceback" not in str(raised.value)
    assert raised.value.hint
    bucket.failing = None
    done = 0
    if after:
        (unfinished,) = refreeze.status("s3://bucket/x", target_options=bucket.options).runs
        assert unfinished.state == "unfinished"
        done = unfinished.batches_done
        assert done > 0
    report = ingest(source, bucket, **SMALL_COMMITS)
    assert report.resumed_batches == done
    assert report.published
    assert report.references_written == 86


FULL = """
import resource, sys, refreeze, signal
from refreeze.exceptions import RefreezeError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def fill(event):
    if (event["stage"], event["commits"]) == ("list", 6):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
try:
    refreeze.ingest(sys.argv[1], sys.argv[2], max_refs_per_commit=4, progress=fill)
except RefreezeError as error:
    print(type(error).__name__, error)
"""


def test_a_file_that_cannot_be_written(tmp_path, source, expected):
    """The system refuses to write any more: a TargetError, and the same command goes on later."""
    target = tmp_path / "target.icechunk"
    said = subprocess.run(
        [sys.executable, "-c", FULL, str(source), str(target)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.startswith("TargetError"), said
    assert "File too large" in said
    (unfinished,) = refreeze.status(target).runs
    assert (unfinished.state, unfinished.batches_done) == ("unfinished", 5)
    report = refreeze.ingest(source, target, **SMALL_COMMITS)
    assert report.resumed_batches == 5
    assert local_contents(target) == expected


def test_a_full_disk(tmp_path, source, expected):
    """A file system without room: a TargetError that says so; with room again, it goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=112k", "tmpfs", str(disk)],  # noqa: S607
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        # test_a_file_that_cannot_be_written is the same without rights to mount.
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")
    try:
        target = disk / "target.icechunk"
        with pytest.raises(TargetError, match="No space left") as raised:
            refreeze.ingest(source, target, **SMALL_COMMITS)
        assert raised.value.hint
        subprocess.run(
            ["mount", "-o", "remount,size=8m", str(disk)],  # noqa: S607
            check=True,
        )
        (unfinished,) = refreeze.status(target).runs
        assert unfinished.state == "unfinished"
        report = refreeze.ingest(source, target, **SMALL_COMMITS)
        assert report.resumed_batches == unfinished.batches_done > 0
        assert local_contents(target) == expected
    finally:
        subprocess.run(["umount", str(disk)], check=True)  # noqa: S607


def test_two_processes_and_one_folder(tmp_path, source, expected):
    """The second one gets a ConflictError at once; the first is not disturbed."""
    target = tmp_path / "target.icechunk"
    refused = []

    def second(event):
        if event["commits"] >= 5 and not refused:
            refused.append(run("ingest", source, target))
            refused.append(run("publish", target))

    assert refreeze.ingest(source, target, progress=second, **SMALL_COMMITS).published
    assert [ended.code for ended in refused] == [1, 1]
    for ended in refused:
        assert "another process" in ended.err
        assert "Traceback" not in ended.err
    assert local_contents(target) == expected


def test_two_processes_and_one_bucket(source, s3_bucket, expected):
    """The same arrays at the same time: one is published, whole; the other says that it was not."""
    server, name = s3_bucket
    target, options = f"s3://{name}/x", {"target_options": server.options}
    refreeze.ingest(write_store(source.parent / "o.zarr"), target, target_group="o", **options)
    other = []

    def interfere(event):
        if event["commits"] >= 6 and not other:
            process = start_attempt(str(source), target, options, None, None)
            process.join()
            other.append(process.exitcode)

    with pytest.raises((ConflictError, AlreadyExistsError)) as raised:
        refreeze.ingest(source, target, progress=interfere, **SMALL_COMMITS, **options)
    assert other == [0]
    assert raised.value.hint
    repository = s3_repository(server, name, "x")

    def read(key):
        return bytes(server.store(name, "x").get(key).bytes())

    found = contents(repository, read)
    assert {path: found[path] for path in expected if path != "/"} == {
        path: node for path, node in expected.items() if path != "/"
    }
    assert "/o/air" in found
    # What the loser has done does not come back.
    report = refreeze.ingest(source, target, restart=True, **options)
    assert report.already_published
    assert contents(repository, read) == found
    assert repository.list_branches() == {"main"}


def test_two_processes_and_two_groups_of_one_bucket(source, s3_bucket, expected):
    """Different arrays at the same time: both get there, the slower one by a rebase."""
    server, name = s3_bucket
    target, options = f"s3://{name}/x", {"target_options": server.options}
    # Not both at once create the repository.
    refreeze.ingest(write_store(source.parent / "o.zarr"), target, target_group="o", **options)
    groups = ["one", "two"]
    processes = [
        start_attempt(
            str(source), target, options | SMALL_COMMITS | {"target_group": g}, None, None
        )
        for g in groups
    ]
    for process in processes:
        process.join()
    lost = [process.exitcode for process in processes if process.exitcode]
    staged = [one for one in refreeze.status(target, **options).runs if one.state == "staged"]
    assert len(lost) == len(staged) <= 1
    for one in staged:
        assert refreeze.publish(target, run=one.run_id, rebase=True, **options).rebased
    repository = s3_repository(server, name, "x")
    assert repository.list_branches() == {"main"}
    found = contents(repository, lambda key: bytes(server.store(name, "x").get(key).bytes()))
    for g in groups:
        assert {
            path.removeprefix(f"/{g}"): node
            for path, node in found.items()
            if path.startswith(f"/{g}/")
        } == {path: node for path, node in expected.items() if path != "/"}
    assert "/o/air" in found
