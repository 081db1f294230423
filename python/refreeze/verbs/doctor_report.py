"""What `refreeze.doctor` has found, as values to print, to paste and to test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["Check", "DoctorReport", "State"]

State = Literal["ok", "note", "problem", "unknown"]
"""``note``: works, and is worth knowing. ``unknown``: could not be found out."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    subject: str
    """``versions``, ``settings``, ``source`` or ``target``."""
    name: str
    """What was looked at, such as ``start-after``."""
    state: State
    found: str
    """In a few words; never a secret."""
    hint: str | None = None
    """What to do about it."""


@dataclass(frozen=True)
class DoctorReport:
    """The result of `refreeze.doctor`."""

    source: str | None
    """Free of credentials."""
    target: str | None
    versions: Mapping[str, str | None]
    """Of refreeze, of the packages that it works with (None: not installed), Python and platform."""
    settings: Mapping[str, tuple[str, ...]]
    """Names of settings: ``environment``, ``source_options``, ``target_options``."""
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether no check has found a problem."""
        return all(check.state != "problem" for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, ready for `json.dumps`."""
        return {
            "ok": self.ok,
            "source": self.source,
            "target": self.target,
            "versions": dict(self.versions),
            "settings": {where: list(names) for where, names in self.settings.items()},
            "checks": [asdict(check) for check in self.checks],
        }
