"""Credential providers of obstore stores, so that the core can call them from its own threads.

A provider is called where no event loop runs. One that is asynchronous gets a loop of its own, which
stays, because what a provider keeps (an HTTP session) belongs to the loop that it was made in. When
a provider is asked, and what its credentials are for, is not decided here.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["callable_anywhere"]

_starting = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


class _CallableAnywhere:
    """A provider whose answers need no event loop to be had."""

    def __init__(self, provider: Callable[[], Any]) -> None:
        self._provider = provider

    def __call__(self) -> Any:
        given = self._provider()
        if not inspect.isawaitable(given):
            return given

        async def wait() -> Any:
            return await given

        return asyncio.run_coroutine_threadsafe(wait(), _running_loop()).result()

    def __getattr__(self, name: str) -> Any:
        # obstore reads settings (`config`, `prefix`) from its own providers.
        return getattr(self._provider, name)


def callable_anywhere(provider: Callable[[], Any]) -> Callable[[], Any]:
    """Wrap a provider, asynchronous or not, such that calling it gives credentials."""
    return _CallableAnywhere(provider)


def _running_loop() -> asyncio.AbstractEventLoop:
    global _loop  # noqa: PLW0603 one for the process
    with _starting:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            thread = threading.Thread(
                target=_loop.run_forever, name="refreeze-credentials", daemon=True
            )
            thread.start()
        return _loop
