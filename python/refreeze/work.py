"""The plan of an ingest that others carry out, and the task itself, a pure function.

A `WorkPlan` is a versioned JSON document without a secret: addresses, an allow-list of settings, and
what the core must know of the run. It does not matter who calls `carry_out`, where and how often:
the result is stored once, under a key of the unit in the target.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import (
    MismatchError,
    SourceNotFoundError,
    TargetError,
    TargetNotFoundError,
)
from refreeze.planning.options import DEFAULT_CONCURRENCY, DEFAULT_MEMORY
from refreeze.shown import remember
from refreeze.stores.kinds import kind_of

if TYPE_CHECKING:
    from refreeze.stores.resolve import Options, Source

__all__ = ["Secrets", "WorkPlan", "allowed_settings", "carry_out"]

FORMAT = 1
"""Layout of the document."""

_ALLOWED = {
    "addressing_style",
    "allow_http",
    "allow_invalid_certificates",
    "connect_timeout",
    "default_region",
    "endpoint",
    "endpoint_url",
    "region",
    "request_payer",
    "skip_signature",
    "timeout",
    "unsigned_payload",
    "virtual_hosted_style_request",
}
"""Settings of object stores that may stand in a plan; any other could be a secret."""


def allowed_settings(options: Options | None) -> tuple[dict[str, str], dict[str, Any]]:
    """Divide settings into those that a plan may hold, and the others."""
    open_ones: dict[str, str] = {}
    others: dict[str, Any] = {}
    for name, value in (options or {}).items():
        text = str(value)
        # A user name and a password in an address are secrets too.
        allowed = name.lower().removeprefix("aws_") in _ALLOWED and "@" not in text
        (open_ones if allowed else others)[name] = value if not allowed else text
    return open_ones, others


class Secrets:
    """Settings that no plan holds: they travel beside it, and are never shown."""

    def __init__(
        self,
        source: Mapping[str, Any] | None = None,
        target: Mapping[str, Any] | None = None,
    ) -> None:
        self.source = dict(source or {})
        self.target = dict(target or {})

    def __bool__(self) -> bool:
        return bool(self.source or self.target)

    def __repr__(self) -> str:
        return "<secrets>"


@dataclass(frozen=True)
class WorkPlan:
    """What workers must know of an ingest, and its units.

    ``sources`` and ``target`` are addresses, ``plan`` and ``units`` are the core's documents, and
    ``ingest`` holds the options with which the run was begun.
    """

    sources: tuple[str, ...]
    target: str
    plan: dict[str, Any]
    units: tuple[dict[str, Any], ...] = ()
    source_options: dict[str, str] = field(default_factory=dict)
    target_options: dict[str, str] = field(default_factory=dict)
    ingest: dict[str, Any] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        """The run that this is the plan of."""
        return str(self.plan["run_id"])

    def to_dict(self) -> dict[str, Any]:
        """Return the document."""
        return {
            "format": FORMAT,
            "refreeze": self.plan["refreeze"],
            **asdict(self),
            "sources": list(self.sources),
            "units": list(self.units),
        }

    def to_json(self) -> str:
        """Return the document as text."""
        return json.dumps(self.to_dict(), indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> WorkPlan:
        """Read a document.

        Raises
        ------
        refreeze.exceptions.MismatchError
            It is none, or one of another version of refreeze.
        """
        from refreeze import __version__

        try:
            document = json.loads(text)
            version, layout = document["refreeze"], document["format"]
        except (ValueError, TypeError, KeyError):
            raise MismatchError(
                "this is not a plan of refreeze",
                "make one with refreeze plan SOURCE TARGET --output FILE",
            ) from None
        if (version, layout) != (__version__, FORMAT):
            raise MismatchError(
                f"the plan is of refreeze {version} (format {layout}), and this is refreeze "
                f"{__version__} (format {FORMAT})",
                "install the same version of refreeze on every machine, or plan again",
            )
        try:
            return cls(
                sources=tuple(document["sources"]),
                target=document["target"],
                plan=document["plan"],
                units=tuple(document["units"]),
                source_options=document["source_options"],
                target_options=document["target_options"],
                ingest=document["ingest"],
            )
        except (TypeError, KeyError) as error:
            raise MismatchError(
                f"the plan is damaged: {error}",
                "make it again with refreeze plan SOURCE TARGET --output FILE",
            ) from None

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> WorkPlan:
        """Read a plan file."""
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            raise SourceNotFoundError(
                f"cannot read the plan {os.fspath(path)}: {error.strerror}", "check the path"
            ) from None
        return cls.from_json(text)


def carry_out(
    plan: WorkPlan | str | bytes,
    unit: int | str | Mapping[str, Any],
    secrets: Secrets | None = None,
    *,
    memory: str | int = DEFAULT_MEMORY,
    concurrency: int | str = DEFAULT_CONCURRENCY,
) -> bytes:
    """List the chunks of one unit of a plan, write their manifests and return the result.

    A unit of a comparison (`refreeze.verify`) is listed and compared instead, and writes nothing.

    Parameters
    ----------
    plan
        A `WorkPlan`, or its JSON.
    unit
        One of the plan's units, its position among them, or its JSON.
    secrets
        Settings that the plan does not hold. By default credentials are found in the environment.
    memory
        Bound on what grows with the work, in bytes or as text.
    concurrency
        LIST requests in flight: a number, or ``"auto"``; ``"auto/8"`` is the share of one of eight.

    Returns
    -------
    bytes
        A JSON document: manifests, chunks for the log, counts. The same is stored in the target
        under a key of the unit; if a result is stored already, that one is returned.

    Raises
    ------
    refreeze.exceptions.MismatchError
        The plan is of another version of refreeze.
    refreeze.exceptions.ConflictError
        The run is over: it was published or discarded.
    refreeze.exceptions.TargetError
        The target cannot be reached from here.
    refreeze.exceptions.SourceNotFoundError
        A folder of the source does not exist, or is not the source.
    refreeze.exceptions.RefreezeError
        As `refreeze.ingest`, for what listing and writing meet.
    """
    from refreeze import _refreeze
    from refreeze.planning.options import IngestOptions, byte_count, requests_in_flight
    from refreeze.planning.verify_units import KIND, compare
    from refreeze.runtime.memory import return_large_blocks
    from refreeze.stores.resolve import resolve_source, resolve_target
    from refreeze.stores.web_store import Probing

    if not isinstance(plan, WorkPlan):
        plan = WorkPlan.from_json(plan)
    if isinstance(unit, int):
        unit = plan.units[unit]
    text = unit if isinstance(unit, str) else json.dumps(unit)
    secrets = secrets or Secrets()
    remember(str(value) for value in (*secrets.source.values(), *secrets.target.values()))
    return_large_blocks()
    # Options are for object stores; folders have none.
    source_options = plan.source_options | secrets.source or None
    target_options = plan.target_options | secrets.target or None
    probing = Probing.of(plan.ingest)
    sources = [resolve_source(url, source_options, probing) for url in plan.sources]
    stores = [(source.store, source.path) for source in sources]
    urls = [source.url for source in sources]
    try:
        _check_folders(plan.plan["arrays"], json.loads(text)["parts"], sources)
    except (ValueError, TypeError, LookupError) as error:
        if isinstance(error, SourceNotFoundError):
            raise
        raise MismatchError(
            f"the unit is not one of this plan: {error!r}",
            "make the plan again with refreeze plan SOURCE TARGET --output FILE",
        ) from None
    target = resolve_target(plan.target, target_options)
    size, in_flight = byte_count("memory", memory), requests_in_flight(concurrency)
    if plan.plan.get("kind") == KIND:
        options = IngestOptions(
            branch=plan.plan["branch"],
            mode="update",
            skip_empty_chunks=True,
            memory=size,
            concurrency=in_flight,
            requests_per_second=probing.max_requests_per_second,
        )
        try:
            figures = compare(
                plan.plan,
                json.loads(text),
                stores,
                source_urls=urls,
                target=target,
                options=options,
            )
        except TargetNotFoundError as error:
            raise TargetError(
                f"a worker cannot reach the target {target.url}",
                "a folder must be shared by all machines; or use a bucket",
            ) from error
        return figures.encode()
    result = _refreeze.carry_out(
        json.dumps(plan.plan),
        text,
        stores,
        target,
        source_urls=urls,
        memory=size,
        concurrency=in_flight,
        requests_per_second=probing.max_requests_per_second,
    )
    return result.encode()


def _check_folders(
    arrays: Sequence[Mapping[str, Any]], parts: Iterable[tuple[int, Any]], sources: Sequence[Source]
) -> None:
    """Refuse to find nothing where a folder of another machine's is an empty one here."""
    for array in {array for array, _ in parts}:
        for piece in arrays[array]["pieces"]:
            source = sources[piece["source"]]
            if kind_of(source.store) != "LocalStore":
                continue
            folder = Path(source.store.prefix or "/", piece["source_path"])
            if not any((folder / name).exists() for name in (".zarray", "zarr.json")):
                raise SourceNotFoundError(
                    f"a worker does not see the array {folder}",
                    "a folder must be shared by all machines; or use a bucket",
                )
