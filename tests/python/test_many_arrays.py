"""Many small arrays, as of a plate or of a model's output: requests and commits, and what is found."""

import numpy as np
import pytest

import refreeze
from endpoint import array, run_endpoint

ARRAYS, GROUPS = 300, 10
GRID = (2, 3, 2)


def names():
    return [f"plate.zarr/g{i % GROUPS}/a{i // GROUPS:03}" for i in range(ARRAYS)]


def serving(*others, **settings):
    arrays = [array(name, *GRID, **settings) for name in names()]
    groups = ["plate.zarr", *(f"plate.zarr/g{group}" for group in range(GROUPS))]
    return run_endpoint(*arrays, *others, groups=groups)


def ingested(endpoint, target, **options):
    return refreeze.ingest(
        "s3://bucket/plate.zarr", target, source_options=endpoint.options, **options
    )


def test_requests_and_commits_of_many_arrays(tmp_path):
    """Regression: seven requests an array. A document, a reference that is read back, and a page for dozens."""
    with serving() as endpoint:
        report = ingested(endpoint, tmp_path / "target")
        asked = endpoint.stats()
        assert (asked["list"] + asked["get"] + asked["head"]) / ARRAYS <= 2.2, asked
        # Those of groups find the arrays; those of the report find the chunks.
        assert asked["list"] == report.list_requests + GROUPS + 1
        assert report.commits <= 3
        assert report.references_written == ARRAYS * np.prod(GRID)
        assert all(found.missing == 0 for found in report.arrays)
        assert refreeze.verify(
            "s3://bucket/plate.zarr", tmp_path / "target", source_options=endpoint.options
        ).equal


def test_arrays_that_are_full_of_holes(tmp_path):
    """An array whose last chunks are missing ends where the next one begins: nothing is taken from it."""
    pattern = {"kind": "random", "probability": 0.4}
    with serving(pattern=pattern) as endpoint:
        report = ingested(endpoint, tmp_path / "target")
        lone = sum(
            batch.num_rows
            for name in names()[:20]
            for batch in refreeze.list_chunks(endpoint.store(), name)
        )
        few = [found for found in report.arrays if found.path[1:] in _relative(names()[:20])]
        assert sum(found.references for found in few) == lone > 0
        assert refreeze.verify(
            "s3://bucket/plate.zarr", tmp_path / "target", source_options=endpoint.options
        ).equal


def _relative(names):
    return {name.partition("/")[2] for name in names}


def test_strays_and_large_arrays_among_them(tmp_path):
    """Foreign keys are told of, each of its own array; one that needs many pages is listed by itself."""
    strays = [
        {"key": "plate.zarr/g0/a003/c/README", "text": "x"},
        {"key": "plate.zarr/g0/a0031/notes.txt", "text": "x"},
    ]
    large = array("plate.zarr/g5/large", 50, 50)
    arrays = [array(name, *GRID) for name in names()]
    groups = ["plate.zarr", *(f"plate.zarr/g{group}" for group in range(GROUPS))]
    with run_endpoint(*arrays, large, groups=groups, objects=strays) as endpoint:
        report = ingested(endpoint, tmp_path / "target")
        assert report.references_written == ARRAYS * np.prod(GRID) + 2500
        (told,) = [text for text in report.warnings if "README" in text]
        assert "g0/a003" in told


@pytest.mark.parametrize(
    "fault",
    [
        {"start_after": "ignored"},
        {"internal_error": 0.1},
        {"empty_truncated": 0.2},
        {"outside_key": 0.02, "limit": 1},
    ],
    ids=lambda fault: next(iter(fault)),
)
def test_servers_that_misbehave(tmp_path, fault):
    """Nothing is shared of a page that cannot be trusted, and one that failed is asked for again."""
    with serving() as endpoint:
        endpoint.fail(**fault)
        report = ingested(endpoint, tmp_path / "target")
        assert report.references_written == ARRAYS * np.prod(GRID)
