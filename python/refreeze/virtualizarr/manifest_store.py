"""Builds VirtualiZarr's manifests: which arrays, which part of each, and their references.

The only module that knows VirtualiZarr. It is imported when a parser is called.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from refreeze import _refreeze
from refreeze.exceptions import UnsupportedArrayError
from refreeze.metadata.dimensions import arrays_of_metadata
from refreeze.metadata.region import bounds_of
from refreeze.metadata.selection import read_metadata
from refreeze.metadata.values import read_box
from refreeze.planning.options import DEFAULT_CONCURRENCY, selected
from refreeze.planning.probing import check_count, check_probed
from refreeze.runtime.interruption import Job, in_parallel, interruptible
from refreeze.stores.registry import resolve_url
from refreeze.verbs.list_chunks import open_stream
from refreeze.virtualizarr.inlined import chunk_length, encoded, inlined_document
from refreeze.virtualizarr.reference_arrays import ReferenceArrays, references

_OLDEST = (2, 8)

try:
    if tuple(map(int, re.findall(r"\d+", version("virtualizarr"))[:2])) < _OLDEST:
        raise ImportError(f"VirtualiZarr {version('virtualizarr')} is installed")  # noqa: TRY301
    from virtualizarr.manifests import ChunkManifest, ManifestArray, ManifestGroup, ManifestStore
    from virtualizarr.manifests.manifest import INLINED_CHUNK_PATH
except ImportError as error:
    raise ImportError(
        "refreeze.ZarrParser needs VirtualiZarr 2.8 or newer: pip install 'refreeze[virtualizarr]'"
    ) from error

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Mapping

    from refreeze.metadata.selection import SourceMetadata
    from refreeze.metadata.specs import ArraySpec, GroupSpec
    from refreeze.stores.registry import Located
    from refreeze.stores.resolve import Source
    from refreeze.virtualizarr.parser import ZarrParser

__all__ = ["manifest_store"]

_V2 = 2
_MISREAD = re.compile("[#?]|%[0-9A-Fa-f]{2}")
"""In a location; see `_check_location`."""


def manifest_store(parser: ZarrParser, url: Any, registry: Any) -> ManifestStore:
    """Do what a parser says; see `refreeze.ZarrParser`."""
    located = resolve_url(url, registry, parser.probing)
    selection = selected(parser.group, None, None, parser.skip_variables, None)
    metadata = interruptible(read_metadata, located.source, selection)
    for text in metadata.warnings:
        # Patterns are often shared by stores that differ.
        if not text.startswith("no array matches"):
            warnings.warn(text, stacklevel=3)
    parts = list(_parts(metadata, parser.region, located))
    check_probed(located.source, metadata.arrays)
    check_count(located.source, sum(part.chunks for part in parts))
    # All parts are known to be legal before anything is listed.
    opened = dataclasses.replace(
        located.source, store=_refreeze.open_source(located.source.store, located.source.path)
    )
    jobs = [Job(functools.partial(part.work, located.source, opened), part.slots) for part in parts]
    arrays = {}
    for part, (found, noted) in zip(
        parts, in_parallel(jobs, _refreeze.FIRST_CONCURRENCY), strict=True
    ):
        for text in noted:
            warnings.warn(text, stacklevel=3)
        arrays[part.spec.path] = _manifest_array(part, found)
    return ManifestStore(_groups(metadata, arrays), registry=registry)


@dataclass(frozen=True)
class _Part:
    """An array's part in the result, before its chunks are known."""

    spec: ArraySpec
    document: dict[str, Any]
    """Metadata of the result: the region's shape."""
    box: list[tuple[int, int]]
    """Chunk coordinates in the array's grid, half-open."""
    region: dict[str, slice]
    """What of the region concerns the array."""
    prefix: str
    """What the locations of its chunks begin with, up to the first coordinate."""
    elements: tuple[int, int] | None = None
    """Start and stop of a coordinate's slice that is carried inline; None: it is referenced."""

    @property
    def slots(self) -> int:
        """LIST requests that its listing can have in flight."""
        return max(1, min(_refreeze.FIRST_CONCURRENCY, -(-self.chunks // _refreeze.PAGE_SIZE)))

    @property
    def chunks(self) -> int:
        """Chunks that there is room for."""
        return math.prod(end - start for start, end in self.box)

    def work(
        self, source: Source, opened: Source, stop: threading.Event
    ) -> tuple[ReferenceArrays | dict[int, bytes] | None, list[str]]:
        """List the chunks, or read the slice; also return what a user should know.

        ``opened`` is the source with connections that all arrays share.
        """
        if self.elements is not None:
            return encoded(self.document, read_box(source, self.spec, [self.elements])), []
        stream = open_stream(
            opened,
            self.spec,
            region=self.region or None,
            paths=False,
            flat=True,
            # One that takes all of them is listed alone, and may find that it can take more.
            concurrency=DEFAULT_CONCURRENCY
            if self.slots == _refreeze.FIRST_CONCURRENCY
            else self.slots,
            # Manifests hold no times.
            undated=True,
        )
        found = references(
            stream,
            self.box,
            array=self.spec.path,
            prefix=self.prefix,
            separator=self.spec.separator,
            stop=stop,
        )
        note = stream.foreign_note(self.spec.path)
        return found, [*stream.stats.warnings, *([note] if note else [])]


def _parts(
    metadata: SourceMetadata, region: Mapping[str, slice] | None, located: Located
) -> Iterator[_Part]:
    """Say what of each array is wanted.

    Raises
    ------
    RegionError
        The region does not fit an array, or names a dimension that none has.
    UnsupportedArrayError
        The locations of an array's chunks would be misread.
    """
    arrays = arrays_of_metadata(metadata)
    _refreeze.check_known(arrays, list(region or ()))
    # Whatever can be referenced is.
    specs = [dataclasses.replace(spec, copied=False) for spec in metadata.arrays]
    taken = _refreeze.resolve_region(
        list(zip(specs, arrays, strict=True)), region=bounds_of(region or None)
    )
    for spec, array, (elements, chunks, step) in zip(specs, arrays, taken, strict=True):
        prefix = _prefix(spec, located)
        document = _document(spec, is_region=bool(region))
        document["shape"] = [stop - start for start, stop in elements]
        if step is not None:
            ((start, stop),) = elements
            chunk = chunk_length(step, spec.shape[0], stop - start)
            box = [(0, -(-(stop - start) // chunk))]
            yield _Part(spec, inlined_document(document, chunk), box, {}, prefix, (start, stop))
            continue
        _check_location(spec, prefix)
        wanted = {name: part for name, part in (region or {}).items() if name in array.names}
        yield _Part(spec, document, chunks, wanted, prefix)


def _prefix(spec: ArraySpec, located: Located) -> str:
    """Return what the locations of an array's chunks begin with; a scalar's is all of it."""
    if spec.shape:
        beginning = {"default": f"c{spec.separator}", "v2": ""}[spec.key_encoding]
    else:
        beginning = {"default": "c", "v2": "0"}[spec.key_encoding]
    joined = "/".join(part for part in (located.source.path, spec.source_path) if part)
    return f"{located.base}{joined}/{beginning}" if joined else f"{located.base}{beginning}"


def _document(spec: ArraySpec, *, is_region: bool) -> dict[str, Any]:
    """Return the metadata document of the whole array, in the form that a result has."""
    document: dict[str, Any] = json.loads(spec.document)
    separator = "/" if is_region else "."
    encoding = {"name": "default", "configuration": {"separator": separator}}
    document["chunk_key_encoding"] = encoding
    # VirtualiZarr's users rely on seeing the zeros of floats whose fill value is zarr's default,
    # although xarray masks them in the source. Appended regions show what the source shows.
    is_float = document["data_type"] in ("float16", "float32", "float64")
    if not is_region and spec.source_format == _V2 and is_float and document["fill_value"] == 0:
        document["attributes"].pop("_FillValue", None)
    return document


def _check_location(spec: ArraySpec, prefix: str) -> None:
    """Refuse locations that mean one thing to VirtualiZarr's reader and another to Icechunk.

    Both end a path at ``#`` or ``?``; the one takes ``%20`` as it is, the other for a space.
    """
    if found := _MISREAD.search(prefix):
        raise UnsupportedArrayError(
            f"the chunks of array {spec.path} cannot be referenced through VirtualiZarr: "
            f"{found[0]} in {prefix} would be misread",
            "leave the array out with skip_variables, or use refreeze.ingest, which encodes keys",
        )


def _manifest_array(part: _Part, found: ReferenceArrays | dict[int, bytes]) -> ManifestArray:
    from zarr.core.metadata import ArrayV3Metadata

    with warnings.catch_warnings():
        # zarr warns of data types that the specification does not list; the source has them.
        warnings.simplefilter("ignore")
        metadata = ArrayV3Metadata.from_dict(part.document)
    inlined: dict[tuple[int, ...], bytes] = {}
    if isinstance(found, dict):
        ((_, chunks),) = part.box
        paths = np.zeros(chunks, np.dtypes.StringDType())
        lengths = np.zeros(chunks, np.uint64)
        for index, chunk in found.items():
            paths[index], lengths[index] = INLINED_CHUNK_PATH, len(chunk)
            inlined[index,] = chunk
        found = ReferenceArrays(paths, np.zeros(chunks, np.uint64), lengths)
    manifest = ChunkManifest.from_arrays(
        paths=found.paths,
        offsets=found.offsets,
        lengths=found.lengths,
        # They were made here, as URLs; a check would be a call for each.
        validate_paths=False,
        inlined=inlined,
    )
    return ManifestArray(metadata=metadata, chunkmanifest=manifest)


def _depth(spec: GroupSpec) -> int:
    return spec.path.rstrip("/").count("/")


def _groups(metadata: SourceMetadata, arrays: Mapping[str, ManifestArray]) -> ManifestGroup:
    """Return the root group with everything below it."""
    members: dict[str, dict[str, Any]] = {spec.path: {} for spec in metadata.groups}
    for path, array in arrays.items():
        parent, _, name = path.rpartition("/")
        members[parent or "/"][name] = array
    # Children first: a group is made of what it holds.
    for spec in sorted(metadata.groups, key=_depth, reverse=True):
        held = members[spec.path]
        group = ManifestGroup(
            arrays={name: held[name] for name in held if isinstance(held[name], ManifestArray)},
            groups={name: held[name] for name in held if isinstance(held[name], ManifestGroup)},
            attributes=json.loads(spec.document)["attributes"],
        )
        parent, _, name = spec.path.rpartition("/")
        if not name:
            return group
        members[parent or "/"][name] = group
    raise UnsupportedArrayError("the store has no root group")
