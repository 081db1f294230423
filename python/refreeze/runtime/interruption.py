"""Keeps long calls interruptible: those of other libraries, and several of the core at a time.

A call that was given up goes on in its thread. Such threads are ended before the interpreter is:
one that came back to Python while that is torn down would abort the process.
"""

from __future__ import annotations

import atexit
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from refreeze.runtime import command

__all__ = ["Job", "in_parallel", "interruptible"]

_SIGNAL_CHECK = 0.1
"""Seconds between two looks at signals."""
_LEAVE = 2.0
"""Seconds that threads have to end before the interpreter does."""

_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def interruptible[T](function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Call a function so that a signal handler of Python may end the call by raising.

    Python runs handlers in the main thread, between two instructions. A signal that comes just
    before that thread waits for a lock without a time limit, as zarr does, is seen when the wait
    is over. So the main thread waits in short steps while another one works; that one is left
    behind when a handler raises.
    """
    current = threading.current_thread()
    if current is not threading.main_thread() and current.ident != command.working_thread():
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

    _start("refreeze-metadata", work)
    while not done.wait(_SIGNAL_CHECK):
        _stop_if_asked()
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
                _start("refreeze-listing", do, *waiting.popleft())
            try:
                index, result, error = finished.get(timeout=_SIGNAL_CHECK)
            except queue.Empty:
                _stop_if_asked()
                continue
            if error is not None:
                raise error
            results[index] = result
            running -= jobs[index].slots
    finally:
        stop.set()
    return results


def _start(name: str, function: Callable[..., None], *arguments: Any) -> None:
    thread = threading.Thread(target=function, args=arguments, name=name, daemon=True)
    _threads.add(thread)
    thread.start()


def _stop_if_asked() -> None:
    """Do in the command's thread what Python does in the main thread when a signal comes."""
    if command.stopping():
        raise KeyboardInterrupt


@atexit.register
def _end_threads() -> None:
    """End what was given up; a thread that waits for another library stays asleep."""
    running = [thread for thread in _threads if thread.is_alive()]
    if not running:
        return
    from refreeze._refreeze import stop_calls

    stop_calls()
    deadline = time.monotonic() + _LEAVE
    for thread in running:
        thread.join(max(0, deadline - time.monotonic()))
