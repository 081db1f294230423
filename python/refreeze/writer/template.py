"""`create_template`: the arrays of a whole archive, without their data, as one commit.

What the labels are is decided in `template_labels`, chunks in `chunking`, codecs in `compression`,
packing in `packing`, and all of it put together in `template_arrays`; xarray writes metadata and coordinates.
"""

from __future__ import annotations

import json
import time
import warnings
from typing import TYPE_CHECKING, Any

import zarr

from refreeze.exceptions import AlreadyExistsError, MismatchError
from refreeze.writer.chunking import ACCESS_PATTERNS, lengths_by_name
from refreeze.writer.compression import codecs_of
from refreeze.writer.input_files import chosen, names_of, opened, shown_input
from refreeze.writer.packing import BITS, manual_ranges
from refreeze.writer.progress import FileProgress, Progress
from refreeze.writer.report import WriteReport
from refreeze.writer.repository import committed, opened_for
from refreeze.writer.template_arrays import Wishes, archive_of, layout_of_archive
from refreeze.writer.template_labels import grid_labels, grids_by_name, time_labels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import icechunk
    import xarray as xr

__all__ = ["create_template"]

_TARGET_CHUNK_SIZE_MB = 50
_PACKING_BITS = 16


def create_template(
    template: Any,
    target: Any,
    *,
    global_start: Any = None,
    global_end: Any = None,
    freq: str | None = None,
    time_dim: str | None = None,
    dim: Mapping[str, Any] | Sequence[str] | str | None = None,
    chunking: Mapping[str, int] | str | None = None,
    intelligent_chunking: bool = False,
    access_pattern: str = "balanced",
    target_chunk_size_mb: float = _TARGET_CHUNK_SIZE_MB,
    compression: Any = None,
    packing: bool = False,
    packing_bits: int = _PACKING_BITS,
    packing_manual_ranges: Mapping[str, Any] | str | None = None,
    shards: Mapping[str, int] | str | None = None,
    variables: Sequence[str] | str | None = None,
    drop_variables: Sequence[str] | str | None = None,
    attributes: Mapping[str, Any] | None = None,
    references: bool = False,
    compute: bool = False,
    group: str | None = None,
    branch: str = "main",
    message: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
    source_options: Mapping[str, Any] | None = None,
    target_options: Mapping[str, Any] | None = None,
) -> WriteReport:
    """Create the arrays of an archive from one of its files: metadata and coordinates only.

    Parameters
    ----------
    template
        A file (NetCDF, HDF5, GRIB, Zarr) or an xarray ``Dataset`` that shows variables and
        attributes.
    target
        As for `ZarrSaver`.
    global_start, global_end
        First and last label along ``time_dim``, both included. A date alone is the whole of it:
        ``2023-12-31`` ends with the last step of that day, ``2023`` with that of the year.
    freq
        Step of time, such as ``1h``, ``D``, ``MS``; by default that of the template.
    time_dim
        By default ``time``, or the one dimension whose labels are times.
    dim
        Grids of other dimensions: ``{"lat": "-90:90:0.25"}``, slices, lists of labels, or texts
        ``lat=-90:90:0.25``. The stop is included when it lies on the grid.
    chunking
        ``{"time": 100, "lat": 50}`` or ``time:100,lat:50``; -1 and dimensions that are not named
        are taken whole. By default the file's chunks, else one file fills chunks of its own.
    intelligent_chunking
        Compute what ``chunking`` leaves open from the whole shape, for an ``access_pattern``
        (``temporal``, ``spatial``, ``balanced``) and chunks of at most ``target_chunk_size_mb``.
    compression
        ``blosc:zstd:3``, ``zstd:5``, ``none``, or any codec of zarr as ``NAME:KEY=VALUE,...``.
    packing
        Store floating-point variables as integers of ``packing_bits`` (8, 16 or 32). The range
        comes from ``packing_manual_ranges`` (``{"v": {"min": 250, "max": 330}}``), else from
        ``valid_min`` and ``valid_max``.
    shards
        Lengths of shards, as ``chunking``; multiples of the chunks.
    variables, drop_variables
        Which of the template's variables to take or to leave.
    attributes
        Of the group, in addition to the template's.
    references
        Take chunks and codecs from the file, for ``write_region(references=True)``.
    compute
        Only False: data is written by `write_region`.
    group, branch, message, source_options, target_options
        As for `refreeze.ingest`.
    dry_run
        Write nothing; the report says what there would be.
    progress
        As for `write_region`; the stages are ``read``, ``write``, ``commit`` and ``done``.

    Raises
    ------
    AlreadyExistsError
        There are arrays already.
    MismatchError
        The template does not go with what is asked: no range to pack into, no step.
    ValueError
        An option is malformed.
    """
    begun = time.monotonic()
    _check_options(
        compute=compute,
        access_pattern=access_pattern,
        packing_bits=packing_bits,
        target_chunk_size_mb=target_chunk_size_mb,
    )
    grids = grids_by_name(dim)
    ranges = manual_ranges(packing_manual_ranges)
    lengths = lengths_by_name(chunking, "chunking")
    shard_lengths = lengths_by_name(shards, "shards")
    codecs = codecs_of(compression)
    wanted, dropped = names_of(variables, "variables"), names_of(drop_variables, "drop_variables")
    if references and (packing or shard_lengths or codecs or lengths or intelligent_chunking):
        raise ValueError(
            "references keep chunks and codecs of the files: leave out chunking, compression, "
            "packing and shards"
        )
    unused = _without_effect(
        intelligent_chunking,
        {"access_pattern": access_pattern != "balanced"}
        | {"target_chunk_size_mb": target_chunk_size_mb != _TARGET_CHUNK_SIZE_MB},
        "intelligent_chunking",
    ) + _without_effect(
        packing,
        {"packing_bits": packing_bits != _PACKING_BITS, "packing_manual_ranges": bool(ranges)},
        "packing",
    )
    where = shown_input(template)
    tell = FileProgress(progress, 1)
    tell.stage("read", where)
    with opened(template, source_options) as whole:
        data = chosen(whole, wanted, dropped, where)
        time_dim = _time_dimension(data, time_dim)
        wishes = Wishes(
            chunking=lengths,
            shards=shard_lengths,
            pattern=access_pattern if intelligent_chunking else None,
            target_bytes=int(target_chunk_size_mb * 1_000_000),
            codecs=codecs,
            packing_bits=packing_bits if packing else None,
            ranges=ranges,
            time_dim=time_dim or "time",
            warnings=unused,
        )
        labels = _labels(
            data,
            where,
            time_dim=time_dim,
            start=global_start,
            end=global_end,
            freq=freq,
            grids=grids,
        )
        _check_names(data, wishes, where)
        from_file: Mapping[str, Mapping[str, Any]] = {}
        if references:
            from refreeze.writer.reference_files import encodings_of

            from_file = encodings_of(template, data, source_options)
        archive = archive_of(data, labels, wishes, from_file)
        archive.attrs.update(_attributes(attributes))
    layout = layout_of_archive(archive)
    path = (group or "").strip("/")
    arrays = tuple(f"/{path}/{each['name']}".replace("//", "/") for each in layout)
    snapshot = None
    found, url = opened_for(
        target, branch=branch, options=target_options, create=True, dry_run=dry_run
    )
    if dry_run:
        if found is not None:
            _refuse_existing(found.readonly(), path, url)
    elif found is not None:

        def work(session: icechunk.Session) -> str:
            _refuse_existing(session, path, url)
            tell.begin()
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*(Zarr format 3|specification).*")
                archive.to_zarr(
                    session.store,
                    group=path or None,
                    mode="a",
                    compute=False,
                    consolidated=False,
                    zarr_format=3,
                )
            tell.finished(where, f"{len(layout)} arrays", 0)
            tell.stage("commit")
            return message or f"refreeze: template of {len(archive.data_vars)} variables"

        snapshot = committed(found, work)
        tell.stage("done")
    return WriteReport(
        target=url,
        branch=branch,
        mode="template",
        snapshot_id=snapshot,
        commits=0 if snapshot is None else 1,
        arrays=arrays,
        elapsed_s=time.monotonic() - begun,
        dry_run=dry_run,
        layout=tuple(layout),
        warnings=tuple(wishes.warnings),
    )


def _check_options(
    *, compute: bool, access_pattern: str, packing_bits: int, target_chunk_size_mb: float
) -> None:
    if compute:
        raise ValueError("compute=True: a template holds no data; write it with write_region")
    if access_pattern not in ACCESS_PATTERNS:
        raise ValueError(f"access_pattern is one of {', '.join(ACCESS_PATTERNS)}")
    if packing_bits not in BITS:
        raise ValueError(f"packing_bits is one of {', '.join(map(str, BITS))}, not {packing_bits}")
    if not target_chunk_size_mb > 0:
        raise ValueError("target_chunk_size_mb is a number above 0")


def _without_effect(main: bool, given: Mapping[str, bool], needed: str) -> list[str]:
    """Return a warning of options that are given and mean nothing without another."""
    names = [name for name, told in given.items() if told]
    if main or not names:
        return []
    verb = "has" if len(names) == 1 else "have"
    return [f"{' and '.join(names)} {verb} no effect without {needed}"]


def _attributes(given: Mapping[str, Any] | None) -> dict[str, Any]:
    attributes = dict(given or {})
    try:
        json.dumps(attributes)
    except TypeError as error:
        raise ValueError(f"attributes have to be what JSON holds: {error}") from None
    return attributes


def _time_dimension(data: xr.Dataset, given: str | None) -> str | None:
    if given is not None:
        if given not in data.dims:
            raise MismatchError(
                f"the template has no dimension {given!r}",
                f"it has {', '.join(map(str, data.dims))}",
            )
        return given
    if "time" in data.dims:
        return "time"
    times = [str(name) for name in data.dims if name in data.coords and _is_time(data[name])]
    return times[0] if len(times) == 1 else None


def _is_time(variable: xr.DataArray) -> bool:
    if variable.dtype.kind == "O" and variable.size:
        return hasattr(variable.values.ravel()[0], "calendar")
    return variable.dtype.kind == "M"


def _labels(
    data: xr.Dataset,
    where: str,
    *,
    time_dim: str | None,
    start: Any,
    end: Any,
    freq: str | None,
    grids: Mapping[str, Any],
) -> dict[str, Any]:
    """Return new labels by dimension."""
    labels: dict[str, Any] = {}
    for name, grid in grids.items():
        if name not in data.dims:
            raise MismatchError(
                f"{where} has no dimension {name!r}", f"it has {', '.join(map(str, data.dims))}"
            )
        stored = data[name] if name in data.coords else None
        if stored is not None and _is_time(stored):
            raise ValueError(f"labels along {name} are times: give global_start and global_end")
        labels[name] = grid_labels(name, grid, stored)
    if start is None and end is None and freq is None:
        return labels
    if time_dim is None:
        raise MismatchError(
            f"{where} has no dimension of times",
            f"it has {', '.join(map(str, data.dims))}; give time_dim (--time-dim)",
        )
    if time_dim in labels:
        raise ValueError(f"{time_dim} is given twice, by dim and by global_start or global_end")
    if time_dim not in data.coords:
        raise MismatchError(
            f"{where} has no labels along {time_dim}", "give a template with a time coordinate"
        )
    stored = data[time_dim].load()
    if stored.size and not _is_time(stored):
        raise MismatchError(
            f"the labels along {time_dim} in {where} are {stored.dtype}, not times",
            f"give dim {time_dim}=START:STOP:STEP",
        )
    calendar = str(stored.encoding.get("calendar") or _calendar_of(stored))
    labels[time_dim] = time_labels(stored, start, end, freq, calendar=calendar)
    return labels


def _calendar_of(stored: xr.DataArray) -> str:
    if stored.dtype.kind == "O" and stored.size:
        return str(stored.values.ravel()[0].calendar)
    return "proleptic_gregorian" if stored.dtype.kind == "M" else "standard"


def _check_names(data: xr.Dataset, wishes: Wishes, where: str) -> None:
    """Refuse dimensions and variables that the template does not have."""
    for what, names, known in (
        ("chunking", wishes.chunking, data.dims),
        ("shards", wishes.shards, data.dims),
        ("packing_manual_ranges", wishes.ranges, data.data_vars),
    ):
        for name in names:
            if name not in known:
                raise ValueError(
                    f"{what}: {where} has no {name!r} (it has {', '.join(map(str, known))})"
                )


def _refuse_existing(session: icechunk.Session, path: str, url: str) -> None:
    try:
        node = zarr.open(session.store, path=path, mode="r")
    except FileNotFoundError:
        return
    names = ["the array itself"] if isinstance(node, zarr.Array) else list(node.array_keys())
    if names:
        raise AlreadyExistsError(
            f"{url} has arrays in /{path} already: {', '.join(sorted(names)[:5])}",
            "choose another target or group; nothing was changed",
        )
