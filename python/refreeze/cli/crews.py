"""The options of verbs whose work others can do: processes of this machine, or a Dask cluster."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["Dask", "SchedulerFile", "WaitForWorkers", "Workers"]

Workers = Annotated[int | None, typer.Option("--workers", help="Processes that list and write.")]
Dask = Annotated[
    str | None,
    typer.Option("--dask", metavar="ADDRESS", help="Let a Dask cluster list and write."),
]
SchedulerFile = Annotated[
    str | None, typer.Option(metavar="FILE", help="The same, by its scheduler file.")
]
WaitForWorkers = Annotated[
    float, typer.Option(help="Seconds to wait for a first worker of the cluster.")
]
