"""The command ``refreeze``: its verbs, and what the process ends with.

Exit codes: 0 done, 1 the job failed, 2 wrong usage, 130 and 143 interrupted. Each verb has a file
of its own beside this one; what they share is in `refreeze.cli.console`.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from refreeze.cli.batch_queue import commit, work
from refreeze.cli.console import USAGE, Ended, Version, fail
from refreeze.cli.copy import copy
from refreeze.cli.coverage import coverage
from refreeze.cli.create_template import create_template
from refreeze.cli.demo import demo
from refreeze.cli.doctor import doctor
from refreeze.cli.gc import gc
from refreeze.cli.ingest import ingest
from refreeze.cli.list_chunks import list_chunks
from refreeze.cli.plan import plan
from refreeze.cli.publish import publish
from refreeze.cli.relocate import relocate
from refreeze.cli.status import status
from refreeze.cli.sync import sync
from refreeze.cli.verify import verify
from refreeze.cli.write_region import write_region

__all__ = ["main"]

# Typer keeps its own copy of click in newer versions; both export the subclass.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="refreeze",
    help="Icechunk repositories over native Zarr, without copying a chunk.",
    epilog="Example: refreeze ingest s3://bucket/store.zarr ./store.icechunk",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root(*, version: Version = False) -> None:
    """Icechunk repositories over native Zarr, without copying a chunk."""


_VERBS = (
    ("ingest", ingest, "s3://bucket/store.zarr ./store.icechunk --group model/output"),
    ("plan", plan, "s3://bucket/store.zarr --region time=0:240"),
    ("list", list_chunks, "s3://bucket/store.zarr/t2m --output t2m.parquet"),
    ("verify", verify, "s3://bucket/store.zarr ./store.icechunk --sample 100"),
    ("sync", sync, "s3://bucket/store.zarr ./store.icechunk --new-arrays add"),
    ("status", status, "./store.icechunk"),
    ("publish", publish, "./store.icechunk --rebase"),
    ("work", work, "run.json --part 0/8"),
    ("commit", commit, "run.json"),
    ("gc", gc, "./store.icechunk --dry-run"),
    ("relocate", relocate, "./store.icechunk --from s3://old/store.zarr --to s3://new/store.zarr"),
    ("copy", copy, "./store.icechunk --array t2m --region time=0:240"),
    ("coverage", coverage, "./store.icechunk t2m --output t2m.png"),
    (
        "create-template",
        create_template,
        "day1.nc ./archive.icechunk --global-start 2020-01-01 --global-end 2029-12-31",
    ),
    ("write-region", write_region, "day1.nc day2.nc ./archive.icechunk --workers 2"),
    ("doctor", doctor, "s3://bucket/store.zarr ./store.icechunk"),
    ("demo", demo, "./refreeze-demo"),
)
"""Name, function and the arguments of an example, in the order in which help shows them."""

for _name, _verb, _example in _VERBS:
    app.command(_name, epilog=f"Example: refreeze {_name} {_example}")(_verb)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    arguments = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in arguments
    try:
        code = app(args=arguments, prog_name="refreeze", standalone_mode=False)
    except Ended as ended:
        sys.exit(ended.code)
    except _UsageError as error:
        fail("UsageError", *_usage_message(error), as_json=as_json)
        sys.exit(USAGE)
    sys.exit(code if isinstance(code, int) else 0)


def _usage_message(error: Exception) -> tuple[str, str]:
    """Return message and hint."""
    message = str(getattr(error, "format_message", lambda: error)()).strip().rstrip(".")
    return message, "see refreeze --help"
