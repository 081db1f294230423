"""Every request of every verb goes wrong in every way: the same repository, or an error and the same repository afterwards.

All of it takes hours: ``make test-faults``. Otherwise a few cases of each verb are run, chosen by a seed;
``REFREEZE_FAULTS`` says how many (``all``, or a number), ``REFREEZE_FAULTS_SEED`` chooses others.
"""

import os
import random
import sys

import pytest

from fault_proxy import Fault, fault_proxy
from fault_sweep import COMMANDS, Case, Sweep

WANTED = os.environ.get("REFREEZE_FAULTS", "6")
SEED = int(os.environ.get("REFREEZE_FAULTS_SEED", "18"))


def chosen(cases):
    """Return all cases, or some."""
    if WANTED == "all" or int(WANTED) >= len(cases):
        return cases
    return random.Random(SEED).sample(cases, int(WANTED))  # noqa: S311 cases, not secrets


@pytest.mark.parametrize("name", COMMANDS)
def test_a_request_goes_wrong(s3_bucket, tmp_path, capsys, name):
    """It succeeds as if nothing had happened, or fails with a typed error, main untouched, and succeeds when run again."""
    server, bucket = s3_bucket
    if server.kind != "versitygw":
        pytest.skip("repositories are copied as versitygw's files")
    wrong = []
    with fault_proxy(server) as (seen, faults):
        sweep = Sweep(server, bucket, seen, faults, COMMANDS[name])
        sweep.prepare(tmp_path)
        every = list(sweep.cases())
        cases = chosen(every)
        for case in cases:
            said = sweep.wrong(case)
            if said is not None:
                wrong.append(f"{case.fault.name} at {sweep.described(case)}: {said}")
    figures = f"{len(sweep.requests)} requests, {len(every):,} cases, {len(cases):,} run"
    with capsys.disabled():
        sys.stdout.write("\n".join([f"\n{name}: {figures}, {len(wrong)} wrong", *wrong, ""]))
    assert not wrong


@pytest.mark.parametrize("name", ["append", "append by concatenation"])
def test_a_read_of_the_target_is_refused(s3_bucket, tmp_path, name):
    """Regression: a snapshot that was refused once while copied chunks were read made them fill values, published."""
    server, bucket = s3_bucket
    if server.kind != "versitygw":
        pytest.skip("repositories are copied as versitygw's files")
    with fault_proxy(server) as (seen, faults):
        sweep = Sweep(server, bucket, seen, faults, COMMANDS[name])
        sweep.prepare(tmp_path)
        reads = [
            number
            for number, request in enumerate(sweep.requests[: len(sweep.requests) // 2])
            if request.method == "GET" and "/snapshots/" in request.path
        ]
        assert reads
        for number in reads[:6]:
            said = sweep.wrong(Case(number, Fault.REFUSED))
            assert said is None, (number, said)
