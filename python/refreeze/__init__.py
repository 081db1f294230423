"""Icechunk repositories over native Zarr, without copying a chunk.

``refreeze.ingest(source, target)`` lists the chunks of a Zarr store and writes an Icechunk
repository whose chunks are virtual references to them. The command line does the same:
``refreeze ingest SOURCE TARGET``.

Importing this package is quick: zarr, icechunk and everything else that takes time is imported
when it is first needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from refreeze import exceptions
from refreeze._refreeze import __version__

if TYPE_CHECKING:
    from refreeze.ingest import ingest
    from refreeze.report import ArrayReport, IngestReport

__all__ = ["ArrayReport", "IngestReport", "__version__", "exceptions", "ingest"]

_HOMES = {
    "ArrayReport": "refreeze.report",
    "IngestReport": "refreeze.report",
    "ingest": "refreeze.ingest",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'refreeze' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value  # also over the submodule of the same name, which importing has set
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
