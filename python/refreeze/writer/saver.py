"""`ZarrSaver`: appends, overwrites and updates one array of a repository, each save one commit.

Several processes may save at once. What an index means is decided in `indexing`, what keywords
mean in `creation`, and how a commit loses nothing in `repository`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import zarr

from refreeze.exceptions import TargetNotFoundError
from refreeze.writer.creation import as_array, cast_to, check_stored, creation_keywords
from refreeze.writer.indexing import assign
from refreeze.writer.progress import ArrayProgress, Progress
from refreeze.writer.report import WriteReport
from refreeze.writer.repository import (
    Target,
    committed,
    open_target,
    opened_for,
    stored_layout,
)
from refreeze.writer.scratch import scratch_session

if TYPE_CHECKING:
    import icechunk

__all__ = ["ZarrSaver"]

_APPROACHES = ("append", "overwrite", "update")


class ZarrSaver:
    """Saves results into an array of an Icechunk repository.

    Parameters
    ----------
    file_path
        The repository: local path, ``s3://``, ``gs://`` or ``az://`` URL, ``icechunk.Storage``,
        ``icechunk.Repository``, or an fsspec mapper such as ``s3fs.S3Map``. It is created by the
        first save.
    dataset_name
        The array's path in the repository.
    approach
        ``append``, ``overwrite`` or ``update``.
    branch, message, target_options
        As for `refreeze.ingest`.

    Raises
    ------
    ValueError
        The approach is none of those.
    """

    def __init__(
        self,
        file_path: Any,
        dataset_name: str = "dataset",
        approach: str = "append",
        *,
        branch: str = "main",
        message: str | None = None,
        target_options: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(approach, str):
            raise TypeError(f"approach is a text, not {type(approach).__name__}")
        chosen = approach.strip().lower()
        if chosen not in _APPROACHES:
            raise ValueError(f"unknown approach {approach!r} (known: {', '.join(_APPROACHES)})")
        name: Any = dataset_name
        if not isinstance(name, str) or not name.strip("/"):
            raise ValueError("dataset_name is the path of an array, and not empty")
        self.file_path = file_path
        self.dataset_name = dataset_name.strip("/")
        self.approach = chosen
        self.branch = branch
        self._message = message
        self._options = target_options

    def __repr__(self) -> str:
        return f"ZarrSaver(dataset_name={self.dataset_name!r}, approach={self.approach!r})"

    def open(self) -> zarr.Group:
        """Open the newest state as a read-only Zarr group.

        Raises
        ------
        FileNotFoundError
            Nothing has been saved yet.
        """
        session = self._target().readonly()
        try:
            return zarr.open_group(session.store, mode="r")
        except FileNotFoundError:
            raise TargetNotFoundError("the repository holds nothing yet", "save first") from None

    def save(
        self,
        data: Any,
        indices: Any = None,
        *,
        dry_run: bool = False,
        progress: Progress | None = None,
        **kwargs: Any,
    ) -> WriteReport:
        """Save data in one commit.

        Parameters
        ----------
        data
            What numpy makes an array of.
        indices
            For ``update``: an integer, list, slice, boolean mask, tuple or array, as in
            ``array[indices] = data``.
        dry_run
            Check everything and write nothing; the report says what would be committed.
        progress
            As for `refreeze.write`.
        **kwargs
            For the creation of the array, in the spellings of zarr 2 and 3: ``chunks``, ``dtype``,
            ``compressor`` or ``compressors``, ``filters``, ``fill_value``, ``shards`` …

        Raises
        ------
        ValueError
            Update without indices, shapes that do not go together, or a keyword that does not
            exist or contradicts the stored array.
        FileNotFoundError
            Update of an array that is not there.
        TypeError
            The data cannot become a numpy array.
        IndexError
            Indices are out of bounds.
        """
        begun = time.monotonic()
        if self.approach == "update":
            self._stored(self._target().readonly(), must=True)
            if indices is None:
                raise ValueError("update needs indices: where in the array the data goes")
        array = as_array(data)
        keywords = creation_keywords(kwargs)
        found, url = opened_for(
            self.file_path,
            branch=self.branch,
            options=self._options,
            create=self.approach != "update",
            dry_run=dry_run,
        )
        tell = ArrayProgress(progress, 1)
        before: str | None = None
        layout: tuple[dict[str, Any], ...] = ()

        def work(session: icechunk.Session) -> str | None:
            nonlocal before, layout
            before = session.snapshot_id
            tell.begin()
            match self.approach:
                case "append":
                    done = self._append(session, array, keywords, dry_run=dry_run)
                case "overwrite":
                    done = self._create(session, array, keywords, dry_run=dry_run)
                case _:
                    stored = cast("zarr.Array[Any]", self._stored(session, must=True))
                    check_stored(stored, keywords)
                    values = cast_to(array, stored.dtype, self._name)
                    done = assign(stored, indices, values, dry_run=dry_run)
            tell.finished(self._name, array.nbytes)
            layout = stored_layout(session, [self._name])
            tell.stage("commit")
            return (self._message or f"refreeze: {self.approach} {self._name}") if done else None

        if found is None or dry_run:
            work(scratch_session(found))
            snapshot, before = None, None if found is None else found.readonly().snapshot_id
        else:
            snapshot = committed(found, work)
        tell.stage("done")
        return WriteReport(
            target=url,
            branch=self.branch,
            mode=self.approach,
            snapshot_id=snapshot,
            commits=0 if snapshot is None else 1,
            arrays=(self._name,),
            replaced_snapshot_id=before,
            elapsed_s=time.monotonic() - begun,
            dry_run=dry_run,
            layout=layout,
        )

    def _target(self) -> Target:
        return open_target(self.file_path, branch=self.branch, options=self._options, create=False)

    @property
    def _name(self) -> str:
        return f"/{self.dataset_name}"

    def _stored(self, session: icechunk.Session, *, must: bool) -> zarr.Array[Any] | None:
        mode: Any = "r" if session.read_only else "r+"
        try:
            node = zarr.open(session.store, path=self.dataset_name, mode=mode)
        except FileNotFoundError:
            node = None
        if isinstance(node, zarr.Group):
            raise ValueError(f"{self._name} is a group, not an array")  # noqa: TRY004 by the contract
        if node is None and must:
            raise TargetNotFoundError(
                f"there is no array {self._name} to update", "append or overwrite creates it"
            )
        return node

    def _append(
        self,
        session: icechunk.Session,
        data: np.ndarray[Any, Any],
        keywords: dict[str, Any],
        *,
        dry_run: bool,
    ) -> bool:
        stored = self._stored(session, must=False)
        if stored is None:
            return self._create(session, data, keywords, dry_run=dry_run)
        check_stored(stored, keywords)
        data = np.atleast_1d(data)
        if stored.ndim == 0 or data.shape[1:] != stored.shape[1:]:
            raise ValueError(
                f"data of shape {data.shape} cannot be appended to {self._name} of shape "
                f"{stored.shape}: all but the first dimension have to agree"
            )
        data = cast_to(data, stored.dtype, self._name)
        if not len(data):
            return False
        length = stored.shape[0]
        stored.resize((length + len(data), *stored.shape[1:]))
        if not dry_run:
            stored[length:] = data
        return True

    def _create(
        self,
        session: icechunk.Session,
        data: np.ndarray[Any, Any],
        keywords: dict[str, Any],
        *,
        dry_run: bool,
    ) -> bool:
        self._stored(session, must=False)
        data = np.atleast_1d(data)
        dtype = np.dtype(keywords.get("dtype") or data.dtype)
        values = cast_to(data, dtype, self._name)
        root = zarr.open_group(session.store, mode="a")
        array = root.create_array(
            self.dataset_name,
            shape=values.shape,
            overwrite=self.approach == "overwrite",
            **{**keywords, "dtype": dtype},
        )
        if not dry_run:
            array[...] = values
        return True
