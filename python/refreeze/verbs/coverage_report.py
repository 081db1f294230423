"""What `refreeze.coverage` returns: figures, ranges of labels that are missing, and a picture.

Values; nothing is read here. Drawing is in `refreeze.verbs.coverage_picture`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from refreeze.metadata.labels import Labels
    from refreeze.verbs.coverage import GridOfArray
    from refreeze.verbs.coverage_tally import Run, Tally

__all__ = ["ArrayCoverage", "Coverage", "MissingRange", "WrittenRange", "array_coverage"]

_SHOWN_RANGES = 20


@dataclass(frozen=True)
class MissingRange:
    """Elements along a dimension where chunks are missing; every missing chunk is in one range."""

    dim: str
    start: int
    """First element."""
    stop: int
    """Element after the last."""
    first_label: str | float | None
    last_label: str | float | None
    """Of the last element in the range; None where the dimension has no coordinate."""
    chunks: int
    """Missing chunks."""
    whole: bool = True
    """Whether all chunks of these elements are missing."""

    def __str__(self) -> str:
        steps = self.stop - self.start
        counted = f"{steps:,} step{'s' * (steps != 1)}"
        if self.first_label is None:
            text = f"{self.dim} elements {self.start:,} to {self.stop - 1:,} ({counted})"
        else:
            text = f"{self.dim} {self.first_label} to {self.last_label} ({counted})"
        chunks = f"{self.chunks:,} chunk{'s' * (self.chunks != 1)}"
        return f"{text}: {chunks}" + ("" if self.whole else ", not all of them")


@dataclass(frozen=True)
class WrittenRange(MissingRange):
    """Elements along a dimension of which chunks are there; ``whole`` if all of them are.

    Each dimension is told by itself, so that a chunk is in one range of each.
    """


@dataclass(frozen=True)
class ArrayCoverage:
    """Which chunks one array has. Shapes are in elements; a chunk is a stored object."""

    path: str
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    grid_shape: tuple[int, ...]
    dims: tuple[str, ...]
    possible: int
    present: int
    missing: int
    density: float
    """Present chunks of those that are possible; 1 for an array without any."""
    native: int
    """Chunks that the store or repository holds itself."""
    virtual: int
    """References to chunks elsewhere."""
    bytes: int
    smallest: int | None
    mean: float | None
    largest: int | None
    sizes: tuple[tuple[int, int, int], ...]
    """Least size, size after the largest, and number of chunks, by powers of two."""
    first_modified: str | None
    """ISO 8601; None where nothing tells of times, as with native chunks of a repository."""
    last_modified: str | None
    missing_ranges: tuple[MissingRange, ...]
    written_ranges: tuple[WrittenRange, ...]
    """A chunk that is partly written counts."""
    tally: Tally = field(repr=False, compare=False)
    """Counts, for pictures."""
    labels: Mapping[str, Labels | None] = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, ready for `json.dumps`."""
        plain = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name not in {"tally", "labels", "missing_ranges", "written_ranges", "sizes"}
        }
        plain |= {
            name: list(plain[name]) for name in ("shape", "chunk_shape", "grid_shape", "dims")
        }
        plain["sizes"] = [
            {"least": least, "below": below, "chunks": chunks}
            for least, below, chunks in self.sizes
        ]
        for name in ("missing_ranges", "written_ranges"):
            plain[name] = [dict(vars(one)) for one in getattr(self, name)]
        return plain


@dataclass(frozen=True)
class Coverage:
    """The result of `refreeze.coverage`."""

    url: str
    arrays: tuple[ArrayCoverage, ...]
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, ready for `json.dumps`."""
        return {
            "url": self.url,
            "arrays": [array.to_dict() for array in self.arrays],
            "warnings": list(self.warnings),
        }

    def lines(self, *, written: bool = False) -> Iterator[str]:
        """Yield a text for people: an array's figures, and below them what is missing.

        Parameters
        ----------
        written
            Show what is written as well, along every dimension.
        """
        for array in self.arrays:
            yield (
                f"{array.path}: {array.present:,} of {array.possible:,} chunks "
                f"({_percent(array)}), {array.missing:,} missing"
            )
            if array.present:
                kinds = f"{array.native:,} native, {array.virtual:,} virtual"
                yield (
                    f"  {kinds}; {array.bytes:,} bytes, sizes {array.smallest:,} to "
                    f"{array.largest:,}, {array.mean:,.0f} on average"
                )
            if len(array.sizes) > 1:
                classes = (
                    f"{chunks:,} of {least:,} to {below - 1:,} bytes"
                    for least, below, chunks in array.sizes
                )
                yield f"  by size: {', '.join(classes)}"
            if array.first_modified is not None:
                yield f"  modified {array.first_modified} to {array.last_modified}"
            if written:
                yield from _range_lines("written", array.written_ranges)
            yield from _range_lines("missing", array.missing_ranges)

    def to_xarray(self) -> Any:
        """Return the pictures as an ``xarray.Dataset``: the fraction of chunks present by bins.

        A dimension has one element for each bin of positions; its coordinate is the first element
        of the array in the bin, and ``<name>_label`` that element's label. A dimension that two
        arrays cut differently has the array's path before its name.
        """
        from refreeze.verbs.coverage_picture import dataset

        return dataset(self)

    def plot(self, array: str | None = None, *, color: str = "present") -> Any:
        """Draw the arrays, or one of them, below each other.

        Parameters
        ----------
        array
            Path or name of one.
        color
            ``"present"``: the fraction present on a scale of 0 to 1; ``"size"``: mean bytes of a
            chunk; ``"age"``: days since it was modified.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from refreeze.verbs.coverage_picture import figure

        return figure(self, array, color=color)

    def save(self, path: Any, *, color: str = "present") -> None:
        """Write a picture (``.png``, ``.svg``, ``.html``) or its cells as a table (``.parquet``, ``.csv``).

        Raises
        ------
        ValueError
            The name ends otherwise.
        TargetError
            The file cannot be written, or matplotlib is not installed.
        """
        from refreeze.verbs.coverage_files import save

        save(self, path, color=color)

    def _repr_html_(self) -> str:
        from refreeze.verbs.coverage_html import canvases

        head = "".join(
            f"<th>{name}</th>"
            for name in ("array", "present", "possible", "density", "native", "virtual", "missing")
        )
        rows = []
        for array in self.arrays:
            ranges = "<br>".join(escape(str(one)) for one in array.missing_ranges[:_SHOWN_RANGES])
            cells = (
                escape(array.path),
                f"{array.present:,}",
                f"{array.possible:,}",
                _percent(array),
                f"{array.native:,}",
                f"{array.virtual:,}",
                ranges or "nothing",
            )
            rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        return f"<div><p>{escape(self.url)}</p>{table}{canvases(self, color='present')}</div>"


def _range_lines(what: str, ranges: Sequence[MissingRange]) -> Iterator[str]:
    for one in ranges[:_SHOWN_RANGES]:
        yield f"  {what}: {one}"
    more = len(ranges) - _SHOWN_RANGES
    if more > 0:
        yield f"  {what}: {more:,} more ranges (--json shows all)"


def _percent(array: ArrayCoverage) -> str:
    # What is not whole must not look it.
    shown = int(array.density * 10_000) / 100
    return f"{shown:g} %"


def array_coverage(
    array: GridOfArray, tally: Tally, labels: Mapping[str, Labels | None]
) -> ArrayCoverage:
    """Return what the counts of an array say."""
    missing = [
        MissingRange(
            *_labelled(array, labels, run),
            run.chunks,
            not tally.counts[run.axis][run.start : run.stop].any(),
        )
        for run in sorted(tally.missing(), key=lambda run: (run.axis, run.start))
    ]
    written = [
        WrittenRange(
            *_labelled(array, labels, run),
            run.chunks,
            run.chunks * array.grid[run.axis] == (run.stop - run.start) * tally.possible,
        )
        for run in tally.written()
    ]
    return ArrayCoverage(
        path=array.path,
        shape=array.shape,
        chunk_shape=array.chunk_shape,
        grid_shape=array.grid,
        dims=array.names,
        possible=tally.possible,
        present=tally.present,
        missing=tally.possible - tally.present,
        density=tally.present / tally.possible if tally.possible else 1.0,
        native=tally.present - tally.virtual,
        virtual=tally.virtual,
        bytes=tally.bytes,
        smallest=tally.smallest,
        mean=tally.bytes / tally.present if tally.present else None,
        largest=tally.largest,
        sizes=tuple(
            (0 if bits == 0 else 2 ** (bits - 1), 2**bits, int(chunks))
            for bits, chunks in enumerate(tally.magnitudes)
            if chunks
        ),
        first_modified=_iso(tally.first),
        last_modified=_iso(tally.last),
        missing_ranges=tuple(missing),
        written_ranges=tuple(written),
        tally=tally,
        labels=labels,
    )


def _labelled(
    array: GridOfArray, labels: Mapping[str, Labels | None], run: Run
) -> tuple[str, int, int, Any, Any]:
    """Return the dimension, the elements, and the first and last label of positions of chunks."""
    name = array.names[run.axis]
    chunk, length = max(array.chunk_shape[run.axis], 1), array.shape[run.axis]
    start, stop = run.start * chunk, min(run.stop * chunk, length)
    named = labels[name]
    if named is None:
        return name, start, stop, None, None
    return name, start, stop, named[start], named[stop - 1]


def _iso(microseconds: int | None) -> str | None:
    if microseconds is None:
        return None
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="seconds")
