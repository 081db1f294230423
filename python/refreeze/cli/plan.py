"""``refreeze plan``: the options of ``refreeze ingest``, of which nothing is carried out."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer

from refreeze.cli.ingest import carry_out, ingest

__all__ = ["plan"]

_Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE... [TARGET]",
        help="As for ingest. TARGET is looked at only by the modes that change what is there.",
    ),
]


def plan(paths: _Paths, **given: Any) -> None:
    """Show what an ingest would take: requests, commits, manifests, cost.

    Takes the options of ingest. Reads metadata, and looks at large arrays with a few LIST requests
    to see how full they are.
    """
    sources, target = (paths[:-1], paths[-1]) if len(paths) > 1 else (paths, None)
    carry_out(sources, target, given | {"dry_run": True})


def _with_the_options_of_ingest() -> inspect.Signature:
    """Return the signature of the command, so that there is one list of options."""
    options = dict(inspect.signature(ingest, eval_str=True).parameters)
    del options["dry_run"]
    options["paths"] = options["paths"].replace(annotation=_Paths)
    return inspect.Signature(list(options.values()))


plan.__signature__ = _with_the_options_of_ingest()  # type: ignore[attr-defined]
plan.__annotations__ = {
    name: option.annotation
    for name, option in plan.__signature__.parameters.items()  # type: ignore[attr-defined]
}
