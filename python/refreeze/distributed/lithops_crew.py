"""Workers that lithops starts, by a ``FunctionExecutor``. The package is not imported here."""

from __future__ import annotations

from typing import Any

from refreeze.distributed.crew import NOTHING_LOST, Places, carry_out_unit
from refreeze.exceptions import RefreezeError

__all__ = ["LithopsCrew", "is_lithops"]

WORKERS = 16
"""Functions that are taken to run at a time where the executor does not say."""

LOOK = 2
"""Seconds to wait for a result before the core may look whether it should stop."""


def is_lithops(executor: Any) -> bool:
    """Whether this is a ``FunctionExecutor``, or behaves like one."""
    return not isinstance(executor, type) and all(
        callable(getattr(executor, name, None)) for name in ("call_async", "wait")
    )


class LithopsCrew:
    """Functions that lithops invokes, one for each unit."""

    kind = "workers"

    def __init__(self, executor: Any) -> None:
        self._executor = executor
        self.places: Places | None = None
        self._plan = ""
        self._running: list[Any] = []

    def count(self) -> int:
        """Return how many functions run at a time, as far as is known."""
        invoker = getattr(self._executor, "invoker", None)
        return max(1, min(int(getattr(invoker, "max_workers", 0) or WORKERS), 1000))

    def start(self, core: str) -> None:
        """Take the plan; refuse secrets, which lithops would write to its storage."""
        assert self.places is not None  # noqa: S101 set by the verb
        if self.places.secrets:
            raise ValueError(
                "lithops writes the arguments of its functions to a bucket: give credentials to the "
                "functions' role or environment, not as options"
            )
        self._plan = self.places.plan(core, self.count()).to_json()

    def submit(self, unit: str) -> None:
        """Invoke a function for a unit."""
        assert self.places is not None  # noqa: S101 set by the verb
        arguments = {
            "plan": self._plan,
            "unit": unit,
            "secrets": None,
            "share": self.places.share(self.count()),
        }
        try:
            self._running.append(self._executor.call_async(carry_out_unit, arguments))
        except Exception as error:  # what its back ends raise has no common class
            raise RefreezeError(f"lithops invokes no function: {error}", NOTHING_LOST) from error

    def arrived(self) -> list[str]:
        """Return the results that have arrived; waits for a moment when there are none."""
        from lithops.wait import ANY_COMPLETED  # type: ignore[import-not-found,unused-ignore]

        try:
            done, self._running = self._executor.wait(
                self._running,
                return_when=ANY_COMPLETED,
                throw_except=False,
                timeout=LOOK,
                show_progressbar=False,
            )
        except TimeoutError:
            return []
        # An error of the function is raised here, with its class.
        return [future.result(throw_except=True).decode() for future in done]

    def close(self) -> None:
        """Let go of what has not begun; the executor is its owner's."""
        for future in self._running:
            future.cancel()
