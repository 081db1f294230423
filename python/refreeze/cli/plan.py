"""``refreeze plan``: the options of ``refreeze ingest``, of which nothing is carried out.

With ``--output`` the first commit is made, for ``refreeze work`` and ``refreeze commit``.
"""

from __future__ import annotations

import inspect
import shlex
from typing import Annotated, Any

import typer

from refreeze.cli.console import (
    LogLevel,
    count,
    one_or_several,
    print_json,
    run_job,
    say,
    show_warnings,
    store_options,
)
from refreeze.cli.ingest import arguments_of, carry_out, ingest
from refreeze.runtime.command import begin_result
from refreeze.shown import shown

__all__ = ["plan"]

_Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE... [TARGET]",
        help="As for ingest. Without --output only the modes that change existing data look at "
        "TARGET.",
    ),
]
_Output = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Begin the ingest with its first commit, and write the plan of the rest here, "
        "for refreeze work and commit.",
    ),
]
_NOT_OF_PLANS = ("dry_run", "dask", "scheduler_file", "workers", "wait_for_workers")


def plan(paths: _Paths, *, output: _Output = None, **given: Any) -> None:
    """Show what an ingest would take: requests, commits, manifests, cost.

    Takes the options of ingest. Reads metadata, and looks at large arrays with a few LIST requests
    to see how full they are. With --output the ingest is begun: its first commit is made, and what
    is left is for refreeze work.
    """
    sources, target = (paths[:-1], paths[-1]) if len(paths) > 1 else (paths, None)
    if output is None:
        carry_out(sources, target, given | {"dry_run": True})
        return
    if target is None:
        raise typer.BadParameter("--output needs a TARGET", param_hint="TARGET")
    quiet, as_json = given["quiet"], given["as_json"]
    source_options = store_options(given["source_option"], "--source-option")
    target_options = store_options(given["target_option"], "--target-option")

    def job() -> None:
        begin_run(
            one_or_several(sources),
            target,
            output,
            as_json=as_json,
            quiet=quiet,
            **arguments_of(given, source_options, target_options),
        )

    run_job(job, LogLevel.ERROR if quiet else given["log_level"], as_json=as_json)


def begin_run(
    source: str | list[str],
    target: str,
    output: str,
    *,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Begin an ingest for a batch queue, and say what to run."""
    from refreeze.verbs.batch_queue import begin

    planned, report = begin(source, target, output, **options)
    begin_result()
    show_warnings(report.warnings, quiet=quiet)
    if planned is None:
        if as_json:
            print_json({"run_id": report.run_id, "output": None, "units": 0})
        else:
            say("Nothing to do: the target already holds all of it.")
        return
    if as_json:
        units = len(planned.units)
        print_json({"run_id": planned.run_id, "output": output, "units": units})
        return
    say(
        f"Began run {planned.run_id}: the first commit is made, on a staging branch. "
        f"{count(len(planned.units), 'unit')} of work in {shown(output)}:\n\n"
        f"    refreeze work {shlex.quote(output)} --part I/N    "
        f"(for every I from 0 to N - 1, anywhere)\n"
        f"    refreeze commit {shlex.quote(output)}"
    )


def _with_the_options_of_ingest() -> inspect.Signature:
    """Return the signature of the command, so that there is one list of options."""
    options = dict(inspect.signature(ingest, eval_str=True).parameters)
    for name in _NOT_OF_PLANS:
        del options[name]
    options["paths"] = options["paths"].replace(annotation=_Paths)
    output = inspect.Parameter(
        "output", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_Output
    )
    paths, *others = options.values()
    return inspect.Signature([paths, output, *others])


plan.__signature__ = _with_the_options_of_ingest()  # type: ignore[attr-defined]
plan.__annotations__ = {
    name: option.annotation
    for name, option in plan.__signature__.parameters.items()  # type: ignore[attr-defined]
}
