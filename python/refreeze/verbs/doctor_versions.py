"""Which versions are installed, and whether they fit what this refreeze was made for."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import TYPE_CHECKING

from refreeze._refreeze import __version__
from refreeze.verbs.doctor_report import Check

if TYPE_CHECKING:
    from packaging.requirements import Requirement

__all__ = ["check_versions", "installed_versions"]

_ALWAYS = ("icechunk", "zarr", "obstore", "numpy")
_OPTIONAL = ("virtualizarr", "xarray", "numcodecs", "dask", "distributed", "matplotlib")


def installed_versions() -> dict[str, str | None]:
    """Return the versions of refreeze and of what it works with; None where it is not installed."""
    found: dict[str, str | None] = {"refreeze": __version__}
    for name in (*_ALWAYS, *_OPTIONAL):
        found[name] = _version(name)
    found["python"] = platform.python_version()
    libc = " ".join(part for part in platform.libc_ver() if part)
    found["platform"] = " ".join(
        part for part in (sys.platform, platform.machine(), platform.release(), libc) if part
    )
    return found


def check_versions() -> list[Check]:
    """Hold the installed packages against what refreeze's own metadata asks for."""
    try:
        packaged = metadata.version("refreeze")
        requirements = _requirements()
    except metadata.PackageNotFoundError:
        hint = "install the wheel, or make .venv/.refreeze in a checkout"
        return [Check("versions", "refreeze", "unknown", "no package metadata", hint)]
    checks = []
    if packaged != __version__:
        found = f"the package is {packaged}, its compiled half {__version__}"
        hint = "install it again: pip install --force-reinstall refreeze"
        checks.append(Check("versions", "refreeze", "problem", found, hint))
    else:
        checks.append(Check("versions", "refreeze", "ok", packaged))
    for name, wanted in requirements.items():
        required = name in _ALWAYS
        if not required and name not in _OPTIONAL:
            continue
        version = _version(name)
        bounds = ",".join(sorted({str(one.specifier) for one in wanted if one.specifier}))
        install = f"pip install '{name}{bounds}'"
        if version is None and required:
            checks.append(Check("versions", name, "problem", "not installed", install))
        elif version is None:
            checks.append(Check("versions", name, "note", "not installed"))
        elif all(one.specifier.contains(version, prereleases=True) for one in wanted):
            checks.append(Check("versions", name, "ok", f"{version} fits {bounds}"))
        else:
            found = f"{version} does not fit {bounds}"
            checks.append(Check("versions", name, "problem", found, install))
    return checks


def _requirements() -> dict[str, list[Requirement]]:
    """Return what refreeze's metadata asks for, extras included, by package."""
    from packaging.requirements import Requirement

    found: dict[str, list[Requirement]] = {}
    for line in metadata.requires("refreeze") or []:
        one = Requirement(line)
        found.setdefault(one.name.lower(), []).append(one)
    return dict(sorted(found.items(), key=lambda item: (item[0] not in _ALWAYS, item[0])))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
