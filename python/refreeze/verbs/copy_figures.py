"""What copying the chunks of an ingest would take, besides listing them.

Sizes are judged by the first chunks of the largest arrays. None of the figures is a promise; the
report of a copy has the facts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from refreeze import _refreeze
from refreeze.stores.buckets import bucket_of_url, is_bucket
from refreeze.verbs.listed_parts import parts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from refreeze.metadata.specs import ArraySpec
    from refreeze.planning.source_slice import Store

__all__ = ["copy_figures"]

_ARRAYS_LOOKED_AT = 16
_USD_PER_READ = 0.4e-6
_USD_PER_WRITE = 5e-6
"""S3's list prices; those of the others are near."""
_SECONDS_PER_REQUEST = 0.05
_BYTES_PER_SECOND = 100e6


def copy_figures(
    arrays: Sequence[tuple[ArraySpec, int]],
    stores: Sequence[Store],
    target: Any,
    *,
    concurrency: int | str,
) -> dict[str, Any]:
    """Estimate a copy.

    Parameters
    ----------
    arrays
        Arrays whose chunks would be copied, and how many chunks are expected of each.
    stores
        The sources.
    target
        As the caller named it.

    Returns
    -------
    dict
        ``chunks``, ``bytes``, ``requests``, ``cost_usd``, ``estimated_s``, and ``server_side``:
        whether the service copies, within one bucket.
    """
    largest = sorted(arrays, key=lambda pair: -pair[1])[:_ARRAYS_LOOKED_AT]
    sizes = {spec.path: _mean_size(spec, stores) for spec, count in largest if count}
    known = [size for size in sizes.values() if size is not None]
    usual = sum(known) / len(known) if known else 0.0
    chunks = sum(count for _, count in arrays)
    total = sum(count * (sizes.get(spec.path) or usual) for spec, count in arrays)
    server_side = _is_within(stores, target)
    # Where the service copies, the object is looked at afterwards.
    requests = 2 * chunks
    remote = any(is_bucket(store.url) for store in stores) or is_bucket(str(target or ""))
    at_a_time = concurrency if isinstance(concurrency, int) else _refreeze.FIRST_CONCURRENCY
    waiting = requests * _SECONDS_PER_REQUEST / max(at_a_time, 1) if remote else 0.0
    through = 0.0 if server_side else total / _BYTES_PER_SECOND
    return {
        "chunks": chunks,
        "bytes": round(total),
        "requests": requests,
        "cost_usd": round(chunks * (_USD_PER_READ + _USD_PER_WRITE), 6) if remote else 0.0,
        "estimated_s": round(max(waiting, through), 2),
        "server_side": server_side,
    }


def _is_within(stores: Sequence[Store], target: Any) -> bool:
    """Whether sources and target are one bucket."""
    place = bucket_of_url(target) if isinstance(target, str) else None
    if place is None:
        return False
    sources = [bucket_of_url(store.url) for store in stores]
    return all(
        one is not None and (one.service, one.name) == (place.service, place.name)
        for one in sources
    )


def _mean_size(spec: ArraySpec, stores: Sequence[Store]) -> float | None:
    """Return the mean size of the first chunks of an array; None when there is none."""
    for store in stores:
        for part, region in parts_of(spec, store.index):
            stream = _refreeze.list_chunks(
                store.source.store,
                store.source.path,
                part,
                region=region,
                paths=False,
                flat=False,
                concurrency=1,
            )
            for batch in stream:
                sizes = batch.column("size").to_numpy()
                return float(sizes.mean())
    return None
