"""Every request of every verb goes wrong in every way: the same repository, or an error and the same repository afterwards.

All of it takes hours: ``make test-faults``. Otherwise a tenth of the cases of each verb is run, chosen by a seed;
``REFREEZE_FAULTS`` says how many (``all``, ``tenth``, or a number), ``REFREEZE_FAULTS_SEED`` chooses others, and after
``REFREEZE_FAULTS_MINUTES`` none of a verb is begun any more.
"""

import os
import random
import sys
import time

import pytest

from fault_proxy import Fault, fault_proxy
from fault_sweep import COMMANDS, Case, Sweep

WANTED = os.environ.get("REFREEZE_FAULTS", "tenth")
SEED = int(os.environ.get("REFREEZE_FAULTS_SEED", "18"))
MINUTES = float(os.environ.get("REFREEZE_FAULTS_MINUTES", "inf"))
PARTS = 4
"""Tests of a verb, so that several processes run them."""


def chosen(cases):
    """Return all cases, or some, in any order: what there is no time for is spread over them."""
    words = {"all": len(cases), "tenth": -(-len(cases) // 10)}
    wanted = words[WANTED] if WANTED in words else min(int(WANTED), len(cases))
    return random.Random(SEED).sample(cases, wanted)  # noqa: S311 cases, not secrets


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", COMMANDS)
def test_a_request_goes_wrong(s3_bucket, tmp_path, capsys, name, part):
    """It succeeds as if nothing had happened, or fails with a typed error, main untouched, and succeeds when run again."""
    server, bucket = s3_bucket
    if server.kind != "versitygw":
        pytest.skip("repositories are copied as versitygw's files")
    wrong, run, ends = [], 0, time.monotonic() + MINUTES * 60 / PARTS
    with fault_proxy(server) as (seen, faults):
        sweep = Sweep(server, bucket, seen, faults, COMMANDS[name])
        sweep.prepare(tmp_path)
        every = list(sweep.cases())
        for case in chosen(every)[part::PARTS]:
            if time.monotonic() > ends:
                break
            said = sweep.wrong(case)
            run += 1
            if said is not None:
                wrong.append(f"{case.fault.name} at {sweep.described(case)}: {said}")
                with capsys.disabled():
                    sys.stdout.write(f"\n{name}: {wrong[-1]}\n")
                    sys.stdout.flush()
            elif run % 100 == 0:
                with capsys.disabled():
                    sys.stdout.write(f"\n{name}: {run:,} run\n")
                    sys.stdout.flush()
    figures = f"{len(sweep.requests)} requests, {len(every):,} cases, {run:,} run"
    with capsys.disabled():
        sys.stdout.write(f"\n{name}: {figures}, {len(wrong)} wrong\n")
    assert not wrong


@pytest.fixture
def prepared(s3_bucket, tmp_path):
    """Return a function that makes the sweep of a command ready."""
    server, bucket = s3_bucket
    if server.kind != "versitygw":
        pytest.skip("repositories are copied as versitygw's files")
    with fault_proxy(server) as (seen, faults):

        def prepare(name):
            sweep = Sweep(server, bucket, seen, faults, COMMANDS[name])
            sweep.prepare(tmp_path)
            return sweep

        yield prepare


def numbers(sweep, method, path):
    """Return which requests have a method and something in their path."""
    asked = enumerate(sweep.requests)
    return [number for number, one in asked if one.method == method and path in one.path]


@pytest.mark.parametrize("name", ["append", "append by concatenation"])
def test_a_read_of_the_target_is_refused(prepared, name):
    """Regression: a snapshot that was refused once while copied chunks were read made them fill values, published."""
    sweep = prepared(name)
    reads = [one for one in numbers(sweep, "GET", "/snapshots/") if one < len(sweep.requests) // 2]
    assert reads
    for number in reads[:6]:
        said = sweep.wrong(Case(number, Fault.REFUSED))
        assert said is None, (number, said)


def test_the_answer_for_another_prefix_is_not_believed(prepared):
    """Regression: an empty listing of the target came for a coordinate's, and fill values were published."""
    sweep = prepared("ingest")
    listings = [at for at, one in enumerate(sweep.requests) if one.listed == "archive/time/"]
    assert listings
    for number in listings:
        said = sweep.wrong(Case(number, Fault.REPLAYED))
        assert said is None, (number, said)


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.EMPTY, Fault.GARBAGE])
def test_a_sample_is_read_again(prepared, fault):
    """Regression: what was refused or garbled once, on either way, was told as a difference."""
    sweep = prepared("verify --sample")
    # The last chunks that are read: those before are coordinates.
    for number in numbers(sweep, "GET", "/c/")[-2:]:
        said = sweep.wrong(Case(number, fault))
        assert said is None, (number, said)


def test_a_run_of_one_snapshot_that_could_not_be_published_has_no_other_history(prepared):
    """Regression: the commit that kept its plan meanwhile was published with it, by the same command again."""
    sweep = prepared("update")
    for number in numbers(sweep, "GET", "/repo")[-5:]:
        said = sweep.wrong(Case(number, Fault.REFUSED))
        assert said is None, (number, said)


def test_a_staging_branch_that_could_not_be_deleted_is_deleted(prepared):
    """Regression: one refusal, and the branch of a published run stayed."""
    sweep = prepared("overwrite")
    said = sweep.wrong(Case(numbers(sweep, "PUT", "/repo")[-1], Fault.REFUSED))
    assert said is None, said


@pytest.mark.parametrize("name", ["append", "append by concatenation", "overwrite", "sync"])
def test_a_run_that_was_killed_when_it_had_published_leaves_no_branch(prepared, name):
    """Regression: the same command again found nothing new and did not look for the branch of the run."""
    sweep = prepared(name)
    publishing, deleting = numbers(sweep, "PUT", "/repo")[-2:]
    for case in (Case(publishing, Fault.KILLED_AFTERWARDS), Case(deleting, Fault.KILLED)):
        said = sweep.wrong(case)
        assert said is None, (case, said)
