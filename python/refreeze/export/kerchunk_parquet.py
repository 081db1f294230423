"""A Kerchunk Parquet reference store: what fsspec's reference file system reads lazily.

Arrays are listed box by box in row-major order, and each record file is written as soon as it is
whole. `.zmetadata` comes last, so that nothing opens before; a progress document tells the next run
what is there already.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import (
    AlreadyExistsError,
    IncompleteError,
    MismatchError,
    UnsupportedArrayError,
)
from refreeze.export.folder import TargetFolder
from refreeze.export.partitions import Box, boxes
from refreeze.export.version_2_documents import group_documents, version_2
from refreeze.metadata.documents import parsed
from refreeze.metadata.hierarchy import ArrayNode
from refreeze.metadata.hierarchy_reader import HierarchyReader
from refreeze.runtime.interruption import interruptible
from refreeze.shown import shown

if TYPE_CHECKING:
    from refreeze.metadata.selection import Selection
    from refreeze.metadata.specs import ArraySpec
    from refreeze.planning.options import IngestOptions
    from refreeze.planning.source_slice import Store

__all__ = ["Written", "write_kerchunk_parquet"]

PROGRESS = ".refreeze-progress.json"
_METADATA = ".zmetadata"
_MOST_IN_BOX = 1_000_000
_BYTES_PER_CHUNK = 64
_FULLY_WRITTEN = 10_000
"""Record files of an array up to which even those without a reference are written: some readers ask
for all of them."""


@dataclass
class Written:
    """What is written of one array."""

    records: int = 0
    """Record files that are whole, from the first on."""
    references: int = 0
    bytes: int = 0
    done: bool = False


@dataclass
class Outcome:
    """What a run has done."""

    run_id: str
    arrays: dict[str, Written]
    resumed: int = 0
    written: int = 0
    """Record files of this attempt."""
    file_bytes: int = 0
    list_requests: int = 0
    keys_listed: int = 0
    warnings: list[str] = field(default_factory=list)


def write_kerchunk_parquet(
    store: Store,
    location: Any,
    selection: Selection,
    options: IngestOptions,
    *,
    record_size: int,
    progress: Callable[[dict[str, Any]], object] | None,
) -> Outcome:
    """Write references to the chunks of a source, or resume what an earlier run began.

    Parameters
    ----------
    store
        The source, whose metadata has been read.
    location
        As `refreeze.stores.resolve.resolve_target` gives it: a folder or a prefix in a bucket.
    record_size
        References in one Parquet file.

    Raises
    ------
    AlreadyExistsError
        There is a reference store, or something else.
    MismatchError
        An unfinished run had another source, selection or record size.
    UnsupportedArrayError
        An array that version 2 cannot express, or an empty chunk.
    IncompleteError
        There are not as many references as expected.
    TargetError, AccessError
        The target cannot be written.
    """
    target = TargetFolder(location)
    documents = _own_documents(store, selection)
    for spec in store.metadata.arrays:
        with _naming(spec):
            version_2(documents[spec.path], spec.dimension_names, spec.chunk_shape, missing=0)
    fingerprint = _fingerprint(store, documents, record_size)
    outcome = _begin(target, store, fingerprint, restart=options.restart)
    run = _Run(
        store,
        target,
        options,
        record_size=record_size,
        outcome=outcome,
        fingerprint=fingerprint,
        progress=progress,
    )
    for spec in store.metadata.arrays:
        run.write(spec)
    _check_expectations(store, outcome, options)
    entries: dict[str, Any] = {}
    for group in store.metadata.groups:
        at = group.path.strip("/")
        zgroup, zattrs = group_documents(group.document)
        entries[f"{at}/.zgroup".lstrip("/")] = zgroup
        entries[f"{at}/.zattrs".lstrip("/")] = zattrs
    for spec in store.metadata.arrays:
        missing = math.prod(spec.grid_shape) - outcome.arrays[spec.path].references
        with _naming(spec):
            found = version_2(
                documents[spec.path], spec.dimension_names, spec.chunk_shape, missing=missing
            )
        at = spec.path.strip("/")
        entries |= {f"{at}/.zarray": found.zarray, f"{at}/.zattrs": found.zattrs}
        if found.warning is not None:
            outcome.warnings.append(f"array {spec.path}: {found.warning}")
    content = json.dumps({"metadata": entries, "record_size": record_size})
    target.put(_METADATA, content.encode())
    target.delete(PROGRESS)
    return outcome


def _begin(target: TargetFolder, store: Store, fingerprint: str, *, restart: bool) -> Outcome:
    """Find out what is there; with ``restart``, remove what an unfinished run has written."""
    if target.get(_METADATA) is not None:
        raise AlreadyExistsError(
            f"there is a reference store at {target.url}", "choose another target, or remove it"
        )
    arrays = {spec.path: Written() for spec in store.metadata.arrays}
    stored = target.get(PROGRESS)
    if stored is None:
        name = next(target.names(), None)
        if name is not None:
            raise AlreadyExistsError(
                f"{target.url} is not empty: it holds {name}", "choose an empty or new folder"
            )
    else:
        try:
            was = parsed(stored)
        except ValueError:
            was = {}
        if restart:
            for name in list(target.names()):
                if re.search(r"/refs\.\d+\.parq$", name):
                    target.delete(name)
        elif was.get("fingerprint") != fingerprint:
            raise MismatchError(
                f"an unfinished run at {target.url} had another source, selection or record size",
                "run it with the same options, or discard it with --restart",
            )
        else:
            arrays |= {path: Written(**kept) for path, kept in was["arrays"].items()}
            resumed = sum(array.records for array in arrays.values())
            return Outcome(was["run_id"], arrays, resumed=resumed)
    outcome = Outcome(uuid.uuid4().hex[:20], arrays)
    _save(target, fingerprint, outcome)
    return outcome


def _save(target: TargetFolder, fingerprint: str, outcome: Outcome) -> None:
    arrays = {path: asdict(written) for path, written in outcome.arrays.items()}
    document = {"fingerprint": fingerprint, "run_id": outcome.run_id, "arrays": arrays}
    target.put(PROGRESS, json.dumps(document).encode())


class _Run:
    """Lists arrays and writes their record files."""

    def __init__(
        self,
        store: Store,
        target: TargetFolder,
        options: IngestOptions,
        *,
        record_size: int,
        outcome: Outcome,
        fingerprint: str,
        progress: Callable[[dict[str, Any]], object] | None,
    ) -> None:
        self._store = store
        self._target = target
        self._options = options
        self._size = record_size
        self._outcome = outcome
        self._fingerprint = fingerprint
        self._progress = progress
        self._told = 0.0
        most = options.memory // (4 * _BYTES_PER_CHUNK)
        self._most = max(min(most, _MOST_IN_BOX), 1)
        root = store.url if "://" in store.url else f"file://{store.url}"
        self._root = root.rstrip("/")

    def write(self, spec: ArraySpec) -> None:
        """Write what is still to be written of an array."""
        import numpy as np

        written = self._outcome.arrays[spec.path]
        if written.done:
            return
        grid = spec.grid_shape
        possible = math.prod(grid)
        # Record files that are whole are not listed again, but for what shares a box with others.
        first = written.records * self._size
        pending = np.zeros(0, dtype=np.int64)
        for box in boxes(grid, self._most):
            end = box.start + box.chunks
            if end <= first:
                continue
            sizes = self._listed(spec, box)
            pending = np.concatenate((pending, sizes[max(first - box.start, 0) :]))
            while len(pending) >= self._size:
                self._record(spec, written, pending[: self._size], possible)
                pending = pending[self._size :]
        if len(pending):
            self._record(spec, written, pending, possible)
        written.done = True
        _save(self._target, self._fingerprint, self._outcome)

    def _listed(self, spec: ArraySpec, box: Box) -> Any:
        """Return the bytes of each chunk of a box, 0 where there is none."""
        import numpy as np

        from refreeze import _refreeze

        source = self._store.source
        stream = _refreeze.list_chunks(
            source.store,
            source.path,
            spec,
            region=box.ranges,
            paths=False,
            flat=True,
            concurrency=self._options.concurrency,
            # References hold no times.
            undated=True,
        )
        found = np.zeros(box.chunks, dtype=np.int64)
        for batch in stream:
            at = np.zeros(batch.num_rows, dtype=np.int64)
            for axis, (start, stop) in enumerate(box.ranges):
                positions = batch.column(f"chunk_{axis}").to_numpy().astype(np.int64)
                at = at * (stop - start) + positions - start
            sizes = batch.column("size").to_numpy().astype(np.int64)
            if (sizes == 0).any() and not self._options.skip_empty_chunks:
                where = int(at[sizes == 0][0]) + box.start
                key = _key(spec, _coords(where, spec.grid_shape))
                raise UnsupportedArrayError(
                    f"the chunk {key} of array {spec.path} has no bytes",
                    "repair the source, or treat such chunks as missing with --empty-chunks skip",
                )
            found[at] = sizes
            self._tell(spec, batch.num_rows)
        stats = stream.stats
        self._outcome.list_requests += stats.list_requests
        self._outcome.keys_listed += stats.keys_listed
        self._outcome.warnings += [
            one for one in stats.warnings if one not in self._outcome.warnings
        ]
        return found

    def _record(self, spec: ArraySpec, written: Written, sizes: Any, possible: int) -> None:
        import numpy as np

        there = np.flatnonzero(sizes)
        records = -(-possible // self._size)
        if len(there) or records <= _FULLY_WRITTEN:
            first = written.records * self._size
            grid = spec.grid_shape
            paths: list[str | None] = [None] * len(sizes)
            for row in there.tolist():
                paths[row] = f"{self._root}/{_key(spec, _coords(first + row, grid))}"
            content = _parquet(paths, sizes)
            self._target.put(f"{spec.path.strip('/')}/refs.{written.records}.parq", content)
            self._outcome.written += 1
            self._outcome.file_bytes += len(content)
        written.records += 1
        written.references += len(there)
        written.bytes += int(sizes.sum())
        _save(self._target, self._fingerprint, self._outcome)

    def _tell(self, spec: ArraySpec, found: int) -> None:
        if self._progress is None or time.monotonic() - self._told < 0.1:  # noqa: PLR2004 ten times a second
            return
        self._told = time.monotonic()
        arrays = self._outcome.arrays
        references = sum(array.references for array in arrays.values())
        event = {
            "stage": "list",
            "array": spec.path,
            "array_chunks_found": arrays[spec.path].references + found,
            "array_chunks_possible": math.prod(spec.grid_shape),
            "chunks_possible": sum(
                math.prod(one.grid_shape) for one in self._store.metadata.arrays
            ),
            "list_requests": self._outcome.list_requests,
            "keys_listed": self._outcome.keys_listed,
            "chunks_found": references + found,
            "references_written": references,
            "commits": 0,
        }
        self._progress(event)


def _parquet(paths: list[str | None], sizes: Any) -> bytes:
    """Return a record file: path, offset and size of each chunk; no path where there is none."""
    import io

    import numpy as np
    from arro3.core import Array, DataType, Table
    from arro3.io import write_parquet

    table = Table.from_pydict(
        {
            "path": Array(paths, DataType.string()),
            "offset": Array(np.zeros(len(sizes), dtype=np.int64)),
            "size": Array(np.ascontiguousarray(sizes)),
        }
    )
    buffer = io.BytesIO()
    write_parquet(table, buffer, compression="zstd(3)")
    return buffer.getvalue()


def _own_documents(store: Store, selection: Selection) -> dict[str, Any]:
    """Return each array's document as the source has it."""
    root = (selection.group or "").strip("/")
    reader = HierarchyReader(store.source, limit=selection.max_document)
    hierarchy = interruptible(reader.hierarchy, root, [])
    documents = {}
    for spec in store.metadata.arrays:
        if isinstance(hierarchy.root, ArrayNode):
            node: Any = hierarchy.root
        else:
            relative = spec.source_path.removeprefix(root).strip("/") if root else spec.source_path
            node = hierarchy.nodes[relative]
        documents[spec.path] = node.document()
    return documents


def _fingerprint(store: Store, documents: dict[str, Any], record_size: int) -> str:
    arrays = [[spec.path, spec.source_path, documents[spec.path]] for spec in store.metadata.arrays]
    text = json.dumps([store.url, record_size, arrays], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _check_expectations(store: Store, outcome: Outcome, options: IngestOptions) -> None:
    total = 0
    for spec in store.metadata.arrays:
        references = outcome.arrays[spec.path].references
        missing = math.prod(spec.grid_shape) - references
        total += references
        if options.expect_complete and missing:
            raise IncompleteError(
                f"array {spec.path}: {missing:,} chunks are missing", "see refreeze coverage SOURCE"
            )
    if options.expect_count is not None and total != options.expect_count:
        raise IncompleteError(f"{total:,} references were found, {options.expect_count:,} expected")


class _naming:  # noqa: N801 used like a function
    """Name the array in what its conversion raises."""

    def __init__(self, spec: ArraySpec) -> None:
        self._path = spec.path

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UnsupportedArrayError):
            raise UnsupportedArrayError(
                f"array {self._path} has no Kerchunk references: {shown(error.message)}",
                f"leave it out with --skip {self._path.lstrip('/')}",
            ) from error


def _coords(index: int, grid: tuple[int, ...]) -> tuple[int, ...]:
    found = []
    for extent in reversed(grid):
        index, at = divmod(index, extent)
        found.append(at)
    return tuple(reversed(found))


def _key(spec: ArraySpec, coords: tuple[int, ...]) -> str:
    parts = [str(coord) for coord in coords]
    if spec.key_encoding == "default":
        parts = ["c", *parts]
    name = spec.separator.join(parts) or "0"
    return f"{spec.source_path}/{name}" if spec.source_path else name
