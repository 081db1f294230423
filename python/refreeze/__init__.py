"""Icechunk repositories over native Zarr, without copying a chunk.

``refreeze.ingest(source, target)`` lists the chunks of a Zarr store and writes an Icechunk
repository whose chunks are virtual references to them. The command line does the same:
``refreeze ingest SOURCE TARGET``.

Importing this package is quick: zarr, icechunk and everything else that takes time is imported
when it is first needed.
"""

from refreeze import exceptions
from refreeze._refreeze import __version__

# Not when first asked for: importing the submodule would then put the module in the function's
# place.
from refreeze.ingest import ingest
from refreeze.report import ArrayReport, IngestReport

__all__ = ["ArrayReport", "IngestReport", "__version__", "exceptions", "ingest"]


def __dir__() -> list[str]:
    return sorted(__all__)
