"""The compiled half of refreeze. Use the functions of the package instead."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, final

from refreeze.metadata.dimensions import GriddedArray
from refreeze.metadata.region import SliceBounds
from refreeze.metadata.specs import ArraySpec, GroupSpec
from refreeze.planning.options import IngestOptions
from refreeze.stores.listing_tables import Columns
from refreeze.stores.resolve import BucketTarget, LocalTarget, RepositoryTarget
from refreeze.verbs.report import ListStats

__all__ = [
    "DEFAULT_MEMORY",
    "FIRST_CONCURRENCY",
    "LEAST_MEMORY",
    "MAX_REFERENCES_PER_MANIFEST",
    "MOST_CONCURRENCY",
    "MOST_PROBED",
    "PAGE_SIZE",
    "ChunkStream",
    "Comparison",
    "InventoryBuilder",
    "OpenedSource",
    "OpenedTarget",
    "__version__",
    "addressed_names",
    "alignment",
    "carry_out",
    "check_known",
    "check_writes",
    "containers",
    "copy",
    "differences",
    "error_line",
    "estimate_arrays",
    "examine_listing",
    "gc",
    "ingest",
    "list_chunks",
    "list_folders",
    "open_source",
    "open_target",
    "open_web",
    "publish",
    "read_objects",
    "redact",
    "region_box",
    "region_elements",
    "relocate",
    "remember_secrets",
    "remove_published",
    "resolve_region",
    "sample_listing",
    "shown_text",
    "shut_down",
    "slice_elements",
    "status",
    "stop_calls",
    "verify",
]

__version__: str
DEFAULT_MEMORY: int
FIRST_CONCURRENCY: int
LEAST_MEMORY: int
MAX_REFERENCES_PER_MANIFEST: int
MOST_CONCURRENCY: int
MOST_PROBED: int
PAGE_SIZE: int

@final
class ChunkStream:
    """The stored chunks of an array, as a stream of Arrow record batches that can be read once.

    Iterating gives ``arro3.core.RecordBatch``. Any library that speaks the Arrow C stream
    interface (pyarrow, polars, duckdb, arro3) takes the stream itself, without copying.

    Examples
    --------
    >>> pyarrow.table(refreeze.list_chunks(store, "air.zarr/t2m"))  # doctest: +SKIP
    """

    @property
    def schema(self) -> Any:
        """The schema of the record batches, as ``arro3.core.Schema``."""
    @property
    def stats(self) -> ListStats:
        """What the listing has cost and met so far."""
    def foreign_note(self, array: str) -> str | None:
        """Tell a user about foreign keys below an array, if any have been met so far."""
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def __arrow_c_schema__(self) -> Any: ...
    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any: ...

@final
class OpenedSource:
    """A source that several listings share, and its connections with it.

    It can be given to `list_chunks` in the place of the store that it was opened in.
    """

    @property
    def is_foreign(self) -> bool:
        """Whether only the store's own library lists and reads it."""

@final
class InventoryBuilder:
    """Sorts the rows of a listing on disk; see `refreeze.stores.listings`.

    Of each source it knows what keys of its objects may begin with, its bucket, and its URL.
    """

    def __new__(
        cls, folder: str, memory: int, places: Sequence[tuple[Sequence[str], str | None, str]]
    ) -> Self: ...
    def add(self, batch: Any, columns: Columns) -> None:
        """Take the rows of a record batch."""
    def counts(self) -> tuple[int, list[int]]:
        """Return the rows taken, and the objects found below each source."""
    def finish(self, sources: Sequence[tuple[Any, str]]) -> list[OpenedSource]:
        """Return the sources, each listed by its part of the rows."""

def sample_listing(
    opened: OpenedSource, *, pages: int, date: int, concurrency: int | str
) -> tuple[int, int, int]:
    """Compare pages of a listing with the service's: LIST requests, keys, and those written since.

    ``date`` is when it was made, in microseconds since 1970 UTC. Raises `ListingError` when they
    differ otherwise.
    """

@final
class Comparison:
    """The differences between sources and a repository, as record batches, and then a report."""

    @property
    def schema(self) -> Any:
        """Columns ``array``, ``coordinates``, ``kind``, ``source`` and ``target``, all text."""
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def report(self) -> str:
        """Return the report of the core as JSON, after the last record batch."""

def verify(
    sources: Sequence[tuple[Any, str]],
    target: LocalTarget | BucketTarget | RepositoryTarget,
    *,
    source_urls: Sequence[str],
    arrays: Sequence[ArraySpec],
    compared: Sequence[Sequence[tuple[int, int]]],
    options: IngestOptions,
    snapshot_id: str,
    sample: int,
    progress: Callable[[dict[str, Any]], object] | None,
) -> Comparison:
    """Begin to compare a listing of sources with a snapshot; see `refreeze.verify`.

    ``compared`` has, for each array, the chunk coordinates whose references are looked at.
    """

def open_source(store: Any, path: str) -> OpenedSource:
    """Open the source at a path in an obstore store."""

def open_web(
    base: str,
    *,
    headers: Sequence[tuple[str, str]],
    client: Mapping[str, str],
    root_certificate: bytes | None,
    probe: bool,
    yes: bool,
    max_requests_per_second: float | None,
) -> OpenedSource:
    """Open the root of a web server; see `refreeze.stores.web_store.WebStore`."""

def list_chunks(
    store: Any,
    path: str,
    array: ArraySpec,
    *,
    region: Mapping[str, SliceBounds] | Sequence[tuple[int, int]],
    paths: bool,
    flat: bool,
    concurrency: int | str,
    undated: bool = False,
) -> ChunkStream:
    """List the chunks of one array; see `refreeze.list_chunks`.

    A sequence in the place of a region has the chunk coordinates along each dimension, half-open.
    """

def read_objects(
    store: Any,
    path: str,
    wanted: Sequence[tuple[str, int | None, str | None]],
    *,
    limit: int | None,
    beside: str | None,
    concurrency: int | str,
) -> list[bytes | None]:
    """Read objects by key, with size and ETag as listed; None where an object is not there.

    ``beside`` is a key whose object tells whether the store's ETags are digests.
    """

def list_folders(
    store: Any, path: str, folders: Sequence[tuple[str, Sequence[str]]], *, concurrency: int
) -> list[tuple[list[str], list[str]]]:
    """List the names of folders and objects below paths of a bucket.

    Each path comes with names of objects that are known to be there.
    """

def estimate_arrays(
    store: Any,
    path: str,
    arrays: Sequence[tuple[ArraySpec, Sequence[tuple[int, int]]]],
    *,
    memory: int,
    references_per_manifest: int | None,
    references_per_commit: int | None,
    concurrency: int | str,
) -> str:
    """Estimate the ingest of arrays, after a few requests; see `refreeze.plan`. Returns JSON.

    Each array comes with the chunk coordinates that are listed, half-open along each dimension.
    """

def examine_listing(store: Any, path: str) -> str:
    """Ask for two pages of a bucket's listing, and tell as JSON what they are like.

    ``keys``, ``truncated``, ``ascending`` and ``start_after`` (None where too few keys tell),
    ``never_starts`` and ``list_requests``.
    """

def check_writes(target: LocalTarget | BucketTarget | RepositoryTarget) -> None:
    """Try the lock of a folder, or the conditional writes of a server; raise what is wrong."""

def region_box(array: ArraySpec, *, region: Mapping[str, SliceBounds]) -> list[tuple[int, int]]:
    """Return the chunk coordinates of a region along each dimension, half-open.

    Raises `RegionError` when the region does not align, is empty or names an unknown dimension.
    """

def region_elements(
    array: GriddedArray, *, region: Mapping[str, SliceBounds]
) -> list[tuple[int, int]]:
    """Return start and stop of a region along each dimension of an array, in elements.

    Dimensions that the array does not have are not looked at. Raises `RegionError` when it is
    empty along one, or has steps.
    """

def resolve_region(
    arrays: Sequence[tuple[ArraySpec, GriddedArray]], *, region: Mapping[str, SliceBounds]
) -> list[tuple[list[tuple[int, int]], list[tuple[int, int]], int | None]]:
    """Return what a region takes of each array of a store: elements, chunks, and a step.

    There is a step, in elements, for a coordinate that need not end where regions of multiples of
    the step do: its values are to be carried. Its chunks, and those of copied arrays, hold at
    least the elements. Raises `RegionError` as `region_elements`, and when the region does not
    align with an array that is referenced.
    """

def slice_elements(dimension: str, length: int, bounds: SliceBounds) -> tuple[int, int]:
    """Return start and stop of a slice of so many elements, by Python's rules; it may be empty.

    Raises `RegionError` when it has steps.
    """

def addressed_names(names: Sequence[str | None] | None, ndim: int) -> list[str]:
    """Return the names by which an array's dimensions are addressed; see `refreeze.ZarrParser`."""

def alignment(arrays: Sequence[GriddedArray], dimension: str) -> int:
    """Return the least number of elements along a dimension that is whole chunks of every array.

    One-dimensional coordinates do not count, unless nothing else has the dimension.
    """

def check_known(arrays: Sequence[GriddedArray], dimensions: Sequence[str]) -> None:
    """Raise `RegionError` for a dimension that no array has."""

def ingest(
    sources: Sequence[tuple[Any, str]],
    target: BucketTarget | LocalTarget | RepositoryTarget,
    *,
    source_urls: Sequence[str],
    groups: Sequence[GroupSpec],
    arrays: Sequence[ArraySpec],
    options: IngestOptions,
    decoder: Callable[[bytes, bytes], object],
    progress: Callable[[dict[str, Any]], object] | None,
    crew: Any = None,
) -> str:
    """Ingests Zarr stores; see `refreeze.ingest`.

    ``decoder`` raises if a chunk of the array with a metadata document cannot be decoded.
    Returns the report of the core as JSON.
    """

def containers(
    target: BucketTarget | LocalTarget | RepositoryTarget,
) -> list[tuple[str | None, str, dict[str, str]]]:
    """Return name, URL prefix and settings of a repository's virtual chunk containers."""

def copy(
    target: BucketTarget | LocalTarget | RepositoryTarget,
    *,
    branch: str,
    run_id: str | None,
    arrays: Sequence[tuple[str, Sequence[tuple[int, int]]]],
    places: Sequence[tuple[str | None, str, tuple[Any, str]]],
    plan: str,
    memory: int,
    concurrency: int | str,
    chunks_per_commit: int | None,
    message: str | None,
    publish: bool,
    unsafe_target: bool,
    progress: Callable[[dict[str, Any]], object] | None,
) -> str:
    """Turn references into native chunks; see `refreeze.copy`. Returns the report as JSON.

    ``arrays`` come with the chunk coordinates to copy, ``places`` are containers with the stores
    that they lead to.
    """

def carry_out(
    plan: str,
    unit: str,
    sources: Sequence[tuple[Any, str]],
    target: LocalTarget | BucketTarget | RepositoryTarget,
    *,
    source_urls: Sequence[str],
    memory: int,
    concurrency: int | str,
    requests_per_second: float | None = None,
) -> str:
    """Do one unit of a plan, both as JSON; see `refreeze.work.carry_out`."""

@final
class OpenedTarget:
    """A branch of a repository as it was when it was opened."""

    @property
    def snapshot_id(self) -> str:
        """The tip of the branch."""
    @property
    def nodes(self) -> dict[str, bytes]:
        """The metadata documents of all nodes by path."""
    def chunks(self, path: str) -> dict[tuple[int, ...], bytes]:
        """Return the native chunks of an array by coordinates.

        Raises `MismatchError` when it has virtual ones.
        """
    def native_in(self, path: str, *, region: Sequence[tuple[int, int]]) -> tuple[int, ...] | None:
        """Return the coordinates of a native chunk within a box, if there is one."""
    def told_of(self) -> list[tuple[str, int, bool, int]]:
        """Tell as of when commits of ingests are, newest first; copies are left out.

        Each is: URLs of the sources; as of when (the listing's date, else the commit's, in
        microseconds since 1970); whether a listing told of it; when it was committed.
        """
    def stored_chunks(self, path: str, *, flat: bool) -> ChunkStream:
        """Stream the chunks of an array from its manifests: coordinates, size, kind, location.

        ``kind`` is ``native`` or ``virtual``; ``last_modified`` and ``e_tag`` are what references
        carry.
        """
    def origins(
        self, store: Any, path: str, *, arrays: Sequence[ArraySpec], axes: Sequence[int | None]
    ) -> list[tuple[str, tuple[int, ...] | None, str | None]]:
        """Tell for each array where its chunks are in a source, by one of its references.

        ``native`` and ``empty`` tell nothing; ``virtual`` comes with the shift of `Piece`,
        ``elsewhere`` with the URL of another source. With an axis, the reference furthest along it
        is looked at; without, any that lies in the source.
        """

def open_target(
    target: BucketTarget | LocalTarget | RepositoryTarget, *, branch: str
) -> OpenedTarget:
    """Open a repository to read what is at the tip of a branch.

    Raises `TargetNotFoundError` when there is no repository or no such branch.
    """

def differences(was: bytes, now: bytes) -> tuple[str | None, list[str]]:
    """Compare two metadata documents of an array: what makes them incompatible, and what does not."""

def relocate(
    target: BucketTarget | LocalTarget | RepositoryTarget,
    source: tuple[Any, str],
    *,
    prefix: str,
    sample: int,
    unsafe_target: bool,
) -> str:
    """Change a container's prefix; see `refreeze.relocate`. Returns the report as JSON."""

def status(target: BucketTarget | LocalTarget | RepositoryTarget) -> str:
    """Return the ingests of a repository as JSON; see `refreeze.status`."""

def publish(
    target: BucketTarget | LocalTarget | RepositoryTarget,
    *,
    run_id: str | None,
    rebase: bool,
    unsafe_target: bool,
) -> str:
    """Publish a staged ingest; see `refreeze.publish`. Returns the report as JSON."""

def remove_published(
    target: BucketTarget | LocalTarget | RepositoryTarget, *, unsafe_target: bool
) -> None:
    """Remove staging branches and results of runs that are published, which killed processes leave."""

def gc(
    target: BucketTarget | LocalTarget | RepositoryTarget,
    *,
    dry_run: bool,
    older_than: float,
    unsafe_target: bool,
) -> str:
    """Remove what nothing refers to; see `refreeze.gc`. Returns the report as JSON."""

def stop_calls() -> None:
    """Make every call, now and later, raise `KeyboardInterrupt` soon: the process is about to end."""

def shut_down() -> None:
    """End the threads of the runtime, which may call Python; the interpreter calls this at exit."""

def shown_text(text: str) -> str:
    """Return a text as a message shows it: one line, without secrets, of a length to be read."""

def redact(text: str) -> str:
    """Return a text without secrets, and otherwise as it is."""

def error_line(text: str) -> str:
    """Return one line of a library's error, without the body of a server's answer."""

def remember_secrets(secrets: Sequence[str]) -> None:
    """Take note of values that must not be shown from now on."""
