"""`regions`: a dimension cut into regions that every array can take, of a bounded number of chunks."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Any

# First, because importing the module of that name later would put it in the function's place.
import refreeze.metadata.region  # noqa: F401
from refreeze.exceptions import RegionError
from refreeze.metadata.dimensions import arrays_of_metadata, arrays_of_node

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    import zarr

    from refreeze.metadata.dimensions import GriddedArray

__all__ = ["regions"]


def regions(
    url: str | os.PathLike[str] | zarr.Group | zarr.Array[Any],
    registry: Any = None,
    *,
    dim: str,
    max_refs: int,
    group: str | None = None,
    skip_variables: Iterable[str] | None = None,
) -> Iterator[dict[str, slice]]:
    """Cut a dimension of a Zarr store into regions for `refreeze.ZarrParser`.

    Every region begins on a multiple of the least common multiple of the chunk lengths (shard
    lengths) of all arrays that have the dimension; one-dimensional coordinates do not count, since
    the parser carries their slices inline. All regions but the last have the same length.

    Parameters
    ----------
    url
        Root of the store, as for the parser; or an opened zarr group or array, without a registry.
    registry
        An ``ObjectStoreRegistry`` that knows the URL.
    dim
        The dimension to cut. Dimensions without a name are ``dim_0``, ``dim_1``, ….
    max_refs
        References that one region holds at most, over all arrays, if every chunk exists. Arrays
        without the dimension are part of every region, and count in each.
    group
        Group below the root to look at, with everything in it.
    skip_variables
        Names or globs of arrays that the parser will skip too; they are not counted.

    Returns
    -------
    Iterator[dict[str, slice]]
        ``{dim: slice(start, stop)}`` in elements: in order, and together the whole dimension.

    Raises
    ------
    refreeze.exceptions.RegionError
        No array has the dimension, arrays have it in different lengths, or ``max_refs`` is less
        than the shortest possible region holds; the message says how many that is.
    refreeze.exceptions.SourceNotFoundError
        There is no store or no such group.

    Examples
    --------
    >>> for region in refreeze.regions(url, registry, dim="time", max_refs=1_000_000):  # doctest: +SKIP
    ...     parser = refreeze.ZarrParser(region=region)
    """
    if not isinstance(dim, str):
        raise TypeError(f"dim is the name of a dimension, not {dim!r}")
    if isinstance(max_refs, bool) or not isinstance(max_refs, int):
        raise TypeError(f"max_refs is a number of references, not {max_refs!r}")
    if max_refs < 1:
        raise ValueError(f"max_refs must be at least 1, not {max_refs}")
    from refreeze import _refreeze

    arrays = _arrays(url, registry, group, skip_variables)
    _refreeze.check_known(arrays, [dim])
    length = _length(arrays, dim)
    step = _refreeze.alignment(arrays, dim)
    steps = -(-length // step)

    def references(count: int) -> int:
        return sum(array.chunks(dim, min(count * step, length)) for array in arrays)

    # The first region is the fullest: every other one of as many steps is as long or shorter.
    most = bisect.bisect_right(range(1, steps + 1), max_refs, key=references)
    if steps and not most:
        raise RegionError(
            f"{min(step, length):,} elements along {dim} are the shortest region that is whole "
            f"chunks of every array, and can hold {references(1):,} references; max_refs is "
            f"{max_refs:,}",
            f"set max_refs to {references(1)} or more, or leave arrays out with skip_variables",
        )
    size = most * step
    return ({dim: slice(start, min(start + size, length))} for start in range(0, length, size or 1))


def _arrays(
    url: Any, registry: Any, group: str | None, skip_variables: Iterable[str] | None
) -> list[GriddedArray]:
    from refreeze.metadata.selection import matches, read_metadata
    from refreeze.planning.options import names, selected
    from refreeze.runtime.interruption import interruptible
    from refreeze.stores.registry import resolve_url

    if hasattr(url, "store_path"):
        if registry is not None:
            raise TypeError("an opened zarr group or array needs no registry")
        node = url[group] if group else url
        skipped = names("skip_variables", skip_variables)
        found = interruptible(arrays_of_node, node)
        return [array for array in found if not matches(array.path.lstrip("/"), skipped)]
    selection = selected(group, None, None, skip_variables, None)
    source = resolve_url(url, registry).source
    return arrays_of_metadata(interruptible(read_metadata, source, selection))


def _length(arrays: Iterable[GriddedArray], dim: str) -> int:
    lengths = {
        size: array.path
        for array in arrays
        for name, size in zip(array.names, array.shape, strict=True)
        if name == dim
    }
    if len(lengths) > 1:
        told = ", ".join(f"{size:,} in {path}" for size, path in sorted(lengths.items()))
        raise RegionError(
            f"arrays have the dimension {dim} in different lengths: {told}",
            "name one group, or leave arrays out with skip_variables",
        )
    return next(iter(lengths))
