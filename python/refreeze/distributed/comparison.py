"""Hands the units of a comparison to a crew and takes their results: nothing is compared here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

__all__ = ["IN_FLIGHT", "results_of"]

IN_FLIGHT = 2
"""Units that are handed out at a time, for each worker."""


def results_of(
    crew: Any,
    plan: dict[str, Any],
    units: Sequence[dict[str, Any]],
    progress: Callable[[dict[str, Any]], object] | None,
) -> Iterator[dict[str, Any]]:
    """Yield the result of each unit as it arrives, each once."""
    crew.start(json.dumps(plan))
    waiting = list(reversed(units))
    left = {unit["number"] for unit in units}
    figures = dict.fromkeys(("list_requests", "keys_listed", "chunks_found"), 0)
    while left:
        in_flight = len(left) - len(waiting)
        for _ in range(min(len(waiting), IN_FLIGHT * crew.count() - in_flight)):
            crew.submit(json.dumps(waiting.pop()))
        for text in crew.arrived():
            result = json.loads(text)
            if result["number"] not in left:
                continue
            left.remove(result["number"])
            found = result["found"]
            figures["list_requests"] += found["list_requests"]
            figures["keys_listed"] += found["keys_listed"]
            figures["chunks_found"] += found["checked"]
            if progress is not None:
                progress(_event(figures))
            yield result


def _event(figures: dict[str, int]) -> dict[str, Any]:
    """Return an event in the form of the core's."""
    nothing = dict.fromkeys(
        (
            *("array_chunks_found", "array_chunks_possible", "chunks_possible"),
            *("references_written", "commits"),
        ),
        0,
    )
    return {"stage": "list", "array": "", **nothing, **figures}
