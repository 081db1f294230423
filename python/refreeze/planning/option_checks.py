"""Every check of an option by its name, once: whichever verb has the option, here is what it may be.

Numbers and lists of names are checked where they are converted (`refreeze.planning.options`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from refreeze.planning.options import CHECKSUMS, check_mappings, check_texts, flags

__all__ = ["check_options"]

_CHOICES = {
    "empty_chunks": ("error", "skip"),
    "checksum": CHECKSUMS,
    "locations": ("relative", "absolute"),
    "new_arrays": ("add", "ignore", "error"),
}
_TEXTS = {"branch", "message", "run", "from_", *_CHOICES}
_FLAGS = {
    "copy",
    "dry_run",
    "expect_complete",
    "no_publish",
    "no_read_check",
    "rebase",
    "remove_arrays",
    "restart",
    "unsafe_target",
}
_MAPPINGS = {"source_options", "target_options"}
_MAY_BE_NONE = {"message", "run"}


def check_options(given: Mapping[str, Any], *, optional: Collection[str] = ()) -> None:
    """Check those of a function's arguments whose names are known here.

    Parameters
    ----------
    given
        The arguments by name, as `locals` gives them; others are passed over.
    optional
        Texts for which None is a value too, besides those that may be left out everywhere.

    Raises
    ------
    TypeError, ValueError
        One of them is of a wrong type or value; the message names it.
    """
    left_out = {name for name in {*_MAY_BE_NONE, *optional} if given.get(name) is None}
    texts = {name: given[name] for name in given.keys() & _TEXTS - left_out}
    check_texts(texts)
    check_mappings({name: given[name] for name in given.keys() & _MAPPINGS})
    flags({name: given[name] for name in given.keys() & _FLAGS})
    if not texts.get("branch", "main").strip():
        raise ValueError("branch is empty")
    for option in texts.keys() & _CHOICES:
        if (value := texts[option]) not in _CHOICES[option]:
            *others, last = (repr(choice) for choice in _CHOICES[option])
            raise ValueError(f"{option} must be {', '.join(others)} or {last}, not {value!r}")
    progress = given.get("progress")
    if progress is not None and not callable(progress):
        raise TypeError(f"progress is a function, not {progress!r}")
