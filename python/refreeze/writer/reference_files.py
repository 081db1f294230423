"""Chunks of NetCDF and HDF5 files as virtual references: found by VirtualiZarr, checked here.

Nothing is copied. A chunk that the file has no bytes of is copied only where reading it would give
another value than the file does.
"""

from __future__ import annotations

import math
import os
import random
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import icechunk
import numpy as np
import xarray as xr

from refreeze.exceptions import AccessError, ConflictError, MismatchError, SourceNotFoundError
from refreeze.shown import cleaned, one_line
from refreeze.writer.input_files import shown_input
from refreeze.writer.region_blocks import copy_blocks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from refreeze.writer.region_lanes import Copy, Transfer
    from refreeze.writer.repository import Target

__all__ = ["VirtualFile", "encodings_of", "location_of", "refer", "virtual_file", "with_containers"]

_NATIVE = "leave references out: the values are copied then"
_MEANING = ("scale_factor", "add_offset", "_FillValue", "missing_value")


@dataclass(frozen=True)
class VirtualFile:
    """A file's arrays, as VirtualiZarr finds them."""

    location: str
    """URL of the file."""
    arrays: dict[str, Any]
    modified: datetime


def virtual_file(source: Any, options: Mapping[str, Any] | None) -> VirtualFile:
    """Find the chunks of a file.

    Raises
    ------
    MismatchError
        It is no file that VirtualiZarr can take apart.
    SourceNotFoundError
        It is not there.
    """
    where = shown_input(source)
    if isinstance(source, xr.Dataset | xr.DataArray):
        raise MismatchError(f"{where} is no file: references need one", _NATIVE)
    try:
        from obspec_utils.registry import ObjectStoreRegistry
        from virtualizarr import open_virtual_dataset
        from virtualizarr.parsers import HDFParser
    except ImportError as error:
        raise MismatchError(
            f"{error.name} is not installed", "pip install 'refreeze[writers]'"
        ) from None
    location, registry, modified = _place_of_file(os.fspath(source), options, ObjectStoreRegistry)
    try:
        found = open_virtual_dataset(
            location,
            registry=registry,
            parser=HDFParser(),
            loadable_variables=[],
            decode_times=False,
        )
    except Exception as error:  # noqa: BLE001 whatever VirtualiZarr and h5py raise
        cleaned(error)
        raise MismatchError(
            f"{where} cannot be referred to: {type(error).__name__}: {one_line(error)}", _NATIVE
        ) from None
    arrays = {str(name): variable.data for name, variable in found.variables.items()}
    return VirtualFile(location, arrays, modified)


def _place_of_file(
    text: str, options: Mapping[str, Any] | None, registry_of: Any
) -> tuple[str, Any, datetime]:
    import obstore
    from obstore.store import LocalStore

    if "://" not in text or text.startswith("file://"):
        path = Path(text.removeprefix("file://")).expanduser().absolute()
        if not path.is_file():
            raise SourceNotFoundError(f"there is no file {path}", "check the path")
        # Icechunk compares whole seconds; the file's own time, rounded up.
        modified = datetime.fromtimestamp(math.ceil(path.stat().st_mtime), tz=UTC)
        return f"file://{path}", registry_of({"file://": LocalStore()}), modified
    from refreeze.stores.resolve import resolve_source

    found = resolve_source(text, options)
    scheme, _, rest = found.url.partition("://")
    bucket = rest.partition("/")[0]
    try:
        modified = obstore.head(found.store, found.path)["last_modified"]
    except FileNotFoundError:
        raise SourceNotFoundError(f"there is no object {found.url}", "check the URL") from None
    except Exception as error:  # noqa: BLE001 whatever obstore raises
        cleaned(error)
        raise AccessError(f"cannot read {found.url}: {one_line(error)}") from None
    root = f"{scheme}://{bucket}"
    # The answer's header has cut off a fraction of a second, which some servers compare.
    modified += timedelta(seconds=1)
    return f"{root}/{found.path}", registry_of({root: found.store}), modified


def encodings_of(
    source: Any, data: xr.Dataset, options: Mapping[str, Any] | None
) -> dict[str, dict[str, Any]]:
    """Return chunks and codecs of a file's variables, as encodings of a template for references."""
    from zarr.abc.codec import ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec

    found = virtual_file(source, options)
    encodings = {}
    for name in map(str, data.variables):
        if name not in found.arrays:
            continue
        metadata = found.arrays[name].metadata
        codecs = metadata.codecs
        encodings[name] = {
            "chunks": tuple(metadata.chunk_grid.chunk_shape),
            "filters": tuple(c for c in codecs if isinstance(c, ArrayArrayCodec)),
            "serializer": next(c for c in codecs if isinstance(c, ArrayBytesCodec)),
            "compressors": tuple(c for c in codecs if isinstance(c, BytesBytesCodec)),
        }
    return encodings


def refer(transfer: Transfer, found: VirtualFile, copy: Copy) -> int:
    """Write references to a variable's chunks, and return the bytes that they refer to.

    Raises
    ------
    MismatchError
        Its chunks, codecs or encoding are not those of the template, or do not lie on its chunks.
    """
    name, array, where = transfer.name, transfer.array, transfer.where
    virtual = found.arrays[name]
    _check_stored(transfer, virtual.metadata)
    unit = array.chunks
    offset = []
    for each, size, chunk in zip(map(str, transfer.there.dims), array.shape, unit, strict=True):
        part = transfer.place.region[each]
        if each in transfer.place.flipped:
            raise MismatchError(f"{where} runs the other way along {each}", _NATIVE)
        if part.start % chunk or (part.stop % chunk and part.stop != size):
            raise MismatchError(
                f"{name} of {where} belongs to {each}={part.start}:{part.stop}, which does not begin "
                f"and end on the template's chunks of {chunk}",
                _NATIVE,
            )
        offset.append(part.start // chunk)
    manifest = virtual.manifest
    grid = manifest.shape_chunk_grid
    paths = [str(path) for path in manifest._paths.ravel()]  # noqa: SLF001 its arrays have no other name
    lengths = np.ascontiguousarray(manifest._lengths.ravel(), dtype=np.uint64)  # noqa: SLF001 as above
    inlined = set(getattr(manifest, "_inlined", None) or ())
    referred = [path if "://" in path else "" for path in paths]
    failed = transfer.store.set_virtual_refs_arr(
        f"/{array.path}",
        tuple(grid) or (1,) * len(unit),
        referred,
        np.ascontiguousarray(manifest._offsets.ravel(), dtype=np.uint64),  # noqa: SLF001 as above
        lengths,
        arr_offset=tuple(offset),
        checksum=found.modified,
    )
    if failed:
        raise MismatchError(f"{where} lies outside of the repository's virtual chunk containers")
    same_fill = _equal(virtual.metadata.fill_value, array.fill_value)
    for place_in_grid, path in zip(np.ndindex(*grid), referred, strict=True):
        if path or (same_fill and place_in_grid not in inlined and not inlined):
            continue
        block = tuple(
            slice((first + k) * chunk, min((first + k + 1) * chunk, size))
            for first, k, chunk, size in zip(offset, place_in_grid, unit, array.shape, strict=True)
        )
        copy_blocks(transfer, [block], copy)
    return int(lengths.sum())


def _check_stored(transfer: Transfer, metadata: Any) -> None:
    own, there, array = transfer.own, transfer.there, transfer.array
    stored: Any = array.metadata
    for what, mine, its in (
        ("order of dimensions", list(own.dims), list(there.dims)),
        ("type", _kind(metadata), _kind(stored)),
        ("chunks", tuple(metadata.chunk_grid.chunk_shape), tuple(array.chunks)),
        ("shards", None, array.shards),
        ("codecs", _without_levels(metadata.codecs), _without_levels(stored.codecs)),
        *((key, own.encoding.get(key), there.encoding.get(key)) for key in _MEANING),
        ("units of time", transfer.times, transfer.times_there),
    ):
        if what == "_FillValue" and mine is None and _means_missing(its):
            continue
        if not _equal(mine, its):
            raise MismatchError(
                f"{transfer.name} in {transfer.where} has {what} {mine}, in the template {its}: references would be "
                "read wrongly",
                _NATIVE,
            )


def _kind(metadata: Any) -> str:
    """Return a type without its byte order, which the codecs say."""
    return str(metadata.data_type.to_native_dtype().newbyteorder("="))


def _means_missing(mark: Any) -> bool:
    """Whether a mark stands for what is missing without being named: NaN, and NaT's number."""
    return bool(mark != mark or mark == np.iinfo(np.int64).min)  # noqa: PLR0124 NaN


def _equal(one: Any, other: Any) -> bool:
    if one is None or other is None or isinstance(one, str | list | tuple | dict):
        return bool(one == other)
    return bool(np.array_equal(one, other, equal_nan=np.asarray(one).dtype.kind == "f"))


def _without_levels(codecs: Any) -> list[Any]:
    """Return codecs as documents; how hard was tried to compress makes no difference to readers."""
    documents = []
    for codec in codecs:
        document = codec.to_dict()
        settings = dict(document.get("configuration") or {})
        for key in ("level", "clevel", "preset", "acceleration"):
            settings.pop(key, None)
        documents.append([document["name"], settings])
    return documents


def with_containers(target: Target, locations: list[str], options: Mapping[str, Any]) -> Target:
    """Return the target with containers for files, which its stored configuration has then.

    Raises
    ------
    MismatchError
        The files are in a place that Icechunk has no containers for.
    """
    if _new_prefixes(target.repository.config, locations):
        for attempt in range(20):
            # Under the lock from reading to saving: a configuration is replaced as a whole.
            with target.lock():
                config = icechunk.Repository.open(target.repository.storage).config
                for prefix in sorted(_new_prefixes(config, locations)):
                    config.set_virtual_chunk_container(
                        icechunk.VirtualChunkContainer(prefix, store=_store_of(prefix, options))
                    )
                repository = icechunk.Repository.open(target.repository.storage, config=config)
                try:
                    repository.save_config()
                except icechunk.IcechunkError as error:
                    # Somebody else has saved theirs on the object store: ours is added to that.
                    cleaned(error)
                    if attempt == 19:  # noqa: PLR2004 the last one
                        raise ConflictError(
                            f"the configuration of {target.url} is changed by others all the time",
                            "run the same again",
                        ) from None
                    time.sleep(random.uniform(0.05, 0.5))  # noqa: S311
                    continue
            return replace(target, repository=repository)
    return target


def _new_prefixes(config: icechunk.RepositoryConfig, locations: list[str]) -> set[str]:
    known = [each.url_prefix for each in (config.virtual_chunk_containers or {}).values()]
    return {_folder(each) for each in locations if not any(each.startswith(p) for p in known)}


def _folder(location: str) -> str:
    return location.rpartition("/")[0] + "/"


def _store_of(prefix: str, options: Mapping[str, Any]) -> Any:
    scheme, _, rest = prefix.partition("://")
    if scheme == "file":
        return icechunk.local_filesystem_store(rest)
    if scheme == "s3":
        given = {str(key).lower().removeprefix("aws_"): value for key, value in options.items()}

        def setting(name: str) -> str | None:
            value = given.get(name) or os.environ.get(f"AWS_{name.upper()}")
            return None if value is None else str(value)

        endpoint = setting("endpoint") or setting("endpoint_url")
        return icechunk.s3_store(
            region=setting("region") or setting("default_region") or "us-east-1",
            endpoint_url=endpoint,
            allow_http=str(endpoint or "").startswith("http://"),
            anonymous=str(setting("skip_signature") or "").lower() in {"1", "true"},
            s3_compatible=endpoint is not None,
            force_path_style=endpoint is not None,
        )
    raise MismatchError(f"there are no containers for {scheme}://", _NATIVE)


def location_of(source: Any) -> str:
    """Return the URL of a file that is to be referred to.

    Raises
    ------
    MismatchError
        It is no file.
    """
    if isinstance(source, xr.Dataset | xr.DataArray):
        raise MismatchError(f"{shown_input(source)} is no file: references need one", _NATIVE)
    text = os.fspath(source)
    if "://" in text and not text.startswith("file://"):
        from refreeze.stores.resolve import shown_url

        return shown_url(text)
    return f"file://{Path(text.removeprefix('file://')).expanduser().absolute()}"
