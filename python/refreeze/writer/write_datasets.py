"""Writes xarray's data sets, arrays and trees into a session, through Icechunk's own writer.

Decides what may be written: which arrays may exist, which labels may repeat, and how chunks of
dask are cut so that no two tasks write one stored chunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
import zarr

from refreeze.exceptions import AlreadyExistsError, MismatchError, TargetNotFoundError
from refreeze.writer.scratch import hollow

if TYPE_CHECKING:
    import icechunk

    from refreeze.writer.progress import ArrayProgress

__all__ = ["DatasetWriter"]

_MEMORY = 192 << 20
"""For the values of a region that are held at a time."""
_CODECS = ("compressor", "compressors", "filters", "serializer")


class DatasetWriter:
    """Writes one data set or tree; called with a session, again after every conflict."""

    def __init__(
        self,
        data: Any,
        *,
        mode: str,
        name: str | None,
        append_dim: Any,
        region: Any,
        encoding: Mapping[str, Any] | None,
        if_present: str,
        dry_run: bool = False,
    ) -> None:
        self.mode = mode
        self.append_dim = append_dim
        self.region = region
        self.encoding = dict(encoding or {})
        self.if_present = if_present
        self.dry_run = dry_run
        group = (name or "").strip("/")
        if isinstance(data, xr.DataTree):
            self.parts = {
                f"{group}/{node.path.strip('/')}".strip("/"): node.to_dataset(inherit=False)
                for node in data.subtree
            }
        elif isinstance(data, xr.DataArray):
            group, _, last = group.rpartition("/")
            variable = last or str("data" if data.name is None else data.name)
            self.parts = {group: data.to_dataset(name=variable)}
            if self.encoding and not isinstance(self.encoding.get(variable), Mapping):
                self.encoding = {variable: self.encoding}
        elif isinstance(data, xr.Dataset):
            self.parts = {group: data}
        else:
            raise TypeError(f"cannot write xarray's {type(data).__name__}; make it a Dataset")

    @property
    def count(self) -> int:
        """Return how many arrays are written, as far as the data shows."""
        return sum(len(part.variables) for part in self.parts.values())

    def __call__(self, session: icechunk.Session, tell: ArrayProgress) -> list[str]:
        """Write into a session and return the paths of the arrays."""
        written = []
        if self.mode == "overwrite" and len(self.parts) > 1:
            root = min(self.parts, key=len)
            zarr.create_group(session.store, path=root, overwrite=True)
        for group, data in self.parts.items():
            for name in self._part(session, group, data):
                written.append(f"/{group}/{name}".replace("//", "/"))
                tell.finished(written[-1], data[name].nbytes)
        return written

    def _part(self, session: icechunk.Session, group: str, data: xr.Dataset) -> list[str]:
        stored = _arrays(session, group)
        encoding = {k: v for k, v in self.encoding.items() if k in data.variables}
        options: dict[str, Any] = {"group": group or None}
        if self.mode == "create":
            there = sorted(set(map(str, data.variables)) & set(stored))
            if there:
                raise AlreadyExistsError(
                    f"{', '.join(there)} in /{group}: in the target already",
                    'use mode="overwrite" or "append"',
                )
            self._store(_cut(data, encoding), session, mode="a", encoding=encoding, **options)
            return list(map(str, data.variables))
        if self.mode == "overwrite":
            self._store(_cut(data, encoding), session, mode="w", encoding=encoding, **options)
            return list(map(str, data.variables))
        if not stored:
            raise TargetNotFoundError(
                f"there is nothing in /{group} to {self.mode}", 'mode="create" makes it'
            )
        if self.mode == "append":
            return self._append(session, group, data, stored)
        return self._update(session, group, data)

    def _store(self, data: xr.Dataset, session: icechunk.Session, **options: Any) -> None:
        """Write through Icechunk, or only documents and labels where nothing else is wanted."""
        if self.dry_run:
            empty = hollow(data, chunked=options["mode"] != "r+" and "append_dim" not in options)
            options = options | {"align_chunks": False, "safe_chunks": False}
            empty.to_zarr(session.store, compute=False, consolidated=False, **options)
        else:
            from icechunk.xarray import to_icechunk

            to_icechunk(data, session, **options)

    def _update(self, session: icechunk.Session, group: str, data: xr.Dataset) -> list[str]:
        """Write a region as `write_region` does: found by labels, or checked against them."""
        from refreeze.writer.region_job import Job, write_file
        from refreeze.writer.region_places import given_region

        region = self.region
        if isinstance(region, Mapping):
            data = data.drop_vars(
                [
                    name
                    for name, var in data.variables.items()
                    if name not in data.dims and not set(var.dims) & set(region)
                ]
            )
            # Given by labels, as xarray spells it: like one that is not given.
            region = {name: part for name, part in region.items() if part != "auto"} or None
        job = Job(
            group=group,
            region=given_region(region),
            references=False,
            attempts=1,
            check=None,
            cast=False,
            action="error",
            variables=None,
            drop_variables=None,
            memory=_MEMORY,
            source_options={},
        )
        done = write_file(session, data, job, dry_run=self.dry_run)
        return [path.rpartition("/")[2] for path in (*done.arrays, *done.shared)]

    def _append(
        self, session: icechunk.Session, group: str, data: xr.Dataset, stored: dict[str, Any]
    ) -> list[str]:
        dim = self.append_dim
        if dim not in data.dims:
            raise MismatchError(
                f"the data has no dimension {dim!r} to append along",
                f"it has {', '.join(map(str, data.dims))}",
            )
        missing = sorted(
            name
            for name, array in stored.items()
            if dim in (array.metadata.dimension_names or ()) and name not in data.variables
        )
        if missing:
            raise MismatchError(
                f"the data lacks {', '.join(missing)}, which would stay behind along {dim!r}",
                "append all arrays that have the dimension",
            )
        existing = xr.open_zarr(session.store, group=group or None, consolidated=False, chunks=None)
        written: list[str] = []
        if dim in data.indexes and dim in existing.indexes:
            repeated = data.indexes[dim].isin(existing.indexes[dim])
            if repeated.any() and self.if_present == "error":
                first = data.indexes[dim][repeated][0]
                raise MismatchError(
                    f"{int(repeated.sum())} of {len(repeated)} labels along {dim!r} are in the "
                    f"target already, the first is {first}",
                    "if_present skip or overwrite says what to do with them",
                )
            if repeated.any():
                if self.if_present == "overwrite":
                    written = self._replace(session, group, data.isel({dim: repeated}), existing)
                data = data.isel({dim: ~repeated})
                if not data.sizes[dim]:
                    return written
        data = data.drop_vars([n for n, var in data.variables.items() if dim not in var.dims])
        data = _bare(data)
        for name in data.variables:
            if name not in existing.variables:
                raise MismatchError(f"there is no {name!r} in the target to append to")
            _check_exact(data[name], existing[name])
        self._store(data, session, append_dim=dim, group=group or None, mode="a", align_chunks=True)
        return sorted({*written, *map(str, data.variables)})

    def _replace(
        self, session: icechunk.Session, group: str, data: xr.Dataset, existing: xr.Dataset
    ) -> list[str]:
        """Write labels that are there, one run of neighbours after another."""
        dim = self.append_dim
        places = existing.indexes[dim].get_indexer(data.indexes[dim])
        data = data.drop_vars([n for n, var in data.variables.items() if dim not in var.dims])
        data = _bare(data.drop_vars(dim))
        if not self.dry_run:
            data = data.load()
        for name in data.variables:
            _check_exact(data[name], existing[name])
        for run in np.split(np.arange(len(places)), np.flatnonzero(np.diff(places) != 1) + 1):
            start = int(places[run[0]])
            region = {dim: slice(start, start + len(run))}
            self._store(
                data.isel({dim: run}), session, mode="r+", region=region, group=group or None
            )
        return list(map(str, data.variables))


def _arrays(session: icechunk.Session, group: str) -> dict[str, Any]:
    try:
        return dict(zarr.open_group(session.store, path=group, mode="r").arrays())
    except FileNotFoundError:
        return {}


def _bare(data: xr.Dataset) -> xr.Dataset:
    """Return the data without encodings: the target's count."""
    return data.drop_encoding()


def _check_exact(new: xr.DataArray, stored: xr.DataArray) -> None:
    """Refuse values that the target's units, packing or type would change."""
    if new.dtype.kind not in "mMiufb" and new.dtype.kind != stored.dtype.kind:
        raise MismatchError(f"{new.name!r} is {new.dtype}, the target holds {stored.dtype}")
    if new.dtype.kind not in "mM" and stored.dtype.kind not in "mM":
        return
    if new.dtype.kind != stored.dtype.kind:
        raise MismatchError(f"{new.name!r} is {new.dtype}, the target holds {stored.dtype}")
    variable = new.variable.load()
    keep = {"units", "calendar", "dtype", "_FillValue"}
    variable.encoding = {k: v for k, v in stored.encoding.items() if k in keep}
    try:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            encoded = xr.conventions.encode_cf_variable(variable, name=new.name)
            back = xr.conventions.decode_cf_variable(str(new.name), encoded)
        # Where units are too coarse xarray takes others, with a warning.
        kept = _step(encoded.attrs.get("units")) == _step(stored.encoding.get("units"))
        same = kept and np.array_equal(back.values, variable.values)
    except (ValueError, OverflowError):
        same = False
    if not same:
        raise MismatchError(
            f"{new.name!r} cannot be written exactly as {variable.encoding.get('units')!r} of type "
            f"{variable.encoding.get('dtype')}",
            "the target's units are too coarse for these values",
        )


def _step(units: Any) -> str:
    """Return the unit of "days since 2000-01-01", whichever way the date is spelled."""
    return str(units).partition(" ")[0]


def _cut(data: xr.Dataset, encoding: dict[str, Any]) -> xr.Dataset:
    """Cut chunks of dask so that each stored chunk lies in one of them."""
    data = data.copy()
    for name in list(data.variables):
        variable = data.variables[name]
        own = variable.encoding = dict(variable.encoding)
        for key in _CODECS:
            codecs: Any = np.atleast_1d(np.asarray(own.get(key), dtype=object))
            if any(type(codec).__module__.startswith("numcodecs") for codec in codecs):
                own.pop(key)
        own.pop("preferred_chunks", None)
        given = encoding.get(str(name), {})
        if variable.chunks is None:
            continue
        wanted = (
            given.get("shards") or given.get("chunks") or own.get("shards") or own.get("chunks")
        )
        if wanted is None or len(wanted) != variable.ndim:
            wanted = tuple(max(each, default=1) for each in variable.chunks)
            encoding[str(name)] = {**given, "chunks": wanted}
        sizes = {
            dim: max(1, max(have, default=1) // want) * want
            for dim, have, want in zip(variable.dims, variable.chunks, wanted, strict=True)
        }
        data[name] = (variable.dims, variable.chunk(sizes).data, variable.attrs, own)
    return data
