"""`coverage`: which chunks the arrays of a Zarr store or of an Icechunk repository have.

A store is listed, a repository's manifests are read; either is streamed. Counting is done in
`refreeze.verbs.coverage_tally`, results are in `refreeze.verbs.coverage_report`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import RefreezeError, SourceNotFoundError, TargetNotFoundError
from refreeze.metadata.layout import layout_of
from refreeze.metadata.selection import Selection, matches, read_metadata
from refreeze.planning.option_checks import check_options
from refreeze.planning.options import (
    DEFAULT_CONCURRENCY,
    check_texts,
    names,
    requests_in_flight,
)
from refreeze.planning.probing import probing_of
from refreeze.shown import shown
from refreeze.verbs.plan_figures import addressed_names

if TYPE_CHECKING:
    from refreeze._refreeze import ChunkStream
    from refreeze.metadata.labels import Labels
    from refreeze.stores.resolve import Options, Source
    from refreeze.stores.web_store import Probing
    from refreeze.verbs.coverage_report import ArrayCoverage, Coverage

__all__ = ["GridOfArray", "Place", "RepositoryPlace", "StorePlace", "coverage", "repository_place"]

_LONGEST_COORDINATE = 20_000_000


def coverage(
    place: Any,
    arrays: str | Iterable[str] | None = None,
    *,
    group: str | None = None,
    branch: str = "main",
    dims: Sequence[str] | None = None,
    concurrency: int | str = DEFAULT_CONCURRENCY,
    probe: bool = False,
    yes: bool = False,
    max_requests_per_second: float | None = None,
    source_options: Options | None = None,
    target_options: Options | None = None,
) -> Coverage:
    """Show which chunks exist, and what is missing as ranges of labels.

    Memory grows with the length of the grid's dimensions, not with the number of chunks. A chunk
    counts as written even if it was written only in part, or with nothing but missing values.

    Parameters
    ----------
    place
        A Zarr store, group or array, or an Icechunk repository, as `refreeze.ingest` takes them.
    arrays
        Names or paths of arrays, globs allowed; None: all.
    group
        Only the arrays below this group.
    branch
        Branch of a repository.
    dims
        The two dimensions of the picture, the horizontal one first; the others are aggregated.
        By default the first two along which there is more than one chunk.
    concurrency
        LIST requests in flight: a number, or ``"auto"``, as for `refreeze.ingest`.
    probe, yes, max_requests_per_second
        For a store on a web server, which cannot be listed: as for `refreeze.ingest`.
    source_options, target_options
        Settings of the object store; the former for a Zarr store, the latter for a repository.
        If only one is given, it applies to either.

    Returns
    -------
    Coverage
        ``.to_dict()`` is what ``refreeze coverage --json`` prints. ``.to_xarray()`` and ``.plot()``
        show a picture, and so does a notebook.

    Raises
    ------
    refreeze.exceptions.SourceNotFoundError, refreeze.exceptions.TargetNotFoundError
        Nothing is there, or there is no such array or branch.
    refreeze.exceptions.ListingError, refreeze.exceptions.TargetError
        It cannot be read.
    ValueError
        A dimension that no array has.

    Examples
    --------
    >>> report = refreeze.coverage("air.zarr", ["t2m"])  # doctest: +SKIP
    >>> report.arrays[0].missing_ranges[0].first_label  # doctest: +SKIP
    '2019-03-02T00'
    """
    given = locals()
    from refreeze.verbs.coverage_report import Coverage

    check_options(given)
    if group is not None:
        check_texts({"group": group})
    patterns = names("arrays", [arrays] if isinstance(arrays, str) else arrays)
    chosen_dims = tuple(names("dims", dims))
    if dims is not None and (
        len(chosen_dims) not in {1, 2} or len(set(chosen_dims)) < len(chosen_dims)
    ):
        raise ValueError("dims names one or two different dimensions of the picture")
    in_flight = requests_in_flight(concurrency)
    options = {"source": source_options, "target": target_options}
    probing = probing_of(probe=probe, yes=yes, max_requests_per_second=max_requests_per_second)
    found = _place(place, patterns, group, branch, options, concurrency=in_flight, probing=probing)
    known = {name for array in found.arrays for name in array.names}
    for dimension in chosen_dims:
        if dimension not in known:
            raise ValueError(
                f"no array has the dimension {dimension} (dimensions: {', '.join(sorted(known))})"
            )
    covered = tuple(_covered(found, array, chosen_dims) for array in found.arrays)
    return Coverage(found.url, covered, tuple(shown(text) for text in found.warnings))


@dataclass(frozen=True)
class GridOfArray:
    """An array whose chunks are counted. Shapes are in elements."""

    path: str
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    names: tuple[str, ...]

    @property
    def grid(self) -> tuple[int, ...]:
        """Chunks along each dimension."""
        sizes = zip(self.shape, self.chunk_shape, strict=True)
        return tuple(-(-length // max(chunk, 1)) for length, chunk in sizes)


class Place:
    """Where arrays are."""

    url: str
    arrays: list[GridOfArray]
    warnings: list[str]

    def chunks(self, array: GridOfArray, *, flat: bool = True) -> ChunkStream:
        """Stream the chunks of an array."""
        raise NotImplementedError

    def coordinate(self, path: str) -> tuple[Any, dict[str, Any]] | None:
        """Return the stored values and attributes of a one-dimensional array, if it is there."""
        raise NotImplementedError


class StorePlace(Place):
    """A Zarr store."""

    def __init__(
        self, source: Source, patterns: Sequence[str], group: str | None, concurrency: int | str
    ) -> None:
        from refreeze.runtime.interruption import interruptible

        self._source = source
        self._concurrency = concurrency
        self.url = source.url
        metadata = interruptible(read_metadata, source, Selection(group=group, arrays=patterns))
        if metadata.nothing is not None:
            raise metadata.nothing
        self._specs = {spec.path: spec for spec in metadata.arrays}
        self.warnings = [*metadata.warnings, *source.notes]
        self.arrays = [
            GridOfArray(spec.path, spec.shape, spec.chunk_shape, tuple(addressed_names(spec)))
            for spec in metadata.arrays
        ]
        wanted = {name for array in self.arrays for name in array.names}
        if patterns and wanted:
            # What labels the chosen arrays may not be among them.
            labels = Selection(group=group, arrays=tuple(sorted(wanted)), partial=True)
            try:
                more = interruptible(read_metadata, source, labels).arrays
            except RefreezeError as error:
                self.warnings.append(f"no labels: {error.message}")
                more = []
            self._specs |= {spec.path: spec for spec in more if spec.path not in self._specs}

    def chunks(self, array: GridOfArray, *, flat: bool = True) -> ChunkStream:
        """List an array."""
        from refreeze.verbs.list_chunks import open_stream

        return open_stream(
            self._source,
            self._specs[array.path],
            region=None,
            paths=False,
            flat=flat,
            concurrency=self._concurrency,
            # Which there are is what counts.
            undated=True,
        )

    def coordinate(self, path: str) -> tuple[Any, dict[str, Any]] | None:
        """Read a coordinate's chunks."""
        from refreeze.metadata.values import read_box

        spec = self._specs.get(path)
        if spec is None or len(spec.shape) != 1 or spec.shape[0] > _LONGEST_COORDINATE:
            return None
        values = read_box(self._source, spec, [(0, spec.shape[0])])
        return values, json.loads(spec.document).get("attributes") or {}


class RepositoryPlace(Place):
    """A branch of an Icechunk repository."""

    def __init__(
        self, location: Any, patterns: Sequence[str], group: str | None, branch: str
    ) -> None:
        from refreeze import _refreeze

        self.url = str(location.url)
        self._opened = _refreeze.open_target(location, branch=branch)
        self.warnings = []
        self._documents: dict[str, dict[str, Any]] = {}
        for path, document in sorted(self._opened.nodes.items()):
            parsed = json.loads(document)
            if parsed.get("node_type") == "array":
                self._documents[path] = parsed
        top = "/" + (group or "").strip("/")
        below = [p for p in self._documents if top == "/" or p.startswith(f"{top}/")]
        relative = {path: path.removeprefix(top).strip("/") for path in below}
        for pattern in patterns:
            if not any(matches(name, [pattern]) for name in relative.values()):
                raise TargetNotFoundError(
                    f"{self.url} has no array {pattern}",
                    f"arrays: {', '.join(relative.values()) or 'none'}",
                )
        chosen = [p for p in below if not patterns or matches(relative[p], patterns)]
        if not chosen:
            raise TargetNotFoundError(f"there is no array in {self.url}, branch {branch}")
        self.arrays = []
        for path in chosen:
            layout = layout_of(self._documents[path])
            self.arrays.append(
                GridOfArray(path, layout.shape, layout.chunk_shape, tuple(layout.addressed_by))
            )

    def only(self) -> GridOfArray:
        """Return the one array that was chosen.

        Raises
        ------
        TargetNotFoundError
            There are several.
        """
        if len(self.arrays) > 1:
            raise TargetNotFoundError(
                f"{len(self.arrays)} arrays of {self.url} match",
                f"name one: {', '.join(array.path for array in self.arrays)}",
            )
        return self.arrays[0]

    def chunks(self, array: GridOfArray, *, flat: bool = True) -> ChunkStream:
        """Read an array's manifests."""
        return self._opened.stored_chunks(array.path, flat=flat)

    def coordinate(self, path: str) -> tuple[Any, dict[str, Any]] | None:
        """Read a coordinate's native chunks; one of references has no values here."""
        from refreeze.metadata.chunk_codec import decoded_values

        document = self._documents.get(path)
        if document is None or len(document["shape"]) != 1:
            return None
        if document["shape"][0] > _LONGEST_COORDINATE:
            return None
        chunks = self._opened.chunks(path)
        values = decoded_values(json.dumps(document).encode(), chunks)
        return values, document.get("attributes") or {}


def repository_place(place: Any, options: Options | None) -> Any:
    """Return the location of a repository; None if there is none at the place.

    Raises
    ------
    TargetError, AccessError
        There is one that cannot be read.
    """
    from refreeze import _refreeze
    from refreeze.stores.resolve import NotInThisVersionError, resolve_target

    if isinstance(place, tuple | list):
        return None
    if isinstance(place, str | os.PathLike) and "://" not in os.fspath(place):
        folder = os.path.expanduser(os.fspath(place))  # noqa: PTH111 a Path would normalise `//`
        names_there = set(os.listdir(folder)) if os.path.isdir(folder) else set()  # noqa: PTH112, PTH208 see above
        if not names_there & {"repo", "refs", "snapshots"} or names_there & {
            "zarr.json",
            ".zgroup",
        }:
            return None
    try:
        location = resolve_target(place, options)
    except NotInThisVersionError:
        return None
    try:
        _refreeze.status(location)
    except TargetNotFoundError:
        return None
    return location


def _place(
    place: Any,
    patterns: Sequence[str],
    group: str | None,
    branch: str,
    options: dict[str, Options | None],
    *,
    concurrency: int | str,
    probing: Probing,
) -> Place:
    from refreeze.stores.resolve import resolve_source

    target_options = options["target"] or options["source"]
    location = repository_place(place, target_options)
    if location is not None:
        return RepositoryPlace(location, patterns, group, branch)
    source = resolve_source(place, options["source"] or options["target"], probing)
    try:
        return StorePlace(source, patterns, group, concurrency)
    except SourceNotFoundError as error:
        if "no array" in error.message:
            raise
        raise SourceNotFoundError(
            error.message, error.hint or "give a Zarr store or an Icechunk repository"
        ) from error


def _covered(place: Place, array: GridOfArray, dims: Sequence[str]) -> ArrayCoverage:
    from refreeze.verbs.coverage_report import array_coverage
    from refreeze.verbs.coverage_tally import Tally

    axes = [array.names.index(name) for name in dims if name in array.names]
    if not axes:
        # Along which there is more than one chunk, else any.
        many = [axis for axis, extent in enumerate(array.grid) if extent > 1]
        rest = [axis for axis in range(len(array.grid)) if axis not in many]
        axes = (many + rest)[:2]
    tally = Tally(array.grid, axes)
    for coords, sizes, times, virtual in _columns(place.chunks(array), array):
        tally.add(coords, sizes, times, virtual=virtual)
    labels = {name: _labels(place, array, axis) for axis, name in enumerate(array.names)}
    return array_coverage(array, tally, labels)


def _columns(stream: ChunkStream, array: GridOfArray) -> Iterator[tuple[Any, Any, Any, int]]:
    """Yield coordinates, sizes, times (-1: unknown) and the number of references, by batch."""
    import numpy as np
    from arro3.core import DataType

    grid = array.grid
    for batch in stream:
        coords = [batch.column(f"chunk_{axis}").to_numpy() for axis in range(len(grid))]
        sizes = batch.column("size").to_numpy()
        times = _nullable(batch.column("last_modified").cast(DataType.int64()))
        has_kind = "kind" in batch.schema.names
        is_virtual = (
            np.array([kind == "virtual" for kind in batch.column("kind").to_pylist()], dtype=bool)
            if has_kind
            else np.zeros(len(sizes), dtype=bool)
        )
        inside = np.ones(len(sizes), dtype=bool)
        for positions, extent in zip(coords, grid, strict=True):
            inside &= positions < extent
        yield (
            [positions[inside] for positions in coords],
            sizes[inside],
            times[inside],
            int(is_virtual[inside].sum()),
        )


def _nullable(column: Any) -> Any:
    import numpy as np

    if column.null_count:
        return np.array([-1 if v is None else v for v in column.to_pylist()], dtype=np.int64)
    return column.to_numpy()


def _labels(place: Place, array: GridOfArray, axis: int) -> Labels | None:
    """Return the labels along a dimension, of the coordinate in the array's group or above it."""
    from refreeze.metadata.labels import Labels

    name, length = array.names[axis], array.shape[axis]
    group = array.path.rpartition("/")[0]
    while True:
        path = f"{group}/{name}"
        if path != array.path or len(array.shape) == 1:
            try:
                found = place.coordinate(path)
            except RefreezeError as error:
                place.warnings.append(f"no labels along {name}: {error.message}")
                return None
            if found is not None and len(found[0]) == length:
                return Labels(*found)
        if not group:
            return None
        group = group.rpartition("/")[0]
