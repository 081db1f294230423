"""Keeps long calls of other libraries interruptible. refreeze's own core looks after itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

__all__ = ["interruptible"]

_SIGNAL_CHECK = 0.1
"""Seconds between two looks at signals."""


def interruptible[T](function: Callable[..., T], *arguments: Any) -> T:
    """Call a function so that a signal handler of Python may end the call by raising.

    Python runs handlers in the main thread, between two instructions. A signal that comes just
    before that thread waits for a lock without a time limit, as zarr does, is seen when the wait
    is over. So the main thread waits in short steps while another one works; that one is left
    behind when a handler raises.
    """
    if threading.current_thread() is not threading.main_thread():
        return function(*arguments)
    results: list[T] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def work() -> None:
        try:
            results.append(function(*arguments))
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
