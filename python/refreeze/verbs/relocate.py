"""`relocate`: follows a source that has moved to another place, without listing it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from refreeze.planning.option_checks import check_options
from refreeze.verbs.report import RelocateReport

if TYPE_CHECKING:
    from refreeze.stores.resolve import Options

__all__ = ["SAMPLE", "relocate"]

SAMPLE = 20
"""References that are read at the new place, unless something else is said."""


def relocate(
    target: Any,
    from_: str,
    to: Any,
    *,
    sample: int = SAMPLE,
    unsafe_target: bool = False,
    source_options: Options | None = None,
    target_options: Options | None = None,
) -> RelocateReport:
    """Change where a repository's virtual chunks are, after their bucket or endpoint has changed.

    A sample of the references is compared with the objects at the new place. No manifest is
    touched; readers authorise the new prefix from then on.

    Parameters
    ----------
    target
        An Icechunk repository, as for `refreeze.ingest`.
    from_
        The stored prefix of the virtual chunk container, as `refreeze.status` shows it.
    to
        Where its objects are now: a URL or path, ``(registry, url)`` or ``(store, path)``. It may
        be the same URL if only ``source_options`` (an endpoint) have changed.
    sample
        References that are compared, at random: lengths, times and, where kept, ETags.
    unsafe_target
        As for `refreeze.ingest`.
    source_options
        Settings of the object store of the new place.
    target_options
        Settings of the object store of the repository.

    Raises
    ------
    refreeze.exceptions.MismatchError
        There is no such container; references hold whole URLs, which cannot move; or an object of
        the sample is absent, differs, or is newer than its reference says. Nothing is changed.
    refreeze.exceptions.TargetNotFoundError, refreeze.exceptions.SourceNotFoundError
        There is no repository, or nothing at the new place.
    refreeze.exceptions.TargetError, refreeze.exceptions.ConflictError
        The repository cannot be written, or another process is at work on it.
    refreeze.exceptions.AccessError, refreeze.exceptions.ListingError
        Credentials were refused, or the new place fails.
    ValueError
        ``sample`` is not a positive number.

    Examples
    --------
    >>> refreeze.relocate("air.icechunk", "s3://old/air.zarr/", "s3://new/air.zarr")  # doctest: +SKIP
    RelocateReport(...)
    """
    given = locals()
    from refreeze import _refreeze
    from refreeze.stores.resolve import container_prefix, resolve_source, resolve_target

    check_options(given)
    if isinstance(sample, bool) or not isinstance(sample, int):
        raise TypeError(f"sample is a number, not {type(sample).__name__}")
    if sample < 1:
        raise ValueError(f"sample must be at least 1, not {sample}")
    place = resolve_source(to, source_options)
    report = json.loads(
        _refreeze.relocate(
            resolve_target(target, target_options),
            (place.store, place.path),
            prefix=container_prefix(from_),
            sample=sample,
            unsafe_target=unsafe_target,
        )
    )
    return RelocateReport(
        target=report["target"],
        container=report["container"],
        from_prefix=report["from"],
        to_prefix=report["to"],
        references=report["references"],
        sampled=report["sampled"],
    )
