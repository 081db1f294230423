"""A plan as a table for people."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from refreeze.cli.console import count, say
from refreeze.shown import shown

if TYPE_CHECKING:
    from refreeze.verbs.plan_figures import Plan

__all__ = ["print_plan"]

_ASSUMPTIONS = {
    "dense": "If every chunk exists: {},",
    "sampled": "As far as a few requests can tell, for up to {}:",
}


def print_plan(planned: Plan) -> None:
    """Print a plan for people."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("array")
    table.add_column("grid")
    table.add_column("keys")
    table.add_column("strategy")
    for name in ("chunks", "LIST requests", "USD", "at a time", "refs/manifest"):
        table.add_column(name, justify="right")
    for array in planned.arrays:
        table.add_row(
            shown(array.path),
            " x ".join(f"{extent:,}" for extent in array.grid_shape) or "scalar",
            array.key_encoding,
            array.strategy,
            f"{array.chunks_in_region:,}",
            f"{array.list_requests:,}",
            f"{array.list_cost_usd:.4f}",
            "-" if array.most_in_flight is None else f"{array.most_in_flight:,}",
            f"{array.refs_per_manifest:,}",
        )
    # A pipe has no width: nothing is cut there.
    Console(soft_wrap=True, width=None if sys.stdout.isatty() else 1_000).print(table)
    totals = planned.totals
    at_a_time = planned.most_in_flight
    in_flight = f", up to {at_a_time:,} at a time" if at_a_time else ""
    noun = "request" if any(one.strategy == "probe" for one in planned.arrays) else "LIST request"
    say(
        f"\n{_ASSUMPTIONS[planned.estimate].format(count(totals.chunks_in_region, 'chunk'))} "
        f"{count(totals.list_requests, noun)} (${totals.list_cost_usd:.4f}{in_flight}), "
        f"{count(totals.commits, 'commit')}, {count(totals.manifests, 'manifest')} "
        f"({totals.manifest_bytes:,} bytes), about {totals.estimated_s:,.1f} s, "
        f"{totals.peak_memory_bytes / 1e6:,.0f} MB of memory."
    )
    if planned.copy is not None:
        copy = planned.copy
        how = "by the service itself" if copy["server_side"] else "through this process"
        say(
            f"Copying {how}: about {count(copy['chunks'], 'chunk')} of {copy['bytes']:,} bytes, "
            f"{count(copy['requests'], 'request')} (${copy['cost_usd']:.4f}), "
            f"{copy['estimated_s']:,.1f} s."
        )
