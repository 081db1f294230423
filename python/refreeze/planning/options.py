"""Checks of the options that several functions share: types first, then values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from operator import not_
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from refreeze.metadata.region import Region
    from refreeze.metadata.selection import Selection
    from refreeze.stores.resolve import Options

__all__ = [
    "CHECKSUMS",
    "DEFAULT_CONCURRENCY",
    "DEFAULT_MEMORY",
    "IngestArguments",
    "IngestOptions",
    "byte_count",
    "check_mappings",
    "check_texts",
    "expected_count",
    "flags",
    "names",
    "refs_per_commit",
    "refs_per_manifest",
    "requests_in_flight",
    "sample_size",
    "selected",
    "shared_concurrency",
]

DEFAULT_CONCURRENCY: Final = "auto"
"""LIST requests in flight: how many help is found out."""
DEFAULT_MEMORY = "192MiB"
"""Bound on everything that grows with the work: the core's default, as signatures and help show it.

Written here because help does not load the extension, which takes longer than all else in it; a test
holds it to the core's. All other limits are asked of the core."""
DEFAULT_MAX_DOCUMENT = "64MB"
CHECKSUMS = ("last-modified", "etag", "none")
"""How readers notice that an object has changed."""
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


@dataclass(frozen=True)
class IngestArguments:
    """The options of an ingest as a caller gives them: those of `refreeze.ingest`, and of the plan.

    The one list of them: `refreeze.ingest` has the same names and defaults, which a test holds.
    """

    group: str | None = None
    target_group: str | None = None
    arrays: Iterable[str] | None = None
    skip_variables: Iterable[str] | None = None
    loadable_variables: Iterable[str] | None = None
    branch: str = "main"
    mode: str = "create"
    append_dim: str | None = None
    concat_dim: str | None = None
    region: Region | None = None
    format: str = "icechunk"
    record_size: int = 100_000
    empty_chunks: str = "error"
    checksum: str = "last-modified"
    locations: str = "relative"
    memory: str | int = DEFAULT_MEMORY
    max_refs_per_commit: int | None = None
    refs_per_manifest: int | None = None
    max_document: str | int = DEFAULT_MAX_DOCUMENT
    concurrency: int | str = DEFAULT_CONCURRENCY
    message: str | None = None
    no_publish: bool = False
    restart: bool = False
    expect_complete: bool = False
    expect_count: int | None = None
    unsafe_target: bool = False
    no_read_check: bool = False
    copy: bool = False
    listing: Any = None
    listing_columns: Mapping[str, str] | None = None
    listing_options: Options | None = None
    sample_listing: int = 0
    probe: bool = False
    yes: bool = False
    max_requests_per_second: float | None = None
    source_options: Options | None = None
    target_options: Options | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> IngestArguments:
        """Take the options among a function's arguments."""
        return cls(**{one.name: given[one.name] for one in fields(cls)})


@dataclass(frozen=True)
class IngestOptions:
    """The options of an ingest in the form that the core takes; everything is checked."""

    branch: str = "main"
    skip_empty_chunks: bool = False
    checksum: str = "last-modified"
    keep_checksum: bool = False
    """Sync: as the references that stand have it."""
    absolute_locations: bool = False
    memory: int = field(default_factory=lambda: _of_the_core("DEFAULT_MEMORY"))
    references_per_manifest: int | None = None
    references_per_commit: int | None = None
    concurrency: int | str = DEFAULT_CONCURRENCY
    requests_per_second: float | None = None
    message: str | None = None
    publish: bool = True
    restart: bool = False
    expect_complete: bool = False
    expect_count: int | None = None
    read_check: bool = True
    unsafe_target: bool = False
    mode: str = "create"
    base: str | None = None
    """Append and update: the snapshot from which the target was read."""
    replaced: tuple[str, ...] = ()
    """Overwrite: nodes that are removed first, if there; ``/`` is everything."""
    added: tuple[str, ...] = ()
    """Sync: arrays that are not there yet."""
    plan: str = ""
    """What else determines the result, for resuming."""
    listing: str | None = None
    """When the listing was made, as ISO 8601, where the sources are not listed."""

    @classmethod
    def of(cls, given: Mapping[str, Any], **others: Any) -> IngestOptions:
        """Convert those of a function's arguments that the core takes; ``others`` are as they are.

        What a verb has no option for, has the default.
        """
        told = {
            core: convert(given[name])
            for name, (core, convert) in _FOR_THE_CORE.items()
            if name in given
        }
        return cls(**told | others)


def check_texts(options: Mapping[str, Any]) -> None:
    """Refuse values that are not text, with a `TypeError` that names the option."""
    for option, text in options.items():
        if not isinstance(text, str):
            raise TypeError(f"{option} is a text, not {text!r}")


def check_mappings(options: Mapping[str, Any]) -> None:
    """Refuse values that are neither None nor mappings, without showing them."""
    for option, settings in options.items():
        if settings is not None and not isinstance(settings, Mapping):
            # Not shown: it may hold secrets.
            raise TypeError(f"{option} is a mapping, not {type(settings).__name__}")


def selected(
    group: str | None,
    target_group: str | None,
    arrays: Iterable[str] | None,
    skip_variables: Iterable[str] | None,
    loadable_variables: Iterable[str] | None,
    *,
    max_document: str | int = DEFAULT_MAX_DOCUMENT,
    partial: bool = False,
) -> Selection:
    """Return the selection that these options make; see `refreeze.metadata.selection.Selection`."""
    from refreeze.metadata.selection import Selection

    optional = {"group": group, "target_group": target_group}
    check_texts({option: text for option, text in optional.items() if text is not None})
    return Selection(
        group=group,
        target_group=target_group,
        arrays=names("arrays", arrays),
        skip_variables=names("skip_variables", skip_variables),
        loadable_variables=(
            None if loadable_variables is None else names("loadable_variables", loadable_variables)
        ),
        max_document=byte_count("max_document", max_document, least=1),
        partial=partial,
    )


def names(option: str, given: Iterable[str] | None) -> tuple[str, ...]:
    """Accept any iterable of names; a lone string would be taken letter by letter."""
    if given is None:
        return ()
    if isinstance(given, str):
        raise TypeError(f"{option} is a list of names, not a string")
    listed = tuple(given)
    for name in listed:
        if not isinstance(name, str):
            raise TypeError(f"{option} holds {name!r}, which is not a name")
    return listed


def refs_per_commit(value: int | None) -> int | None:
    """Return ``max_refs_per_commit``, checked; None leaves it to the memory."""
    return None if value is None else _positive("max_refs_per_commit", value, 1)


def expected_count(value: int | None) -> int | None:
    """Return ``expect_count``, checked; None expects nothing."""
    if value == 0 and not isinstance(value, bool):
        return 0
    return None if value is None else _positive("expect_count", value, 1)


def byte_count(option: str, value: str | int, *, least: int | None = None) -> int:
    """Read a number of bytes such as ``192MiB``, ``2 GB`` or ``67108864``.

    Parameters
    ----------
    least
        None: what an ingest needs at least.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError(f"{option} is a number of bytes such as '192MiB', not {value!r}")
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", value)
        unit = _UNITS.get(match[2].upper()) if match else None
        if match is None or unit is None:
            raise ValueError(f"{option} is a number of bytes such as '192MiB', not {value!r}")
        value = int(float(match[1]) * unit)
    if least is None:
        least = _of_the_core("LEAST_MEMORY")
    if value < least:
        shown = f"{least >> 20}MiB" if least >> 20 else f"{least} byte"
        raise ValueError(f"{option} must be at least {shown}, not {value:,} bytes")
    return value


def flags(options: Mapping[str, Any]) -> None:
    """Refuse values that are neither True nor False."""
    for option, value in options.items():
        if not isinstance(value, bool):
            raise TypeError(f"{option} is True or False, not {value!r}")


def refs_per_manifest(value: int | None) -> int | None:
    """Return ``refs_per_manifest``, checked; None leaves it to the memory."""
    if value is None:
        return None
    most = _of_the_core("MAX_REFERENCES_PER_MANIFEST")
    checked = _positive("refs_per_manifest", value, most)
    if checked > most:
        raise ValueError(f"refs_per_manifest is at most {most:,}")
    return checked


class _NoConcurrencyError(TypeError, ValueError):
    """A word other than ``auto``; a wrong type too, for those who expect a number."""


def requests_in_flight(value: int | str | None) -> int | str:
    """Return ``concurrency`` or its default.

    A number or ``"auto"``; among processes that share the work, ``"auto/8"`` is the share of each of
    eight.
    """
    if isinstance(value, str):
        if re.fullmatch(r"auto(/[1-9]\d{0,8})?", value):
            return value
        raise _NoConcurrencyError(f"concurrency is 'auto' or a number from 1 on, not {value!r}")
    return DEFAULT_CONCURRENCY if value is None else _positive("concurrency", value, 1)


def shared_concurrency(value: int | str, workers: int) -> int | str:
    """Return the share that each of so many workers has of ``concurrency``."""
    workers = max(workers, 1)
    if isinstance(value, int):
        return max(1, value // workers)
    shares = int(value.partition("/")[2] or 1)
    return f"auto/{shares * workers}"


def sample_size(value: int) -> int:
    """Return ``sample``, checked; 0 is none."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"sample is a number, not {value!r}")
    if value < 0:
        raise ValueError(f"sample must be at least 0, not {value}")
    return value


def _of_the_core(name: str) -> int:
    from refreeze import _refreeze

    limit: int = getattr(_refreeze, name)
    return limit


def _as_it_is(value: Any) -> Any:
    return value


_FOR_THE_CORE: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "branch": ("branch", _as_it_is),
    "mode": ("mode", _as_it_is),
    "empty_chunks": ("skip_empty_chunks", lambda value: value == "skip"),
    "checksum": ("checksum", lambda value: value or CHECKSUMS[0]),
    "locations": ("absolute_locations", lambda value: value == "absolute"),
    "memory": ("memory", partial(byte_count, "memory")),
    "refs_per_manifest": ("references_per_manifest", refs_per_manifest),
    "max_refs_per_commit": ("references_per_commit", refs_per_commit),
    "concurrency": ("concurrency", requests_in_flight),
    "max_requests_per_second": ("requests_per_second", _as_it_is),
    "message": ("message", _as_it_is),
    "no_publish": ("publish", not_),
    "restart": ("restart", _as_it_is),
    "expect_complete": ("expect_complete", _as_it_is),
    "expect_count": ("expect_count", expected_count),
    "no_read_check": ("read_check", not_),
    "unsafe_target": ("unsafe_target", _as_it_is),
}
"""What the core calls an option, and how its value becomes the core's."""


def _positive(option: str, value: int | None, default: int) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{option} is a number, not {value!r}")
    if value < 1:
        raise ValueError(f"{option} must be at least 1, not {value}")
    return value
