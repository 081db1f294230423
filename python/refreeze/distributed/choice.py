"""Which crew an ingest has, by its options."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from refreeze.distributed.crew import ExecutorCrew, Later, Nobody, Places
from refreeze.work import Secrets, allowed_settings

if TYPE_CHECKING:
    from refreeze.stores.web_store import Probing

__all__ = ["crew_at_work", "crew_of", "places_of"]


@contextmanager
def crew_at_work(crew: Any, places: Callable[[], Places]) -> Iterator[Any]:
    """Tell a crew where things are, and let it go at the end; None stays None."""
    if crew is None or crew.kind != "workers":
        yield crew
        return
    try:
        crew.places = places()
        yield crew
    finally:
        crew.close()


def crew_of(
    executor: Any,
    client: Any,
    workers: int | None,
    wait_for_workers: float,
    *,
    listing: Any = None,
) -> Any:
    """Return the crew for these options, of which at most one may be given; None for one process.

    Workers would not know a ``listing``: beside one they are refused.
    """
    if listing is not None and not (executor is client is workers is None):
        raise ValueError("a listing is read by this process alone: leave out the workers")
    if sum(option is not None for option in (executor, client, workers)) > 1:
        raise ValueError("give one of executor, client and workers")
    if isinstance(wait_for_workers, bool) or not isinstance(wait_for_workers, int | float):
        raise TypeError(f"wait_for_workers is a number of seconds, not {wait_for_workers!r}")
    if isinstance(executor, Later | Nobody):
        return executor
    if client is not None:
        from refreeze.distributed.dask_crew import DaskCrew

        return DaskCrew(client, wait_for_workers)
    if executor is not None:
        return _crew_of_executor(executor, wait_for_workers)
    if workers is None:
        return None
    if isinstance(workers, bool) or not isinstance(workers, int):
        raise TypeError(f"workers is a number of processes, not {workers!r}")
    if workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    from refreeze.distributed.processes import ProcessCrew

    return ProcessCrew(workers)


def _crew_of_executor(executor: Any, wait_for_workers: float) -> Any:
    from refreeze.distributed.lithops_crew import LithopsCrew, is_lithops

    if is_lithops(executor):
        return LithopsCrew(executor)
    client = getattr(executor, "_client", None)
    if client is not None and type(executor).__module__ == "distributed.cfexecutor":
        # That of `client.get_executor()`: the client knows more of its workers.
        from refreeze.distributed.dask_crew import DaskCrew

        return DaskCrew(client, wait_for_workers, vars(executor).get("_kwargs"))
    return ExecutorCrew(executor)


def places_of(
    sources: list[Any],
    target: Any,
    *,
    source_options: Any,
    target_options: Any,
    memory: int,
    concurrency: int | str,
    probing: Probing,
) -> Places:
    """Return where workers find sources and target, which must have addresses for that."""
    for what, place in (*(("source", source) for source in sources), ("target", target)):
        if not isinstance(place, str | os.PathLike):
            raise TypeError(
                f"workers open the {what} for themselves: give its URL and options, not "
                f"{type(place).__name__}"
            )
    source_settings, source_secrets = allowed_settings(source_options)
    target_settings, target_secrets = allowed_settings(target_options)
    return Places(
        sources=tuple(absolute(source) for source in sources),
        target=absolute(target),
        source_options=source_settings,
        target_options=target_settings,
        secrets=Secrets(source_secrets, target_secrets),
        memory=memory,
        concurrency=concurrency,
        probing=probing,
    )


def absolute(place: str | os.PathLike[str]) -> str:
    """Return an address that means the same in every folder."""
    text = os.fspath(place)
    return text if "://" in text else os.path.abspath(os.path.expanduser(text))  # noqa: PTH100, PTH111
