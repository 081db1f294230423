"""Checks of the options that several functions share: types first, then values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refreeze.metadata import Selection

__all__ = [
    "DEFAULT_CONCURRENCY",
    "check_mappings",
    "check_texts",
    "names",
    "refs_per_commit",
    "refs_per_manifest",
    "requests_in_flight",
    "selected",
]

DEFAULT_CONCURRENCY = 64
"""LIST requests in flight."""
DEFAULT_REFS_PER_COMMIT = 250_000
DEFAULT_REFS_PER_MANIFEST = 250_000
MAX_REFS_PER_MANIFEST = 1_000_000


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
) -> Selection:
    """Return the selection that these options make."""
    from refreeze.metadata import Selection

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


def refs_per_commit(value: int | None) -> int:
    """Return ``max_refs_per_commit`` or its default."""
    return _positive("max_refs_per_commit", value, DEFAULT_REFS_PER_COMMIT)


def refs_per_manifest(value: int | None) -> int:
    """Return ``refs_per_manifest`` or its default."""
    checked = _positive("refs_per_manifest", value, DEFAULT_REFS_PER_MANIFEST)
    if checked > MAX_REFS_PER_MANIFEST:
        raise ValueError(f"refs_per_manifest is at most {MAX_REFS_PER_MANIFEST:,}")
    return checked


def requests_in_flight(value: int | None) -> int:
    """Return ``concurrency`` or its default."""
    return _positive("concurrency", value, DEFAULT_CONCURRENCY)


def _positive(option: str, value: int | None, default: int) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{option} is a number, not {value!r}")
    if value < 1:
        raise ValueError(f"{option} must be at least 1, not {value}")
    return value
