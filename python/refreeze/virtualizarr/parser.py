"""`ZarrParser`: a Zarr store, or a region of it, as references for VirtualiZarr.

A parser is a value: what is wanted of a store, in a form that can be compared, shown and sent to
workers. What it does is `refreeze.virtualizarr.manifest_store`' work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from refreeze.metadata.region import bounds_of
from refreeze.planning.options import check_texts, names
from refreeze.planning.probing import probing_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from virtualizarr.manifests import ManifestStore

    from refreeze.metadata.region import Region

__all__ = ["ZarrParser"]


class ZarrParser:
    """Makes a VirtualiZarr ``ManifestStore`` of a Zarr store, or of a region of it.

    Replaces ``virtualizarr.parsers.ZarrParser``. It lists with refreeze's own lister, in parallel
    and only what is wanted, and treats as a chunk only what the array's key encoding names. Needs
    the extra ``refreeze[virtualizarr]``.

    Parameters
    ----------
    group
        Group below the root of the store to take as root, such as ``"model/output"``.
    skip_variables
        Names or globs of arrays to leave out, in every group.
    region
        Slices by dimension name, in elements, such as ``{"time": slice(0, 240)}``: each begins on a
        chunk (shard) boundary of every array that has the dimension, and ends on one or at the
        array's end; `refreeze.regions` gives such. Dimensions without a name are ``dim_0``,
        ``dim_1``, …. Arrays without the dimensions are taken whole. None: everything.
    probe, yes, max_requests_per_second
        For web servers, which cannot be listed: as for `refreeze.ingest`.

    Raises
    ------
    TypeError
        An argument is of a wrong type.
    refreeze.exceptions.RegionError
        The region names no dimension.

    Notes
    -----
    Results have the region's shape, and their chunks count from zero. A one-dimensional coordinate
    (named like its dimension, or by a ``coordinates`` attribute) whose chunks do not fit into the
    alignment of the other arrays, often because it is one chunk, is read for its slice and
    carried inline.

    Without a region, results declare the chunk key separator ``.``, as VirtualiZarr's parser does;
    with one ``/``. With ``.``, VirtualiZarr 2.8 refuses to append to a repository of Icechunk when
    some array lacks the appended dimension. References are the same.

    VirtualiZarr 2.8 cannot append sharded arrays, nor place them with ``to_icechunk(region=...)``
    (the former is an error, the latter may go wrong silently), and cannot write arrays without
    dimensions a second time, whatever a parser gives. Leave the former out with ``skip_variables``
    and the latter with ``vds.drop_vars([name for name, var in vds.variables.items() if not
    var.dims])`` from the second round on; `refreeze.ingest` takes both. A coordinate that is
    carried inline, has more than a thousand steps and is not loaded can be appended only by regions
    of one length: name it in ``loadable_variables``.

    xarray masks the fill value of version 2 arrays, and so it does in results, which carry it as
    ``_FillValue``; except, without a region, for floats whose fill value is 0, zarr's default,
    which VirtualiZarr's parser leaves unmasked too.

    A ``UserWarning`` tells of objects below an array that are not chunks of it; they are ignored.

    Examples
    --------
    >>> parser = refreeze.ZarrParser(region={"time": slice(0, 240)})  # doctest: +SKIP
    >>> vds = virtualizarr.open_virtual_dataset(url, registry=registry, parser=parser)  # doctest: +SKIP
    """

    # Pickles name the class as users import it, so that they outlive a move of this module.
    __module__ = "refreeze"

    def __init__(
        self,
        group: str | None = None,
        skip_variables: Iterable[str] | None = None,
        region: Region | None = None,
        *,
        probe: bool = False,
        yes: bool = False,
        max_requests_per_second: float | None = None,
    ) -> None:
        if group is not None:
            check_texts({"group": group})
        bounds_of(region)
        self.group = group
        self.skip_variables = (
            None if skip_variables is None else names("skip_variables", skip_variables)
        )
        self.region = None if region is None else dict(region)
        self.probing = probing_of(
            probe=probe, yes=yes, max_requests_per_second=max_requests_per_second
        )

    def __call__(self, url: str, registry: Any) -> ManifestStore:
        """Read metadata and list chunks.

        Parameters
        ----------
        url
            Root of a Zarr store, a group, or an array (which becomes the only variable of a group).
        registry
            An ``ObjectStoreRegistry`` with a store for the URL: obstore's ``S3Store``,
            ``LocalStore``, ``MemoryStore``, ``GCSStore``, ``AzureStore`` or ``HTTPStore``.

        Returns
        -------
        virtualizarr.manifests.ManifestStore
            References to all chunks (of the region). Missing chunks stay missing.

        Raises
        ------
        refreeze.exceptions.RegionError
            The region does not align with an array's chunks, is empty, or names a dimension that no
            array has.
        refreeze.exceptions.SourceNotFoundError
            There is no store or no such group.
        refreeze.exceptions.UnsupportedArrayError
            An array cannot be referenced: its grid or chunk keys are of an unknown kind, a chunk
            is empty, or its keys hold characters that VirtualiZarr and Icechunk read differently.
        refreeze.exceptions.ListingError, refreeze.exceptions.AccessError
            The store cannot be listed, or a listing cannot be trusted.
        ImportError
            VirtualiZarr is not installed, or too old.
        """
        from refreeze.virtualizarr.manifest_store import manifest_store

        return manifest_store(self, url, registry)

    def __repr__(self) -> str:
        given = {"group": self.group, "skip_variables": self.skip_variables, "region": self.region}
        given |= {name: value for name, value in asdict(self.probing).items() if value}
        shown = (f"{name}={_shown(value)}" for name, value in given.items() if value is not None)
        return f"ZarrParser({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ZarrParser):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        region = None if self.region is None else frozenset(bounds_of(self.region).items())
        return self.group, self.skip_variables, region, self.probing


def _shown(value: Any) -> str:
    if not isinstance(value, Mapping):
        return repr(list(value) if isinstance(value, tuple) else value)
    parts = (f"{name!r}: {_shown_slice(part)}" for name, part in value.items())
    return f"{{{', '.join(parts)}}}"


def _shown_slice(part: slice) -> str:
    """As one would write it: without a step of None."""
    return repr(part) if part.step is not None else f"slice({part.start!r}, {part.stop!r})"
