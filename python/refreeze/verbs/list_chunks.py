"""`list_chunks`: the stored chunks of one array, as a stream of Arrow record batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from refreeze.metadata.region import bounds_of
from refreeze.planning.options import (
    DEFAULT_CONCURRENCY,
    DEFAULT_MAX_DOCUMENT,
    byte_count,
    requests_in_flight,
)

if TYPE_CHECKING:
    from refreeze._refreeze import ChunkStream
    from refreeze.metadata.region import Region
    from refreeze.metadata.specs import ArraySpec
    from refreeze.stores.resolve import Source

__all__ = ["list_chunks", "open_stream"]


def list_chunks(
    store: Any,
    path: str,
    *,
    region: Region | None = None,
    paths: bool = False,
    concurrency: int | str = DEFAULT_CONCURRENCY,
    max_document: str | int = DEFAULT_MAX_DOCUMENT,
    probe: bool = False,
    yes: bool = False,
    max_requests_per_second: float | None = None,
) -> ChunkStream:
    """List the stored chunks of an array, or of a region of it.

    Each chunk appears once; the order is unspecified. A chunk is a stored object: for a sharded
    array, a shard. Objects below the array that are not chunks are left out and counted.

    Parameters
    ----------
    store
        An obstore store. One that cannot be rebuilt here, because it lives in memory, is a custom
        class or has unknown settings, is listed by its own ``list``, page by page, and
        ``.stats.warnings`` says so.
    path
        Path of the Zarr array in the store.
    region
        Slices by dimension name, in elements; they begin and end on chunk boundaries, or at the
        array's end. Dimensions without a name are ``dim_0``, ``dim_1``, ….
    paths
        Add a column ``path``: each object's key, relative to the store.
    concurrency
        LIST requests in flight: a number, or ``"auto"``: from 64 on, more (at most 1,024) as long as
        that brings more keys a second. Fewer when the service asks for it.
    max_document
        Bytes that the array's metadata document may have, or text such as ``"64MB"``.
    probe, yes, max_requests_per_second
        For an ``HTTPStore``, which cannot be listed: as for `refreeze.ingest`.

    Returns
    -------
    ChunkStream
        Iterates ``arro3.core.RecordBatch`` and speaks the Arrow C stream interface, once. Columns:
        ``chunk`` (``fixed_size_list<uint32>[ndim]``, coordinates in the full grid), ``size``
        (``uint64``, bytes), ``last_modified`` (``timestamp[us, UTC]``), ``e_tag`` (``string``, as
        the service gave it, or null). ``.stats`` says what it cost.

    Raises
    ------
    refreeze.exceptions.RegionError
        The region does not align, is empty, or names an unknown dimension.
    refreeze.exceptions.SourceNotFoundError
        There is no array at the path.
    refreeze.exceptions.UnsupportedArrayError
        The array's grid or chunk keys are of an unknown kind.
    refreeze.exceptions.ListingError
        From the stream: a listing that failed or cannot be trusted. Through the Arrow C stream,
        which carries text only, the message names the class.

    Examples
    --------
    >>> store = obstore.store.S3Store("bucket")  # doctest: +SKIP
    >>> stream = refreeze.list_chunks(store, "air.zarr/t2m", region={"time": slice(0, 240)})  # doctest: +SKIP
    >>> pyarrow.table(stream).num_rows  # doctest: +SKIP
    1200
    """
    from refreeze.metadata.selection import read_array
    from refreeze.planning.probing import probing_of
    from refreeze.runtime.interruption import interruptible
    from refreeze.stores.resolve import store_source

    if not isinstance(path, str):
        raise TypeError(f"path is the path of an array in the store, not {path!r}")
    if not hasattr(store, "list_with_delimiter"):
        # Not shown: a URL may hold secrets.
        raise TypeError(f"store is an obstore store, not {type(store).__name__}")
    probing = probing_of(probe=probe, yes=yes, max_requests_per_second=max_requests_per_second)
    source = store_source(store, path, probing)
    limit = byte_count("max_document", max_document, least=1)
    spec = interruptible(read_array, source, max_document=limit)
    return open_stream(
        source, spec, region=region, paths=paths, flat=False, concurrency=concurrency
    )


def open_stream(
    source: Source,
    spec: ArraySpec,
    *,
    region: Region | None,
    paths: bool,
    flat: bool,
    concurrency: int | str,
    undated: bool = False,
) -> ChunkStream:
    """As `list_chunks`, of a resolved source; ``flat`` gives each dimension a column.

    ``undated`` takes objects of which a web server does not tell the time.
    """
    from refreeze import _refreeze
    from refreeze.planning.probing import check_probed
    from refreeze.runtime.memory import return_large_blocks

    return_large_blocks()
    in_flight = requests_in_flight(concurrency)
    bounds = bounds_of(region)
    check_probed(source, [spec])
    return _refreeze.list_chunks(
        source.store,
        source.path,
        spec,
        region=bounds,
        paths=paths,
        flat=flat,
        concurrency=in_flight,
        undated=undated,
    )
