"""Icechunk repositories over native Zarr, without copying a chunk.

``refreeze.ingest(source, target)`` lists the chunks of a Zarr store and writes an Icechunk
repository whose chunks are virtual references to them. The command line does the same:
``refreeze ingest SOURCE TARGET``.

Importing this package is quick: even its own modules are imported only when one of their names is
first used.
"""

# Not imported from typing, which takes longer than all else here: the command line must come to its
# signal handlers (`refreeze.runtime.command`) before anything can be interrupted.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from refreeze import exceptions
    from refreeze._refreeze import ChunkStream, __version__
    from refreeze.verbs.copy import CopyReport, copy
    from refreeze.verbs.coverage import coverage
    from refreeze.verbs.coverage_report import ArrayCoverage, Coverage, MissingRange
    from refreeze.verbs.doctor import doctor
    from refreeze.verbs.doctor_report import Check, DoctorReport
    from refreeze.verbs.gc import gc
    from refreeze.verbs.ingest import ingest
    from refreeze.verbs.list_chunks import list_chunks
    from refreeze.verbs.plan import Plan, plan
    from refreeze.verbs.publish import publish
    from refreeze.verbs.relocate import relocate
    from refreeze.verbs.report import (
        ArrayReport,
        Container,
        GcReport,
        IngestReport,
        ListStats,
        PublishReport,
        RelocateReport,
        RunStatus,
        StatusReport,
    )
    from refreeze.verbs.status import status
    from refreeze.verbs.sync import SyncReport, sync
    from refreeze.verbs.verify import VerifyReport, verify
    from refreeze.virtualizarr.aligned_regions import regions
    from refreeze.virtualizarr.parser import ZarrParser
    from refreeze.writer.converter import ZarrConverter
    from refreeze.writer.replacing import replacing
    from refreeze.writer.report import WriteReport
    from refreeze.writer.saver import ZarrSaver
    from refreeze.writer.template import create_template
    from refreeze.writer.write import write
    from refreeze.writer.write_region import write_region

__all__ = [
    "ArrayCoverage",
    "ArrayReport",
    "Check",
    "ChunkStream",
    "Container",
    "CopyReport",
    "Coverage",
    "DoctorReport",
    "GcReport",
    "IngestReport",
    "ListStats",
    "MissingRange",
    "Plan",
    "PublishReport",
    "RelocateReport",
    "RunStatus",
    "StatusReport",
    "SyncReport",
    "VerifyReport",
    "WriteReport",
    "ZarrConverter",
    "ZarrParser",
    "ZarrSaver",
    "__version__",
    "copy",
    "coverage",
    "create_template",
    "doctor",
    "exceptions",
    "gc",
    "ingest",
    "list_chunks",
    "plan",
    "publish",
    "regions",
    "relocate",
    "replacing",
    "status",
    "sync",
    "verify",
    "write",
    "write_region",
]

_PLACES = {
    "ArrayCoverage": "refreeze.verbs.coverage_report",
    "ArrayReport": "refreeze.verbs.report",
    "Check": "refreeze.verbs.doctor_report",
    "ChunkStream": "refreeze._refreeze",
    "Container": "refreeze.verbs.report",
    "CopyReport": "refreeze.verbs.copy",
    "Coverage": "refreeze.verbs.coverage_report",
    "GcReport": "refreeze.verbs.report",
    "DoctorReport": "refreeze.verbs.doctor_report",
    "IngestReport": "refreeze.verbs.report",
    "ListStats": "refreeze.verbs.report",
    "MissingRange": "refreeze.verbs.coverage_report",
    "Plan": "refreeze.verbs.plan",
    "PublishReport": "refreeze.verbs.report",
    "RelocateReport": "refreeze.verbs.report",
    "RunStatus": "refreeze.verbs.report",
    "StatusReport": "refreeze.verbs.report",
    "SyncReport": "refreeze.verbs.sync",
    "VerifyReport": "refreeze.verbs.verify",
    "ZarrParser": "refreeze.virtualizarr.parser",
    "ZarrConverter": "refreeze.writer.converter",
    "ZarrSaver": "refreeze.writer.saver",
    "create_template": "refreeze.writer.template",
    "write_region": "refreeze.writer.write_region",
    "WriteReport": "refreeze.writer.report",
    "replacing": "refreeze.writer.replacing",
    "write": "refreeze.writer.write",
    "__version__": "refreeze._refreeze",
    "copy": "refreeze.verbs.copy",
    "coverage": "refreeze.verbs.coverage",
    "gc": "refreeze.verbs.gc",
    "doctor": "refreeze.verbs.doctor",
    "ingest": "refreeze.verbs.ingest",
    "list_chunks": "refreeze.verbs.list_chunks",
    "plan": "refreeze.verbs.plan",
    "publish": "refreeze.verbs.publish",
    "regions": "refreeze.virtualizarr.aligned_regions",
    "relocate": "refreeze.verbs.relocate",
    "status": "refreeze.verbs.status",
    "sync": "refreeze.verbs.sync",
    "verify": "refreeze.verbs.verify",
}
"""The module of each public name. A test holds it to `__all__` and to what type checkers see."""


if not TYPE_CHECKING:  # for a type checker it would make every name a name of the package

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name in {"exceptions", "work"}:
            return import_module(f"refreeze.{name}")
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_PLACES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
