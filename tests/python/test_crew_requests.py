"""What a crew asks of a source's server in all, and how large what it sends back is."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import refreeze
from endpoint import array
from refreeze.verbs.batch_queue import begin, commit
from refreeze.work import carry_out

RATE = 20
PAGES = 30


@pytest.mark.parametrize("crew", [False, True])
def test_requests_are_as_rare_as_was_asked_for(
    serve: Callable[..., Any], tmp_path: Path, *, crew: bool
) -> None:
    """The bound is for all workers together; requests that are that far apart take that long."""
    endpoint = serve(array("a", PAGES, 1_000))
    begun = time.monotonic()
    with ThreadPoolExecutor(2) as executor:
        report = refreeze.ingest(
            "s3://bucket",
            str(tmp_path / "t.icechunk"),
            source_options=endpoint.options,
            max_requests_per_second=RATE,
            executor=executor if crew else None,
            no_read_check=True,
        )
    took = time.monotonic() - begun
    assert report.references_written == PAGES * 1_000
    assert report.list_requests >= PAGES
    # Each of two workers has half of it, and sends its first request at once.
    assert took >= (report.list_requests - 4) / RATE


def test_results_are_small_however_scattered_chunks_are(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    """A random half of the chunks would be a number each: those are beside the result."""
    endpoint = serve(array("a", 100, 1_000, pattern={"kind": "random", "probability": 0.5}))
    target, run = tmp_path / "t.icechunk", tmp_path / "run.json"
    options: dict[str, Any] = {"source_options": endpoint.options, "no_read_check": True}
    plan, _ = begin("s3://bucket", str(target), run, **options)
    assert plan is not None
    for unit in range(len(plan.units)):
        assert len(carry_out(plan, unit)) < 20_000
    assert list(target.glob("refreeze/*/*.chunks"))
    report = commit(run, source_options=endpoint.options)
    assert report.published
    assert not list(target.glob("refreeze/*/*"))
    whole = tmp_path / "whole.icechunk"
    alone = refreeze.ingest("s3://bucket", str(whole), **options)
    assert report.references_written == alone.references_written
    assert refreeze.verify("s3://bucket", str(target), source_options=endpoint.options).equal
