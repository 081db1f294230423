"""``--workers N``: spawned processes on this machine.

They are replaced when they die, and gone soon after their coordinator.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from typing import TYPE_CHECKING

from refreeze.distributed.crew import NOTHING_LOST, POLL, ExecutorCrew
from refreeze.exceptions import RefreezeError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ProcessCrew", "process_pool"]

ATTEMPTS = 3
"""How often a unit is tried whose worker dies."""

LOOK = 1.0
"""Seconds between two looks whether the coordinator is still there."""


def _begin(coordinator: int, begin: Callable[[], None] | None) -> None:
    """End this process when its coordinator is gone, whatever it is doing."""

    def watch() -> None:
        while os.getppid() == coordinator:
            time.sleep(LOOK)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="refreeze-watch").start()
    if begin is not None:
        begin()


def process_pool(workers: int, begin: Callable[[], None] | None = None) -> ProcessPoolExecutor:
    """Return a pool of spawned processes that end with this one; each calls ``begin`` first."""
    return ProcessPoolExecutor(
        workers,
        # A forked child has the core's runtime without its threads, and hangs.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(os.getpid(), begin),
    )


class ProcessCrew(ExecutorCrew):
    """Spawned processes of our own."""

    def __init__(self, workers: int) -> None:
        super().__init__(process_pool(workers))
        self._workers = workers
        self._died: Counter[str] = Counter()

    def count(self) -> int:
        """Return how many processes there are."""
        return self._workers

    def submit(self, unit: str) -> None:
        """Hand out a unit, to new processes where one has died."""
        try:
            super().submit(unit)
        except RefreezeError as error:
            if not isinstance(error.__cause__, BrokenExecutor):
                raise
            self._replace()
            super().submit(unit)

    def arrived(self) -> list[str]:
        """Return what has arrived; a unit whose worker has died is tried again."""
        done, _ = wait(self._running, timeout=POLL, return_when=FIRST_COMPLETED)
        dead = [future for future in done if isinstance(future.exception(), BrokenExecutor)]
        if not dead:
            return self._take(list(done))
        results = self._take([future for future in done if future not in dead])
        units = [self._running.pop(future) for future in dead]
        self._replace()
        for unit in units:
            self._died[unit] += 1
            if self._died[unit] > ATTEMPTS * self._workers:
                raise RefreezeError(
                    f"the worker of a unit died {self._died[unit]} times",
                    "less --memory or fewer --workers may help; " + NOTHING_LOST,
                )
            super().submit(unit)
        return results

    def _take(self, done: list[Future[bytes]]) -> list[str]:
        return [self._take_one(future) for future in done]

    def _replace(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor = process_pool(self._workers)

    def close(self) -> None:
        """End the processes."""
        super().close()
        processes = list((getattr(self._executor, "_processes", None) or {}).values())
        self._executor.shutdown(wait=False, cancel_futures=True)
        if self._running:
            for process in processes:
                process.terminate()
