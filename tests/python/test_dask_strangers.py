"""Workers of a Dask cluster that cannot do the work: without refreeze, of another version, without the target or source.

Each is a process of its own, which a preload makes strange before it joins.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import distributed
import pytest

import refreeze
from crews_for_tests import SMALL, references, store_of
from refreeze.exceptions import (
    MismatchError,
    RefreezeError,
    SourceNotFoundError,
    TargetError,
)

WITHOUT = """
import importlib.abc, importlib.metadata, sys
class Nothing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] == "refreeze":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
def version(name):
    raise importlib.metadata.PackageNotFoundError(name)
sys.meta_path.insert(0, Nothing())
importlib.metadata.version = version
"""
OTHER = """
import refreeze
refreeze.__version__ = "0.0.7"
"""
OLDER = """
import importlib.abc, importlib.metadata, sys
class Nothing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "refreeze.distributed.dask_task":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Nothing())
importlib.metadata.version = lambda name: "0.0.7"
"""
ELSEWHERE = """
import refreeze.stores.resolve as resolve
for name in ("resolve_target", "resolve_source"):
    known = getattr(resolve, name)
    def other(place, *args, known=known, **kwargs):
        return known(str(place).replace({there!r}, {here!r}), *args, **kwargs)
    if known.__name__ == name:
        setattr(resolve, name, other)
"""

Join = Callable[[str], AbstractContextManager[distributed.Client]]


@pytest.fixture
def join(tmp_path: Path) -> Iterator[Join]:
    """Give clients of a cluster whose one worker has run some lines before it joined."""
    with distributed.LocalCluster(
        n_workers=0,
        processes=False,
        protocol="tcp",
        dashboard_address=":0",
        silence_logs=logging.CRITICAL,
    ) as cluster:

        @contextmanager
        def joined(lines: str) -> Iterator[distributed.Client]:
            preload = tmp_path / "preload.py"
            preload.write_text(lines)
            words = ["-m", "distributed.cli.dask_worker", cluster.scheduler_address]
            words += ["--no-nanny", "--no-dashboard", "--nthreads", "1", "--preload", str(preload)]
            words += ["--local-directory", str(tmp_path)]
            with (
                subprocess.Popen(
                    [sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                ) as worker,
                distributed.Client(cluster) as client,
            ):
                try:
                    client.wait_for_workers(1, timeout=120)
                    yield client
                finally:
                    worker.kill()

        yield joined


def test_workers_without_refreeze(tmp_path: Path, join: Join) -> None:
    """Such a worker used to die of the task, so that the error was that no worker had come."""
    source, target = store_of(tmp_path), tmp_path / "t.icechunk"
    with join(WITHOUT) as client:
        for _ in range(2):
            with pytest.raises(RefreezeError, match=r"cannot import refreeze: tcp") as raised:
                refreeze.ingest(str(source), str(target), client=client, **SMALL)
        assert f"install refreeze {refreeze.__version__}" in str(raised.value)
        assert len(client.scheduler_info()["workers"]) == 1
    # Nothing is lost.
    report = refreeze.ingest(str(source), str(target), **SMALL)
    assert report.published
    assert report.references_written == 82


@pytest.mark.parametrize("lines", [OTHER, OLDER], ids=["other", "older"])
def test_workers_of_another_version(tmp_path: Path, join: Join, lines: str) -> None:
    """Both versions are named, also where that version did not know the task."""
    source, target = store_of(tmp_path), tmp_path / "t.icechunk"
    with join(lines) as client:
        with pytest.raises(MismatchError) as raised:
            refreeze.ingest(str(source), str(target), client=client, **SMALL)
        assert "0.0.7" in str(raised.value)
        assert refreeze.__version__ in str(raised.value)
        refreeze.ingest(str(source), str(target), **SMALL)
        with pytest.raises(MismatchError, match=r"0\.0\.7"):
            refreeze.verify(str(source), str(target), client=client)


def test_workers_that_do_not_reach_the_folders(tmp_path: Path, join: Join) -> None:
    """A folder of this machine, which is not there on the other, or another one, or an empty one."""
    source, target = store_of(tmp_path), tmp_path / "t.icechunk"

    def lines(there: str, here: str) -> str:
        return ELSEWHERE.format(there=there, here=here)

    with join(lines("t.icechunk", "nowhere")) as client:
        with pytest.raises(TargetError, match="cannot reach the target"):
            refreeze.ingest(str(source), str(target), client=client, **SMALL)
        refreeze.ingest(str(source), str(target), **SMALL)
        with pytest.raises(TargetError, match="cannot reach the target"):
            refreeze.verify(str(source), str(target), client=client)
    with join(lines("u.icechunk", "t.icechunk")) as client:
        other = tmp_path / "u.icechunk"
        with pytest.raises(TargetError, match=r"another folder.*u\.icechunk"):
            refreeze.ingest(str(source), str(other), client=client, **SMALL)
    (tmp_path / "empty").mkdir()
    with join(lines("source.zarr", "empty")) as client:
        with pytest.raises(SourceNotFoundError, match=r"does not see.*air"):
            refreeze.ingest(str(source), str(other), client=client, **SMALL)
        with pytest.raises(SourceNotFoundError, match="does not see"):
            refreeze.verify(str(source), str(target), client=client)
    assert refreeze.ingest(str(source), str(other), **SMALL).references_written == 82
    assert references(other) == references(target)
