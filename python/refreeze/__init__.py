"""Icechunk repositories over native Zarr, without copying a chunk.

``refreeze.ingest(source, target)`` lists the chunks of a Zarr store and writes an Icechunk
repository whose chunks are virtual references to them. The command line does the same:
``refreeze ingest SOURCE TARGET``.

Importing this package is quick: zarr, icechunk and everything else that takes time is imported
when it is first needed.
"""

from refreeze import exceptions

# Not when first asked for: importing the submodule would then put the module in the function's
# place.
from refreeze._refreeze import ChunkStream, __version__
from refreeze.verbs.ingest import ingest
from refreeze.verbs.list_chunks import list_chunks
from refreeze.verbs.plan import Plan, plan
from refreeze.verbs.report import (
    ArrayReport,
    IngestReport,
    ListStats,
    PublishReport,
    RunStatus,
    StatusReport,
)
from refreeze.verbs.runs import publish, status
from refreeze.virtualizarr.aligned_regions import regions
from refreeze.virtualizarr.parser import ZarrParser

__all__ = [
    "ArrayReport",
    "ChunkStream",
    "IngestReport",
    "ListStats",
    "Plan",
    "PublishReport",
    "RunStatus",
    "StatusReport",
    "ZarrParser",
    "__version__",
    "exceptions",
    "ingest",
    "list_chunks",
    "plan",
    "publish",
    "regions",
    "status",
]


def __dir__() -> list[str]:
    return sorted(__all__)
