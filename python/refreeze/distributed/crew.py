"""Crews: what the core's coordinator hands units to, and takes results from.

A crew is told the plan, is given units and yields results, in any order. One for executors of
`concurrent.futures` is here; what lists and writes is `refreeze.work.carry_out`.
"""

from __future__ import annotations

import json
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import ConflictError, RefreezeError, TargetError
from refreeze.planning.options import shared_concurrency
from refreeze.work import Secrets, WorkPlan, carry_out

if TYPE_CHECKING:
    from refreeze.stores.web_store import Probing

__all__ = ["ExecutorCrew", "Later", "Nobody", "Places", "Share", "carry_out_unit", "explained"]

POLL = 0.2
"""Seconds to wait for a result before the core may look whether it should stop."""

NOTHING_LOST = "nothing is lost: run the same command again to resume"


class Later:
    """Nobody works yet: the run is begun, and its plan is for a batch queue."""

    kind = "later"

    def __init__(self) -> None:
        self.document: dict[str, Any] | None = None


class Nobody:
    """Nobody works any more: what a batch queue has left is committed."""

    kind = "nobody"


@dataclass(frozen=True)
class Share:
    """What one worker may use."""

    memory: int
    concurrency: int | str


@dataclass(frozen=True)
class Places:
    """Where workers find what they need."""

    sources: tuple[str, ...]
    target: str
    source_options: dict[str, str]
    target_options: dict[str, str]
    secrets: Secrets
    memory: int
    concurrency: int | str
    probing: Probing

    def share(self, workers: int) -> Share:
        """Return what one of so many workers may use."""
        return Share(self.memory, shared_concurrency(self.concurrency, workers))

    def plan(self, core: str, workers: int) -> WorkPlan:
        """Return the plan of a run that the core has begun, for each of so many workers."""
        return WorkPlan(
            sources=self.sources,
            target=self.target,
            plan=json.loads(core),
            source_options=self.source_options,
            target_options=self.target_options,
            ingest=asdict(self.probing.shared_by(workers)),
        )


def carry_out_unit(plan: str, unit: str, secrets: Secrets | None, share: Share) -> bytes:
    """Carry out a unit in a worker, with arguments that every executor can send."""
    return carry_out(plan, unit, secrets, memory=share.memory, concurrency=share.concurrency)


class ExecutorCrew:
    """Workers of a `concurrent.futures.Executor`, or of what behaves like one."""

    kind = "workers"

    def __init__(self, executor: Any, places: Places | None = None) -> None:
        refuse_what_cannot_work(executor)
        self._executor = executor
        self.places = places
        self._plan = self._run = ""
        self._running: dict[Future[bytes], str] = {}

    def count(self) -> int:
        """Return how many workers there are, as far as is known."""
        return int(getattr(self._executor, "_max_workers", 0) or 4)

    def start(self, core: str) -> None:
        """Take the plan."""
        assert self.places is not None  # noqa: S101 set by `ingest`
        plan = self.places.plan(core, self.count())
        self._plan, self._run = plan.to_json(), plan.run_id

    def submit(self, unit: str) -> None:
        """Hand out a unit."""
        assert self.places is not None  # noqa: S101 set by `ingest`
        share = self.places.share(self.count())
        arguments = (self._plan, unit, self.places.secrets, share)
        try:
            future = self._executor.submit(carry_out_unit, *arguments)
        except (BrokenExecutor, RuntimeError) as error:
            raise RefreezeError(f"the executor takes no work: {error}", NOTHING_LOST) from error
        self._running[future] = unit

    def arrived(self) -> list[str]:
        """Return the results that have arrived; waits for a moment when there are none."""
        done, _ = wait(self._running, timeout=POLL, return_when=FIRST_COMPLETED)
        return [self._take_one(future) for future in done]

    def _take_one(self, future: Future[bytes]) -> str:
        del self._running[future]
        try:
            return future.result().decode()
        except BrokenExecutor as error:
            raise RefreezeError(f"a worker of the executor died: {error}", NOTHING_LOST) from error
        except ModuleNotFoundError as error:
            raise RefreezeError(
                f"a worker cannot import refreeze ({error.name})",
                "install the same version of refreeze on every machine; " + NOTHING_LOST,
            ) from error
        except ConflictError as error:
            assert self.places is not None  # noqa: S101 set by `ingest`
            raise explained(error, self.places, self._run) from error

    def close(self) -> None:
        """Let go of what has not begun; the executor is its owner's."""
        for future in self._running:
            future.cancel()


def explained(error: BaseException, places: Places, run_id: str) -> BaseException:
    """Return what an error of a worker means to a user.

    To a worker that has another folder under the target's name, the run seems over. Its staging
    branch tells: it is what a probe file would be, written by the coordinator alone.
    """
    from refreeze import _refreeze
    from refreeze.stores.resolve import resolve_target

    if not isinstance(error, ConflictError):
        return error
    options = {**places.target_options, **places.secrets.target} or None
    runs = json.loads(_refreeze.status(resolve_target(places.target, options)))["runs"]
    if not any(run["run_id"] == run_id and run["state"] != "published" for run in runs):
        return error
    return TargetError(
        f"a worker has another folder at {places.target}: it does not hold the run {run_id}",
        "a folder must be shared by all machines; or use a bucket; " + NOTHING_LOST,
    )


def refuse_what_cannot_work(executor: Any) -> None:
    """Refuse what is no executor, or one in which no work gets done; with the line that does."""
    name = type(executor).__name__
    if isinstance(executor, type) or not callable(getattr(executor, "submit", None)):
        if name == "module" or type(executor).__module__.split(".")[0] == "ray":
            raise TypeError(
                f"executor is {executor!r}, which has no submit: wrap ray as docs/scaling.md shows"
            )
        raise TypeError(f"executor is an Executor of concurrent.futures, not {executor!r}")
    if name == "DaskDelayedExecutor":
        raise TypeError(
            "VirtualiZarr's DaskDelayedExecutor computes one task after the other; "
            "use client=distributed.Client(...)"
        )
    # What an ingest by one process does not need is imported here: multiprocessing.
    from concurrent.futures import ProcessPoolExecutor

    if isinstance(executor, ProcessPoolExecutor):
        context = getattr(executor, "_mp_context", None)
        if context is not None and context.get_start_method() == "fork":
            raise TypeError(
                "forked processes hang in refreeze; use ProcessPoolExecutor("
                'mp_context=multiprocessing.get_context("spawn"))'
            )
