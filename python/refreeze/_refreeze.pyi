"""The compiled half of refreeze. Use the functions of the package instead."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, final

from refreeze.metadata import ArraySpec, GroupSpec
from refreeze.report import ListStats
from refreeze.stores import LocalTarget, RepositoryTarget, S3Target

__all__ = ["ChunkStream", "__version__", "estimate_array", "ingest", "list_chunks"]

__version__: str

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
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def __arrow_c_schema__(self) -> Any: ...
    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any: ...

def list_chunks(
    store: Any,
    path: str,
    array: ArraySpec,
    *,
    region: Mapping[str, tuple[int | None, int | None, int | None]],
    paths: bool,
    flat: bool,
    concurrency: int,
) -> ChunkStream:
    """List the chunks of one array; see `refreeze.list_chunks`."""

def estimate_array(
    store: Any,
    path: str,
    array: ArraySpec,
    *,
    region: Mapping[str, tuple[int | None, int | None, int | None]],
    references_per_manifest: int,
) -> str:
    """Estimate the listing of one array; see `refreeze.plan`. Returns JSON."""

def ingest(
    store: Any,
    path: str,
    target: LocalTarget | S3Target | RepositoryTarget,
    *,
    source_url: str,
    branch: str,
    groups: Sequence[GroupSpec],
    arrays: Sequence[ArraySpec],
    skip_empty_chunks: bool,
    references_per_manifest: int,
    references_per_commit: int,
    concurrency: int,
    message: str | None,
    progress: Callable[[dict[str, Any]], object] | None,
) -> str:
    """Ingests a Zarr store; see `refreeze.ingest`.

    Returns the report of the core as JSON.
    """
