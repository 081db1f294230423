"""Workers of a Dask cluster, by a client of ``distributed``. The package is imported when one is used."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from refreeze.distributed.crew import NOTHING_LOST, POLL, Places, explained
from refreeze.distributed.dask_task import BARE, LINE, VERSION, arguments_of
from refreeze.exceptions import MismatchError, RefreezeError

__all__ = ["DaskCrew", "client_of", "cluster"]

_log = logging.getLogger("refreeze")

ATTEMPTS = 3
"""How often a unit is submitted of which Dask says that it kills its workers."""


def client_of(address: str | None, scheduler_file: str | None) -> Any:
    """Connect to a scheduler."""
    try:
        import distributed
    except ImportError:
        raise RefreezeError(
            "Dask is not installed", "pip install 'refreeze[dask]', on every machine"
        ) from None
    connect: Any = distributed.Client
    try:
        if scheduler_file is not None:
            return connect(scheduler_file=scheduler_file, timeout=20)
        return connect(address, timeout=20)
    except (OSError, TimeoutError, ValueError) as error:
        raise RefreezeError(
            f"no Dask scheduler answers at {scheduler_file or address}: {error}",
            "check the address; nothing was begun",
        ) from error


@contextmanager
def cluster(address: str | None, scheduler_file: str | None) -> Iterator[Any]:
    """Give a client of a cluster, and close it; none when no cluster is named."""
    if address is None and scheduler_file is None:
        yield None
        return
    if address is not None and scheduler_file is not None:
        raise ValueError("give one of --dask and --scheduler-file")
    with client_of(address, scheduler_file) as client:
        yield client


NAMED = 3
"""Workers that an error names."""

GATHER = 5.0
"""Seconds to wait for a result that a worker has; then others are looked at first."""


class DaskCrew:
    """A crew of whoever has joined the cluster."""

    kind = "workers"

    def __init__(
        self,
        client: Any,
        wait_for_workers: float = 60,
        submit: Mapping[str, Any] | None = None,
    ) -> None:
        if not hasattr(client, "scheduler_info") or not hasattr(client, "submit"):
            raise TypeError(f"client is a distributed.Client, not {client!r}")
        if getattr(client, "asynchronous", False):
            raise TypeError(
                "client is asynchronous; use distributed.Client(..., asynchronous=False)"
            )
        self._client = client
        self._wait = wait_for_workers
        # What the client is to be told with each task, such as which workers may have it.
        self._submit = {name: value for name, value in (submit or {}).items() if name != "pure"}
        self.places: Places | None = None
        self._plan = ""
        self._run = ""
        self._running: dict[Any, tuple[str, int]] = {}
        self._since: float | None = None
        self.warnings: list[str] = []
        """What a user should know."""

    def _threads(self) -> int:
        if self._client.status != "running":
            raise RefreezeError("the Dask client is closed", NOTHING_LOST)
        return sum(self._client.nthreads().values())

    def count(self) -> int:
        """Return how many threads the workers have; waits for the first one."""
        threads = self._threads()
        if threads:
            self._since = None
            return threads
        now = time.monotonic()
        self._since = self._since or now
        if self._running and now - self._since < self._wait:
            # All have left; others may join.
            return 1
        if not self._running:
            try:
                self._client.wait_for_workers(1, timeout=max(self._wait, 0.01))
            except TimeoutError:
                raise self._nobody() from None
            return max(1, self._threads())
        raise self._nobody()

    def _nobody(self) -> RefreezeError:
        return RefreezeError(
            f"no Dask worker has come within {self._wait:g} seconds",
            "start workers, or wait longer with --wait-for-workers; " + NOTHING_LOST,
        )

    def start(self, core: str) -> None:
        """Take the plan."""
        assert self.places is not None  # noqa: S101 set by `ingest`
        self._plan = self.places.plan(core, max(1, self._threads())).to_json()
        self._run = json.loads(core)["run_id"]
        address = str(getattr(self._client.scheduler, "address", ""))
        if self.places.secrets:
            plain = " unencrypted (tcp://)" if address.startswith("tcp://") else ""
            warning = (
                f"the credentials given as options travel{plain} to the Dask scheduler, which keeps "
                "them in memory; give them to the workers' environment or role instead"
            )
            self.warnings.append(warning)
            _log.warning(warning)

    def submit(self, unit: str, attempt: int = 0) -> None:
        """Hand out a unit under a name that says what it is."""
        assert self.places is not None  # noqa: S101 set by `ingest`
        share = self.places.share(self.count())
        arguments = arguments_of(self._plan, unit, self.places.secrets, share)
        future = self._client.submit(
            eval,
            LINE,
            BARE,
            {"arguments": arguments},
            **self._submit,
            key=f"{self._name(unit)}-{self._run}-{attempt}-{time.monotonic_ns()}",
            pure=False,
        )
        self._running[future] = (unit, attempt)

    def _name(self, unit: str) -> str:
        document = json.loads(unit)
        array, ranges = document["parts"][0]
        path = json.loads(self._plan)["plan"]["arrays"][array]["path"].strip("/")
        spans = "x".join(f"{start}:{stop}" for start, stop in ranges)
        return f"refreeze {path} {spans}"

    def arrived(self) -> list[str]:
        """Return what has arrived; units whose workers were killed are submitted again."""
        done = [future for future in self._running if future.done()]
        if not done:
            self.count()
            time.sleep(POLL)
            return []
        results = []
        for future in done:
            unit, attempt = self._running.pop(future)
            error = future.exception() if future.status != "finished" else None
            if error is None and future.status == "finished":
                try:
                    results.append(future.result(timeout=GATHER).decode())
                except TimeoutError:
                    # The worker that held it has died: it is computed again.
                    self._running[future] = (unit, attempt)
                    continue
            elif type(error).__name__ in {"KilledWorker", "CancelledError", "FutureCancelledError"}:
                if attempt + 1 >= ATTEMPTS:
                    raise RefreezeError(
                        f"the workers of a unit died, {ATTEMPTS} times over: {error}", NOTHING_LOST
                    ) from error
                self.submit(unit, attempt + 1)
            elif error is not None:
                raise self._explained(error) from error
            # Its result is not kept on the cluster.
            future.release()
        return results

    def _explained(self, error: BaseException) -> BaseException:
        """Return what an error of a task means to a user."""
        if isinstance(error, ImportError | AttributeError | TypeError):
            found = self._client.run(eval, VERSION, BARE, on_error="return")
            return of_strangers(error, found)
        assert self.places is not None  # noqa: S101 set by `ingest`
        return explained(error, self.places, self._run)

    def close(self) -> None:
        """Let go of what has not begun; the client is its owner's."""
        for future in self._running:
            future.cancel()


def of_strangers(error: BaseException, found: Mapping[str, Any]) -> BaseException:
    """Return the error that names workers without this version of refreeze; if there are none, itself."""
    from refreeze import __version__

    without = sorted(worker for worker, version in found.items() if not isinstance(version, str))
    if without:
        return RefreezeError(
            f"a worker cannot import refreeze: {', '.join(without[:NAMED])}",
            f"install refreeze {__version__} on every machine; {NOTHING_LOST}",
        )
    others = {worker: text for worker, text in found.items() if text != __version__}
    if not others and isinstance(error, ModuleNotFoundError):
        return RefreezeError(
            f"a worker cannot import {error.name}",
            f"install what refreeze needs on every machine; {NOTHING_LOST}",
        )
    if not others:
        return error
    named = ", ".join(f"{text} on {worker}" for worker, text in sorted(others.items())[:NAMED])
    return MismatchError(
        f"workers have another refreeze: {named}; this is refreeze {__version__}",
        f"install the same version on every machine; {NOTHING_LOST}",
    )
