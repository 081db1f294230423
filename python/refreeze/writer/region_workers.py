"""Shares the files of one `write_region` out among workers, whose writes become one commit.

Files that share a stored chunk go to one worker: two forks of a session that write the same chunk
would keep one of the two versions.
"""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, as_completed
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from refreeze.exceptions import MismatchError, RefreezeError
from refreeze.runtime.memory import share_free_memory
from refreeze.writer.region_job import Done, Job, template_of, write_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import icechunk

__all__ = ["Overlaps", "groups_by_chunk", "share_out"]

_BATCHES_PER_WORKER = 4


def share_out(
    session: icechunk.Session,
    inputs: Sequence[Any],
    job: Job,
    *,
    workers: int | None,
    client: Any,
    tell: Callable[[Done], None],
) -> list[Done]:
    """Write files into a session through forks of it.

    Raises
    ------
    MismatchError
        Two files have the same elements of a variable.
    RefreezeError
        A worker died; nothing is committed.
    """
    with _crew(workers, client) as (run, count):
        planned: dict[int, Done] = {}
        parts = np.array_split(np.arange(len(inputs)), min(len(inputs), count))
        plans = [(session.fork(), [inputs[int(k)] for k in part], job) for part in parts]
        for part, done in run(_planned, plans):
            planned.update(zip(map(int, parts[part]), done, strict=True))
        plan = [planned[k] for k in range(len(inputs))]
        taken = Overlaps()
        for each in plan:
            taken.add(each)
        groups = groups_by_chunk(plan, _units(session, job))
        batches = _batches(groups, min(len(groups), _BATCHES_PER_WORKER * count))
        tasks = [(session.fork(), [inputs[k] for k in batch], job) for batch in batches]
        forks = []
        for _, (fork, done) in run(_written, tasks):
            forks.append(fork)
            for each in done:
                tell(each)
    session.merge(*forks)
    for source, each in zip(inputs, plan, strict=True):
        if each.shared:
            write_file(session, source, job, part="shared")
    return plan


def _planned(fork: Any, inputs: Sequence[Any], job: Job) -> list[Done]:
    template = template_of(fork, job)
    return [write_file(fork, each, job, template=template, dry_run=True) for each in inputs]


def _written(fork: Any, inputs: Sequence[Any], job: Job) -> tuple[Any, list[Done]]:
    share_free_memory()
    template = template_of(fork, job)
    done = [write_file(fork, each, job, template=template, part="moving") for each in inputs]
    return fork, done


@contextmanager
def _crew(workers: int | None, client: Any) -> Iterator[tuple[Any, int]]:
    """Give a function that runs tasks and yields what comes back, and their number at a time."""
    if client is not None:
        if not hasattr(client, "submit") or not hasattr(client, "nthreads"):
            raise TypeError(f"client is a distributed.Client, not {client!r}")
        import distributed

        arrived: Any = distributed.as_completed

        def run(function: Any, tasks: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
            futures = {client.submit(function, *t, pure=False): k for k, t in enumerate(tasks)}
            for future in arrived(list(futures)):
                yield futures[future], future.result()

        yield run, max(1, sum(client.nthreads().values()))
        return
    from refreeze.distributed.processes import process_pool
    from refreeze.stores.icechunk_logs import hide_local_warnings

    pool = process_pool(workers or 1, hide_local_warnings)

    def run_here(function: Any, tasks: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        futures = {pool.submit(function, *task): k for k, task in enumerate(tasks)}
        for future in as_completed(futures):
            yield futures[future], future.result()

    try:
        yield run_here, workers or 1
        pool.shutdown()
    except BrokenExecutor as error:
        raise RefreezeError(
            "a worker died", "nothing was written; fewer workers or less memory may help"
        ) from error
    finally:
        # After an error, or a signal, what is still at work is of no use.
        processes = list((getattr(pool, "_processes", None) or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()


def _units(session: icechunk.Session, job: Job) -> dict[str, dict[str, int]]:
    """Return the lengths of stored chunks by array and dimension."""
    template = template_of(session, job)
    prefix = f"/{job.group}/" if job.group else "/"
    units = {}
    for name, variable in template.variables.items():
        array = zarr.open_array(session.store, path=f"{job.group}/{name}".strip("/"), mode="r")
        unit = array.shards or array.chunks
        units[f"{prefix}{name}"] = dict(zip(map(str, variable.dims), unit, strict=True))
    return units


def groups_by_chunk(plan: Sequence[Done], units: dict[str, dict[str, int]]) -> list[list[int]]:
    """Return files in groups that share no chunk of any array with each other."""
    leader = np.arange(len(plan))

    def find(k: int) -> int:
        while leader[k] != k:
            leader[k] = leader[leader[k]]
            k = int(leader[k])
        return k

    for path, lengths in units.items():
        files = [k for k, done in enumerate(plan) if path in done.arrays]
        if len(files) < 2 or not lengths:  # noqa: PLR2004 nobody to share with
            continue
        boxes = np.array(
            [
                [
                    (plan[k].region[dim][0] // unit, (plan[k].region[dim][1] - 1) // unit)
                    for dim, unit in lengths.items()
                ]
                for k in files
            ]
        )
        for i, box in enumerate(boxes[:-1]):
            rest = boxes[i + 1 :]
            meets = ((rest[:, :, 0] <= box[:, 1]) & (box[:, 0] <= rest[:, :, 1])).all(axis=1)
            for j in np.flatnonzero(meets):
                leader[find(files[i + 1 + int(j)])] = find(files[i])
    groups: dict[int, list[int]] = {}
    for k in range(len(plan)):
        groups.setdefault(find(k), []).append(k)
    return list(groups.values())


def _batches(groups: Sequence[list[int]], count: int) -> list[list[int]]:
    """Return groups in about equal batches."""
    batches: list[list[int]] = [[] for _ in range(count)]
    for group in sorted(groups, key=len, reverse=True):
        min(batches, key=len).extend(group)
    return batches


class Overlaps:
    """Refuses files that have the same elements of an array."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, tuple[str, ...]], tuple[list[Done], list[list[list[int]]]]] = {}
        """Files and their boxes, by array and dimensions."""

    def add(self, done: Done) -> None:
        """Take a file.

        Raises
        ------
        MismatchError
            Names it and the first one that has the same elements.
        """
        own = tuple(done.region)
        for path in done.arrays:
            for (known, dims), (files, boxes) in self._seen.items():
                if known != path:
                    continue
                meets = np.ones(len(files), bool)
                for k, dim in enumerate(dims):
                    if dim in done.region:
                        spans = np.array(boxes)[:, k]
                        start, stop = done.region[dim]
                        meets &= (spans[:, 0] < stop) & (start < spans[:, 1])
                if meets.any():
                    other = files[int(meets.argmax())]
                    raise MismatchError(
                        f"{other.file} and {done.file} have the same elements: "
                        + ", ".join(f"{d}={a}:{b}" for d, (a, b) in done.region.items()),
                        "write them by calls of their own, the one that shall count last",
                    )
        for path in done.arrays:
            files, boxes = self._seen.setdefault((path, own), ([], []))
            files.append(done)
            boxes.append([done.region[dim] for dim in own])
