"""Requests in flight: their number is found, or fixed by the user."""

import inspect
import math
import resource
import subprocess

import pytest

import refreeze
from endpoint import array
from refreeze.distributed.crew import Share
from refreeze.planning.options import requests_in_flight, shared_concurrency
from refreeze.work import carry_out
from scenarios import cli, command, flags

VERBS = [
    refreeze.ingest,
    refreeze.verify,
    refreeze.sync,
    refreeze.coverage,
    refreeze.copy,
    refreeze.list_chunks,
    carry_out,
]


def _listed(endpoint, name, **options):
    endpoint.reset()
    stream = refreeze.list_chunks(endpoint.store(retries=30), name, **options)
    return sum(batch.num_rows for batch in stream), stream.stats


def test_more_than_64_are_in_flight_where_that_helps(serve):
    """Where a page takes 200 ms, the number grows beyond 64, and each page is asked for once."""
    endpoint = serve(array("a", 400, 1000), latency_ms=200)
    found, stats = _listed(endpoint, "a")
    assert found == 400_000
    assert 64 < endpoint.stats()["max_in_flight"] <= 1_024
    assert stats.list_requests <= math.ceil(found / 1000) + 4


def test_a_process_that_may_open_few_files_has_fewer_in_flight(serve, tmp_path):
    """Each request in flight is a socket: `ulimit -n` bounds them, and nothing fails for want of one."""
    endpoint = serve(array("a", 600, 1000), latency_ms=200)

    def few_files() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))

    settings = flags("--source-option", endpoint.options)
    done = subprocess.run(
        command("ingest", "s3://bucket/", tmp_path / "target", "--quiet", *settings),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=few_files,
    )
    assert done.returncode == 0, done.stderr
    assert 64 <= endpoint.stats()["max_in_flight"] <= 150
    assert endpoint.stats()["list"] <= 604


@pytest.mark.parametrize("number", [1, 5, 80])
def test_a_number_fixes_it(serve, number):
    """A number is never exceeded, however long a page takes, and reached where there is work."""
    endpoint = serve(array("a", 200, 1000), latency_ms=20)
    found, _ = _listed(endpoint, "a", concurrency=number)
    assert found == 200_000
    assert endpoint.stats()["max_in_flight"] <= number


def test_a_service_that_refuses_above_a_rate_is_listed_whole(serve):
    """Refusals above so many requests a second cost retries, not chunks."""
    endpoint = serve(array("a", 300, 1000), latency_ms=5)
    endpoint.fail(slow_down_above_rate=400.0)
    found, stats = _listed(endpoint, "a")
    assert found == 300_000
    assert stats.retries == endpoint.stats()["struck"]


def test_it_is_the_default_everywhere():
    """All functions that take it find the number unless one is given."""
    for verb in VERBS:
        assert inspect.signature(verb).parameters["concurrency"].default == "auto", verb


def test_only_auto_and_numbers_are_taken(tmp_path):
    """Other words and numbers below 1 are a ValueError, what is neither a TypeError."""
    for wrong in ("", "many", "Auto", "4", "auto/0", "auto/", "auto/-1", 0, -1):
        with pytest.raises(ValueError, match="concurrency"):
            requests_in_flight(wrong)
        with pytest.raises(ValueError, match="concurrency"):
            refreeze.plan(tmp_path, concurrency=wrong)
    for wrong in (1.5, True, ["auto"]):
        with pytest.raises(TypeError, match="concurrency"):
            requests_in_flight(wrong)
    assert [requests_in_flight(value) for value in ("auto", 1, 5_000)] == ["auto", 1, 5_000]


@pytest.mark.parametrize("wrong", ["0", "-3", "many", "1.5", "auto/x", ""])
def test_wrong_usage_on_the_command_line(capsys, tmp_path, wrong):
    """Exit 2, and the option is named."""
    outcome = cli(capsys, "list", tmp_path, "--concurrency", wrong)
    assert outcome.code == 2
    assert "concurrency" in outcome.err


@pytest.mark.parametrize(
    ("given", "workers", "share"),
    [("auto", 4, "auto/4"), ("auto/2", 4, "auto/8"), (64, 4, 16), (3, 8, 1), ("auto", 0, "auto/1")],
)
def test_workers_share_it(given, workers, share):
    """Each of N workers has an N-th of the number, or of the bounds within which it is found."""
    assert shared_concurrency(given, workers) == share
    assert requests_in_flight(share) == share
    assert Share(1, share).concurrency == share


def test_a_plan_says_how_many_there_may_be(serve):
    """As many as memory has room for; a number is that number."""
    endpoint = serve(array("a", 5, 5))
    found = {}
    for given, memory in (("auto", "192MiB"), ("auto", "1GiB"), ("auto", "16MiB"), (7, "192MiB")):
        planned = refreeze.plan(
            "s3://bucket/",
            source_options=endpoint.options,
            arrays=["a"],
            concurrency=given,
            memory=memory,
        )
        found[given, memory] = planned.most_in_flight
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(1_024, files - files // 4)
    assert found["auto", "192MiB"] == found["auto", "1GiB"] == most
    assert found["auto", "16MiB"] < 64
    assert found[7, "192MiB"] == 7
