"""An ingest through files, for batch queues.

One command begins it, any number of others do its parts, and a last one commits it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refreeze.distributed.choice import absolute
from refreeze.distributed.crew import Later, Nobody
from refreeze.exceptions import ConflictError, TargetError
from refreeze.planning.options import (
    DEFAULT_CONCURRENCY,
    DEFAULT_MEMORY,
    shared_concurrency,
)
from refreeze.stores.web_store import Probing
from refreeze.verbs.ingest import ingest
from refreeze.work import Secrets, WorkPlan, allowed_settings, carry_out

if TYPE_CHECKING:
    from refreeze.stores.resolve import Options
    from refreeze.verbs.report import IngestReport

__all__ = ["begin", "commit", "work"]

_NOT_STORED = {"progress", "source_options", "target_options"}
_PART = re.compile(r"(\d+)/(\d+)")


def begin(
    source: Any, target: Any, output: str | os.PathLike[str], **options: Any
) -> tuple[WorkPlan | None, IngestReport]:
    """Begin an ingest with its first commit, and write the plan of what is left to a file.

    Parameters
    ----------
    source, target, **options
        As for `refreeze.ingest`; both are addresses.
    output
        The file. It holds no secret: of the stores' options only those that cannot be one.

    Returns
    -------
    plan, report
        No plan where there is nothing to do.
    """
    later = Later()
    report = ingest(source, target, executor=later, **options)
    if later.document is None:
        return None, report
    given = source if isinstance(source, list | tuple) else [source]
    stored = {name: value for name, value in options.items() if name not in _NOT_STORED}
    region = stored.get("region")
    if region:
        stored["region"] = {name: [part.start, part.stop] for name, part in region.items()}
    plan = WorkPlan(
        sources=tuple(absolute(one) for one in given),
        target=absolute(target),
        plan=later.document["plan"],
        units=tuple(later.document["units"]),
        source_options=allowed_settings(options.get("source_options"))[0],
        target_options=allowed_settings(options.get("target_options"))[0],
        ingest={
            name: list(value) if isinstance(value, tuple) else value
            for name, value in stored.items()
            if value is not None
        },
    )
    try:
        Path(output).write_text(plan.to_json())
    except OSError as error:
        raise TargetError(
            f"cannot write the plan to {os.fspath(output)}: {error.strerror}",
            "the ingest has begun: run the same command with another --output",
        ) from error
    return plan, report


def work(
    plan: str | os.PathLike[str],
    part: str,
    *,
    memory: str | int | None = None,
    concurrency: int | str | None = None,
    source_options: Options | None = None,
    target_options: Options | None = None,
) -> dict[str, Any]:
    """Do one part of a plan: every N-th unit. Units that are done already are not done again.

    Parameters
    ----------
    plan
        The file that `begin` has written.
    part
        ``"I/N"``, with 0 ≤ I < N.
    memory, concurrency
        As for `refreeze.ingest`. By default memory is that of the plan, and the requests in flight
        are the N-th part of what ``"auto"`` would find.
    source_options, target_options
        Settings that the plan does not hold.

    Returns
    -------
    dict
        ``run_id``, ``part``, ``units`` done, ``references`` in them, and whether the run is ``over``.
    """
    index, count = _part(part)
    work_plan = WorkPlan.read(plan)
    secrets = Secrets(source_options, target_options)
    memory = memory or work_plan.ingest.get("memory", DEFAULT_MEMORY)
    if concurrency is None:
        concurrency = shared_concurrency(DEFAULT_CONCURRENCY, count)
    probing = Probing.of(work_plan.ingest).shared_by(count)
    work_plan = replace(work_plan, ingest=work_plan.ingest | asdict(probing))
    done = references = 0
    over = False
    for unit in work_plan.units[index::count]:
        left: Mapping[str, Any] | None = unit
        while left:
            try:
                text = carry_out(work_plan, left, secrets, memory=memory, concurrency=concurrency)
            except ConflictError:
                over = True
                break
            result = json.loads(text)
            parts = result["staged"]["parts"]
            references += sum(part["addition"]["references"] for part in parts)
            rest = result.get("rest")
            unit_without = {name: value for name, value in left.items() if name != "batches"}
            left = {**unit_without, "parts": rest} if rest else None
        if over:
            break
        done += 1
    return {
        "run_id": work_plan.run_id,
        "part": part,
        "units": done,
        "references": references,
        "over": over,
    }


def _part(part: str) -> tuple[int, int]:
    match = _PART.fullmatch(str(part))
    if match is None or not int(match[1]) < int(match[2]):
        raise ValueError(f"part is I/N with 0 <= I < N, such as 0/8, not {part!r}")
    return int(match[1]), int(match[2])


def commit(
    plan: str | os.PathLike[str],
    *,
    source_options: Options | None = None,
    target_options: Options | None = None,
    progress: Callable[[dict[str, Any]], object] | None = None,
) -> IngestReport:
    """Commit what workers have done of a plan, and publish it if it is complete.

    Raises
    ------
    refreeze.exceptions.IncompleteError
        Parts are missing; what is there is kept.
    refreeze.exceptions.RefreezeError
        As `refreeze.ingest`.
    """
    work_plan = WorkPlan.read(plan)
    options = dict(work_plan.ingest)
    if options.get("region"):
        options["region"] = {name: slice(*ends) for name, ends in options["region"].items()}
    sources = list(work_plan.sources)
    report: IngestReport = ingest(
        sources[0] if len(sources) == 1 else sources,
        work_plan.target,
        executor=Nobody(),
        source_options=work_plan.source_options | dict(source_options or {}) or None,
        target_options=work_plan.target_options | dict(target_options or {}) or None,
        progress=progress,
        **options,
    )
    return report
