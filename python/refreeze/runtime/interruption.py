"""Keeps long calls interruptible: those of other libraries, and several of the core at a time."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Job", "in_parallel", "interruptible"]

_SIGNAL_CHECK = 0.1
"""Seconds between two looks at signals."""


def interruptible[T](function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Call a function so that a signal handler of Python may end the call by raising.

    Python runs handlers in the main thread, between two instructions. A signal that comes just
    before that thread waits for a lock without a time limit, as zarr does, is seen when the wait
    is over. So the main thread waits in short steps while another one works; that one is left
    behind when a handler raises.
    """
    if threading.current_thread() is not threading.main_thread():
        return function(*arguments, **named)
    results: list[T] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def work() -> None:
        try:
            results.append(function(*arguments, **named))
        except BaseException as error:  # noqa: BLE001 raised again in the caller's thread
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=work, name="refreeze-metadata", daemon=True).start()
    while not done.wait(_SIGNAL_CHECK):
        pass
    if errors:
        raise errors[0]
    return results[0]


@dataclass(frozen=True)
class Job:
    """Work that is done in a thread of its own."""

    work: Callable[[threading.Event], Any]
    """Given an event, it ends soon after that is set; what it returns then is dropped."""
    slots: int
    """How much of what is shared it takes."""


def in_parallel(jobs: Sequence[Job], slots: int) -> list[Any]:
    """Do jobs side by side, as many as fit into ``slots``, and return their results in order.

    The first error ends the others and is raised; so does a signal handler that raises.
    """
    stop = threading.Event()
    finished: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()
    results: list[Any] = [None] * len(jobs)
    waiting = deque(enumerate(jobs))
    running = 0

    def do(index: int, job: Job) -> None:
        try:
            finished.put((index, job.work(stop), None))
        except BaseException as error:  # noqa: BLE001 raised again in the caller's thread
            finished.put((index, None, error))

    try:
        while waiting or running:
            # One that needs more than there is runs by itself.
            while waiting and (not running or running + waiting[0][1].slots <= slots):
                running += waiting[0][1].slots
                threading.Thread(
                    target=do, args=waiting.popleft(), name="refreeze-listing", daemon=True
                ).start()
            try:
                index, result, error = finished.get(timeout=_SIGNAL_CHECK)
            except queue.Empty:
                continue
            if error is not None:
                raise error
            results[index] = result
            running -= jobs[index].slots
    finally:
        stop.set()
    return results
