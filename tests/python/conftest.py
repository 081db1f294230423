"""Fixtures and settings that all Python tests share."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

import refreeze
from bucket_server import Bucket, running
from crews_for_tests import store_of
from endpoint import run_endpoint
from modes_for_tests import world_of, write
from s3_server import S3Server, run_s3_server
from scenarios import write_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from endpoint import Endpoint
    from modes_for_tests import World

# Time limits belong to pytest-timeout: examples here do IO on a machine that others may be using.
settings.register_profile(
    "dev", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)
# CI must give the same answer twice, and say how to see a failure again.
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


# Who is started in the background of a script ignores Ctrl-C, and so would every command that the
# tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One S3 server for the whole session; it ends with it."""
    with run_s3_server() as server:
        yield server


@pytest.fixture
def s3_bucket(s3_server: S3Server) -> tuple[S3Server, str]:
    """Return the server and the name of a bucket that no other test uses."""
    return s3_server, s3_server.new_bucket()


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    """Serve a bucket whose answers a test makes up; see `bucket_server.Bucket`."""
    with running(Bucket()) as bucket:
        yield bucket


@pytest.fixture
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let only what a test sets reach the stores."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a small store; see `scenarios.write_store`."""
    return write_store(tmp_path / "air.zarr")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return where a repository goes."""
    return tmp_path / "air.icechunk"


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    """Return where a test writes its store, and where the repository goes."""
    return tmp_path / "source.zarr", tmp_path / "target.icechunk"


@pytest.fixture
def ingested(tmp_path: Path) -> tuple[Path, Path]:
    """Return a source of 12 days and a target that was ingested from it."""
    source, target = write(tmp_path / "a", 0, 12), tmp_path / "t"
    refreeze.ingest(source, target)
    return source, target


@pytest.fixture
def many_chunks(tmp_path: Path) -> Path:
    """Return a source whose chunks make many units of work; see `crews_for_tests.store_of`."""
    return store_of(tmp_path)


@pytest.fixture
def by_one_process(tmp_path: Path, many_chunks: Path) -> Path:
    """Return the repository that one process makes of it."""
    refreeze.ingest(str(many_chunks), str(tmp_path / "one.icechunk"))
    return tmp_path / "one.icechunk"


@pytest.fixture
def serve() -> Iterator[Callable[..., Endpoint]]:
    """Start synthetic endpoints that end with the test; see `endpoint.run_endpoint`."""
    with ExitStack() as running:
        yield lambda *arrays, **config: running.enter_context(run_endpoint(*arrays, **config))


@pytest.fixture(params=["memory", "icechunk"])
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return one of the two cores of the tests of modes, with an empty target."""
    return world_of(request.param, tmp_path, monkeypatch)
