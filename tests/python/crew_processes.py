"""What the tests of kills do in processes of their own; imports little, since each of them imports it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import refreeze
from refreeze.verbs.batch_queue import work

# Forked from a process that has never used the core: its runtime does not survive a fork.
CONTEXT = multiprocessing.get_context("forkserver")
IMPORTED = ["crew_processes", "refreeze.verbs.ingest", "refreeze.planning.dispatch", "zarr"]


def do_part(run: str, part: str, options: dict[str, Any]) -> None:
    """Do a part of a plan, with those options that are for the stores."""
    work(run, part, **{name: options[name] for name in options if name.endswith("_options")})


def coordinate(source: str, target: str, options: dict[str, Any]) -> None:
    """Ingest with two threads that list and write."""
    with ThreadPoolExecutor(2) as executor:
        refreeze.ingest(source, target, executor=executor, **options)


def _run(begun: Any, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    begun.send(True)
    function(*arguments)


def killed(after: float, function: Callable[..., object], *arguments: Any) -> bool:
    """Call a function in another process, which is killed; tell whether it was still at work."""
    CONTEXT.set_forkserver_preload(IMPORTED)
    begun, child = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_run, args=(child, function, arguments))
    process.start()
    child.close()
    begun.recv()
    process.join(after)
    process.kill()
    process.join()
    return process.exitcode != 0
