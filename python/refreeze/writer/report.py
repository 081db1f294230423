"""What a write did, as a frozen dataclass with a JSON form."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["WriteReport"]


@dataclass(frozen=True)
class WriteReport:
    """The result of whatever writes data. Times are in seconds."""

    target: str
    branch: str
    mode: str
    """``create``, ``append``, ``overwrite``, ``update``, ``template`` or ``region``."""
    snapshot_id: str | None
    """The commit that holds it; None, if nothing had to be written."""
    commits: int
    arrays: tuple[str, ...] = ()
    """Paths of the arrays that were written."""
    replaced_snapshot_id: str | None = None
    """What the commit stands on: the old state, which stays in the history."""
    files: int = 0
    """Files whose data was written."""
    elapsed_s: float = 0.0
    dry_run: bool = False
    """Nothing was written: the rest says what would have been."""
    regions: tuple[dict[str, Any], ...] = ()
    """Where each file went: ``{"file", "region": {dim: [start, stop]}}``."""
    layout: tuple[dict[str, Any], ...] = ()
    """The arrays as they are afterwards: ``{"name", "dims", "shape", "chunk_shape", "dtype"}``. Of a
    template all; of a region none."""
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)
