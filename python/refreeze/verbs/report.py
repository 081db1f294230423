"""What an ingest did, as frozen dataclasses with a JSON form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "ArrayReport",
    "IngestReport",
    "ListStats",
    "PublishReport",
    "RunStatus",
    "StatusReport",
]


@dataclass(frozen=True)
class ArrayReport:
    """One array's part in an `IngestReport`.

    Shapes are in elements, ``grid_shape`` in chunks; a chunk is a stored object (a shard, for
    sharded arrays).
    """

    path: str
    """Path in the target, such as ``/group/air``."""
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    grid_shape: tuple[int, ...]
    chunks_in_region: int
    """Chunks that the grid has room for."""
    references: int
    """Virtual references written."""
    missing: int
    """Chunks that are not in the source; they read as the fill value."""
    loaded: bool
    """Whether the chunks were copied as native chunks instead of referenced."""


@dataclass(frozen=True)
class IngestReport:
    """The result of `refreeze.ingest`. Sizes are in bytes, times in seconds.

    References and bytes are those of the whole run; requests, keys, commits and manifests those of
    this attempt, where an earlier one was stopped.
    """

    source: str
    """The first source."""
    sources: tuple[str, ...]
    target: str
    branch: str
    mode: str
    run_id: str
    """Identifier of the run; the property ``refreeze.run`` of its commits. Empty when nothing was
    new, so that there was no run."""
    snapshot_id: str
    """The published snapshot."""
    previous_snapshot_id: str | None
    """What the branch showed before, and history keeps; None when there was nothing."""
    published: bool
    """Whether it is on the branch; not, when it was to stay staged."""
    resumed_batches: int
    """Batches that earlier attempts had committed."""
    commits: int
    manifests_written: int
    manifest_bytes: int
    list_requests: int
    """LIST requests; on a local file system, directories read."""
    keys_listed: int
    references_written: int
    bytes_referenced: int
    added: int
    """References that the target did not have before."""
    changed: int
    """References in whose place was another one before."""
    removed: int
    """References that the target has no more."""
    elapsed_s: float
    peak_rss_bytes: int
    """The process's own high-water mark."""
    arrays: tuple[ArrayReport, ...]
    warnings: tuple[str, ...]
    already_published: bool
    """Whether the target had it all before, so that nothing was written."""
    container: str
    """URL prefix of the first virtual chunk container; empty without one."""
    containers: tuple[str, ...]
    """URL prefixes of the virtual chunk containers, which readers authorise."""
    copied: dict[str, int] | None = None
    """With ``copy``: ``chunks``, ``bytes`` and ``server_side`` of what this attempt has copied; left
    out of the plain data otherwise."""
    listing: dict[str, Any] | None = None
    """Where the keys come from, where the sources were not listed: ``date``, ``age_s``, ``files``,
    ``rows``; left out of the plain data otherwise."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, ready for `json.dumps`."""
        report = asdict(self)
        for name in ("copied", "listing"):
            if report[name] is None:
                del report[name]
        report["sources"] = list(self.sources)
        report["warnings"] = list(self.warnings)
        report["containers"] = list(self.containers)
        for array, plain in zip(self.arrays, report["arrays"], strict=True):
            for shape in ("shape", "chunk_shape", "grid_shape"):
                plain[shape] = list(getattr(array, shape))
        report["arrays"] = list(report["arrays"])
        return report


@dataclass(frozen=True)
class RunStatus:
    """One ingest that a repository knows of."""

    run_id: str
    source: str
    branch: str
    """Where it is, or will be, published; empty when the plan of an unfinished run has expired."""
    mode: str
    """Empty as ``branch`` is."""
    state: str
    """``unfinished``, ``staged`` (complete, waiting for `refreeze.publish`) or ``published``."""
    batches_done: int
    batches_total: int
    """0 when the plan of an unfinished run has expired: it cannot be resumed."""
    last_commit_at: str
    """Time of its last commit, as ISO 8601."""
    locked: bool
    """Another process holds the repository; known of local ones only."""


@dataclass(frozen=True)
class Container:
    """A virtual chunk container of a repository."""

    name: str | None
    """What references call it; without one they hold whole URLs."""
    url_prefix: str
    """Its prefix, as it is stored."""


@dataclass(frozen=True)
class StatusReport:
    """The result of `refreeze.status`: the last ingest first."""

    runs: tuple[RunStatus, ...]
    containers: tuple[Container, ...] = ()
    warnings: tuple[str, ...] = ()
    """What could harm an unfinished run."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, ready for `json.dumps`."""
        report: dict[str, Any] = {"runs": [asdict(run) for run in self.runs]}
        if self.containers:
            report["containers"] = [asdict(container) for container in self.containers]
        if self.warnings:
            report["warnings"] = list(self.warnings)
        return report


@dataclass(frozen=True)
class GcReport:
    """The result of `refreeze.gc`."""

    files: tuple[str, ...]
    """Keys in the target that were removed, or would be, sorted."""
    bytes: int
    runs: tuple[str, ...]
    """The runs whose results are among them."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, ready for `json.dumps`."""
        return {"files": list(self.files), "bytes": self.bytes, "runs": list(self.runs)}


@dataclass(frozen=True)
class RelocateReport:
    """The result of `refreeze.relocate`."""

    target: str
    container: str
    """Its name."""
    from_prefix: str
    """Its prefix until now."""
    to_prefix: str
    """Its prefix from now on."""
    references: int
    """How many name the container, in the tips of branches and in tags."""
    sampled: int
    """How many of them were read at the new place."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, ready for `json.dumps`."""
        report = asdict(self)
        return {
            "target": report["target"],
            "container": report["container"],
            "from": report["from_prefix"],
            "to": report["to_prefix"],
            "references": report["references"],
            "sampled": report["sampled"],
        }


@dataclass(frozen=True)
class PublishReport:
    """The result of `refreeze.publish`."""

    target: str
    run_id: str
    branch: str
    snapshot_id: str
    """The branch's tip now."""
    rebased: bool
    """Whether the branch had moved, and the ingest was put on its new tip."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, ready for `json.dumps`."""
        return asdict(self)


@dataclass(frozen=True)
class ListStats(Mapping[str, Any]):
    """What a listing has cost and met so far; also a mapping of its fields."""

    list_requests: int
    """LIST requests, retries included; on a local file system, folders read."""
    keys_listed: int
    chunks: int
    """Chunks of the region."""
    foreign_keys: int
    """Keys that are neither chunks of the array nor Zarr metadata."""
    foreign_example: str | None
    retries: int
    warnings: tuple[str, ...]
    """What is odd about the server."""

    def __getitem__(self, name: str) -> Any:
        if name not in self.__dataclass_fields__:
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dataclass_fields__)

    def __len__(self) -> int:
        return len(self.__dataclass_fields__)

    def to_dict(self) -> dict[str, Any]:
        """Return the statistics as plain data, ready for `json.dumps`."""
        return asdict(self) | {"warnings": list(self.warnings)}


def peak_rss_bytes() -> int:
    """Return the most memory that this process has had resident.

    Linux says so in ``/proc/self/status`` (proc_pid_status(5)). `getrusage` is for other systems: on
    Linux its figure begins with the peak of the process that started this one.
    """
    import resource
    import sys

    with suppress(OSError), Path("/proc/self/status").open() as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB
