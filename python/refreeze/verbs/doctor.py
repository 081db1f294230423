"""`doctor`: what of this installation, its settings, a source and a target works, and what does not.

Puts together what the modules beside it find; it never raises for what it finds.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from refreeze.planning.option_checks import check_options
from refreeze.verbs.doctor_report import Check, DoctorReport

if TYPE_CHECKING:
    from refreeze.stores.resolve import Options

__all__ = ["doctor"]


def doctor(
    source: Any = None,
    target: Any = None,
    *,
    source_options: Options | None = None,
    target_options: Options | None = None,
) -> DoctorReport:
    """Examine versions, settings, a source and a target, and say what does not work.

    Versions are compared with what this refreeze supports. Only the names of settings are shown. A
    source is listed with two requests: does it exist, does it list in order, does it honour
    start-after? A target is tested with one object, or a lock, that is removed again: does it
    honour conditional writes, or have locks? Clocks are compared.

    Parameters
    ----------
    source
        As for `refreeze.ingest`; None to skip it. If there is no ``target``, an Icechunk repository
        given here is examined as one.
    target
        As for `refreeze.ingest`; None to skip it.
    source_options
        Settings of the object store of the source.
    target_options
        Settings of the object store of the repository.

    Returns
    -------
    DoctorReport
        Its ``ok`` is false if there is any problem.

    Raises
    ------
    TypeError
        Options are no mapping.

    Examples
    --------
    >>> refreeze.doctor("s3://bucket/store.zarr").ok  # doctest: +SKIP
    True
    """
    from refreeze.stores.found_settings import found_settings, unread_profiles
    from refreeze.verbs.doctor_places import check_source, check_target
    from refreeze.verbs.doctor_versions import check_versions, installed_versions

    check_options({"source_options": source_options, "target_options": target_options})
    if target is None and _is_repository(source, source_options):
        source, target = None, source
        source_options, target_options = None, source_options
    found = found_settings()
    checks = check_versions()
    if found.unread:
        what = f"not read by refreeze: {', '.join(found.unread)}"
        checks.append(Check("settings", "environment", "note", what))
    if profiles := unread_profiles():
        hint = 'eval "$(aws configure export-credentials --format env)"'
        what = f"{' and '.join(profiles)}: profiles are not read"
        checks.append(Check("settings", "profiles", "note", what, hint))
    source_url = target_url = None
    if source is not None:
        source_url, seen = check_source(source, source_options)
        checks += seen
    if target is not None:
        target_url, seen = check_target(target, target_options)
        checks += seen
    return DoctorReport(
        source=source_url,
        target=target_url,
        versions=installed_versions(),
        settings={
            "environment": found.read,
            "source_options": tuple(sorted(source_options or ())),
            "target_options": tuple(sorted(target_options or ())),
        },
        checks=tuple(checks),
    )


def _is_repository(place: Any, options: Options | None) -> bool:
    """Whether what was given as the source is a repository; errors come up when it is looked at."""
    from refreeze.exceptions import RefreezeError
    from refreeze.verbs.coverage import repository_place

    if not isinstance(place, str | os.PathLike):
        return False
    try:
        return repository_place(place, options) is not None
    except (RefreezeError, ValueError):
        return False
