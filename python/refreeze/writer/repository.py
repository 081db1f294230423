"""Opens the repository that data is written to, and makes commits that lose nothing.

Whoever meets a newer tip does its work again on it, unless the caller says that chunks nobody else
has touched may stay. On a local disk,
where Icechunk's own commits may be lost, the folder is locked for the moment of the commit, with
the lock that an ingest takes. What is written is the business of the callers.
"""

from __future__ import annotations

import fcntl
import logging
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import icechunk
import zarr

from refreeze.exceptions import (
    AccessError,
    ConflictError,
    RefreezeError,
    TargetError,
    TargetNotFoundError,
)
from refreeze.shown import cleaned, one_line
from refreeze.stores.icechunk_logs import without_local_warnings
from refreeze.stores.resolve import (
    BucketTarget,
    LocalTarget,
    resolve_target,
    without_credentials,
)
from refreeze.writer.leftovers import clear_left_over

__all__ = ["Target", "committed", "open_target", "opened_for", "stored_layout"]

_PLAIN = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")
_LOCK_WAIT_S = 600.0
_ATTEMPTS = 1000

_log = logging.getLogger("refreeze")


@dataclass(frozen=True)
class Target:
    """An open repository, the branch that is written to, and how both are shown."""

    url: str
    repository: icechunk.Repository
    branch: str = "main"
    folder: Path | None = None
    """Of a repository on a local disk, which has to be locked."""

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder's lock, if it is on a local disk."""
        with _locked(self.folder):
            yield

    def writable(self) -> icechunk.Session:
        """Return a session on the branch's tip."""
        try:
            return self.repository.writable_session(self.branch)
        except icechunk.IcechunkError as error:
            raise _sorted(error, self.url) from error

    def readonly(self, snapshot: str | None = None) -> icechunk.Session:
        """Return a session that reads the branch's tip, or a snapshot."""
        try:
            if snapshot is not None:
                return self.repository.readonly_session(snapshot_id=snapshot)
            return self.repository.readonly_session(self.branch)
        except icechunk.IcechunkError as error:
            raise _sorted(error, self.url) from error

    def commit(self, session: icechunk.Session, message: str, *, rebase: bool = False) -> str:
        """Commit a session to the branch and return the snapshot.

        Parameters
        ----------
        rebase
            Put the session on a tip that has moved, if nothing it changes was changed there.

        Raises
        ------
        ConflictError
            The branch has moved since the session began.
        """
        # Never a solver that resolves: it would keep one of two versions of a shared chunk.
        solver = icechunk.ConflictDetector() if rebase else None
        try:
            with self.lock():
                return session.commit(message, rebase_with=solver)
        except icechunk.ConflictError as error:
            raise ConflictError(
                f"branch {self.branch} of {self.url} has moved meanwhile; nothing was written",
                "read the newest state and write again",
            ) from error
        except icechunk.IcechunkError as error:
            raise _sorted(error, self.url) from error


def open_target(
    target: Any,
    *,
    branch: str = "main",
    options: Mapping[str, Any] | None = None,
    create: bool = True,
) -> Target:
    """Open the repository at a target, or create it.

    Parameters
    ----------
    target
        Local path, ``s3://``, ``gs://`` or ``az://`` URL, ``icechunk.Storage``,
        ``icechunk.Repository``, or an fsspec mapper such as ``s3fs.S3Map``.
    create
        Whether a repository comes into being where there is none. Several processes may do so at
        once.

    Raises
    ------
    TargetError
        Something else is there, such as a plain Zarr store.
    TargetNotFoundError
        There is no repository, and none is to be created.
    """
    if isinstance(target, icechunk.Repository):
        if options:
            raise TypeError("target options need a target given by its URL")
        return Target("the given repository", target, branch, _folder_of(target.storage))
    if isinstance(target, icechunk.Storage):
        if options:
            raise TypeError("target options need a target given by its URL")
        url, storage, folder = "the given storage", target, _folder_of(target)
        plain: Callable[[], str | None] = lambda: _plain_folder(folder)  # noqa: E731
    else:
        if hasattr(target, "fs") and hasattr(target, "root"):
            target, options = _of_mapper(target)
        found = resolve_target(target, options)
        url = found.url
        if isinstance(found, LocalTarget):
            folder = Path(found.path)
            with without_local_warnings():
                storage = icechunk.local_filesystem_storage(found.path)
            plain = lambda: _plain_folder(folder)  # noqa: E731
        else:
            folder, storage = None, _bucket_storage(found)
            plain = lambda: _plain_prefix(found)  # noqa: E731
    repository = _opened(storage, url, folder, plain, create=create)
    if repository.spec_version < 2:  # noqa: PLR2004 the version of Icechunk's specification
        raise TargetError(
            f"{url} is a repository of specification version 1",
            "upgrade it with icechunk.upgrade_icechunk_repository",
        )
    return Target(url, repository, branch, folder)


def opened_for(
    target: Any,
    *,
    branch: str,
    options: Mapping[str, Any] | None,
    create: bool,
    dry_run: bool,
) -> tuple[Target | None, str]:
    """Open a target as `open_target`, and return how it is shown; a dry run creates none.

    Returns
    -------
    The target, None where a dry run finds none that the write would create; and its URL.
    """
    try:
        found = open_target(target, branch=branch, options=options, create=create and not dry_run)
    except TargetNotFoundError:
        if not (dry_run and create and branch == "main"):
            raise
        place = isinstance(target, str | os.PathLike)
        return None, without_credentials(os.fspath(target)) if place else "the given target"
    return found, found.url


def committed(
    target: Target,
    work: Callable[[icechunk.Session], str | None],
    *,
    attempts: int = _ATTEMPTS,
    rebase: bool = False,
) -> str | None:
    """Do work in a session and commit it, again from the new tip after every conflict.

    Parameters
    ----------
    work
        Gets a writable session, and returns the commit's message; None, if nothing has changed.
    rebase
        Whether work that meets nothing of what others have committed may stay as it is.

    Returns
    -------
    The new snapshot, or None if nothing had to be written.
    """
    for attempt in range(attempts):
        session = target.writable()
        message = work(session)
        if message is None:
            return None
        try:
            snapshot = target.commit(session, message, rebase=rebase)
        except ConflictError:
            if attempt + 1 == attempts:
                raise
            _log.info(
                "branch %s of %s has moved meanwhile: writing again on its new tip",
                target.branch,
                target.url,
            )
            # Jitter, so that those who met do not meet again.
            time.sleep(random.uniform(0.0, min(0.02 * 2 ** min(attempt, 6), 1.0)))  # noqa: S311
        else:
            _log.info("%s: snapshot %s on branch %s", target.url, snapshot, target.branch)
            return snapshot
    return None


def stored_layout(session: icechunk.Session, paths: Iterable[str]) -> tuple[dict[str, Any], ...]:
    """Return name, dimensions, shape, chunks and type of arrays, for reports."""
    layout = []
    for path in paths:
        array = zarr.open_array(session.store, path=path.strip("/"), mode="r")
        names = getattr(array.metadata, "dimension_names", None)
        layout.append(
            {
                "name": path.strip("/"),
                "dims": [name or f"dim_{k}" for k, name in enumerate(names or [None] * array.ndim)],
                "shape": list(array.shape),
                "chunk_shape": list(array.shards or array.chunks),
                "dtype": str(array.dtype),
            }
        )
    return tuple(layout)


def _opened(
    storage: icechunk.Storage,
    url: str,
    folder: Path | None,
    plain: Callable[[], str | None],
    *,
    create: bool,
) -> icechunk.Repository:
    try:
        if (folder is None or folder.is_dir()) and icechunk.Repository.exists(storage):
            return icechunk.Repository.open(storage)
        if (found := plain()) is not None:
            raise TargetError(
                f"{url} is a plain Zarr store (it holds {found}), not an Icechunk repository",
                f"make one that refers to its chunks: refreeze ingest {url} NEW_TARGET",
            )
        if not create:
            raise TargetNotFoundError(f"there is no repository at {url}", "check the path")
        return _created(storage, url, folder)
    except icechunk.IcechunkError as error:
        raise _sorted(error, url) from error


def _created(storage: icechunk.Storage, url: str, folder: Path | None) -> icechunk.Repository:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        for attempt in range(20):
            if icechunk.Repository.exists(storage):
                return icechunk.Repository.open(storage)
            if folder is not None:
                clear_left_over(folder)
            try:
                with nullcontext() if folder is None else without_local_warnings():
                    return icechunk.Repository.create(storage, check_clean_root=folder is not None)
            except icechunk.IcechunkError as error:
                # Somebody else may have been quicker.
                if attempt == 19 or folder is not None:  # noqa: PLR2004 the last one
                    if "clean" in str(error):
                        raise TargetError(
                            f"{url} is not empty and is not an Icechunk repository",
                            "use an empty or new folder (or prefix) as the target",
                        ) from error
                    raise
                time.sleep(random.uniform(0.05, 0.3))  # noqa: S311
    raise TargetError(f"cannot create a repository at {url}")


@contextmanager
def _locked(folder: Path | None) -> Iterator[None]:
    """Hold a folder's advisory lock, as an ingest does; it ends with the process."""
    if folder is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        end = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise ConflictError(
                        f"another process has held {folder} for {_LOCK_WAIT_S:.0f} s",
                        "wait until it has finished, then run the same again",
                    ) from None
                time.sleep(random.uniform(0.001, 0.02))  # noqa: S311
        yield
    finally:
        os.close(handle)


def _plain_folder(folder: Path | None) -> str | None:
    if folder is None:
        return None
    return next((name for name in _PLAIN if (folder / name).exists()), None)


def _plain_prefix(found: BucketTarget) -> str | None:
    import obstore

    for name in _PLAIN:
        key = f"{found.path}/{name}" if found.path else name
        try:
            obstore.head(found.store, key)
        except FileNotFoundError:
            continue
        except Exception as error:  # noqa: BLE001 whatever obstore raises
            cleaned(error)
            raise AccessError(
                f"cannot read {found.url}: {one_line(error)}", "check the credentials"
            ) from None
        return name
    return None


def _folder_of(storage: icechunk.Storage) -> Path | None:
    lines = [line.partition(": ") for line in str(storage).strip().splitlines()]
    told = {key: value for key, _, value in lines}
    return Path(told["path"]).absolute() if told.get("type") == "local filesystem" else None


def _bucket_storage(found: BucketTarget) -> icechunk.Storage:
    """Make Icechunk's storage of the settings that obstore has resolved."""
    config = {str(key).lower(): str(value) for key, value in found.store.config.items()}
    client = {str(k): str(v) for k, v in (found.store.client_options or {}).items()}
    scheme, _, rest = found.url.partition("://")
    bucket = rest.partition("/")[0]
    if scheme == "gs":
        return icechunk.gcs_storage(bucket=bucket, prefix=found.path, config=config or None)
    if scheme == "az":
        account = config.get("account_name") or config.get("azure_storage_account_name") or ""
        return icechunk.azure_storage(
            account=account, container=bucket, prefix=found.path, config=config or None
        )

    def setting(name: str) -> str | None:
        return config.get(f"aws_{name}", config.get(name)) or os.environ.get(f"AWS_{name.upper()}")

    def on(name: str) -> bool:
        text = client.get(name) or setting(name) or ""
        return text.lower() not in {"", "0", "false", "off", "no", "n"}

    key, secret = setting("access_key_id"), setting("secret_access_key")
    anonymous = on("skip_signature")
    static = bool(key and secret) and not anonymous
    return icechunk.s3_storage(
        bucket=bucket,
        prefix=found.path,
        region=setting("region") or setting("default_region"),
        endpoint_url=setting("endpoint_url_s3") or setting("endpoint") or setting("endpoint_url"),
        allow_http=on("allow_http"),
        access_key_id=key if static else None,
        secret_access_key=secret if static else None,
        session_token=setting("session_token") if static else None,
        anonymous=True if anonymous else None,
        from_env=None if static or anonymous else True,
        force_path_style=not on("virtual_hosted_style_request"),
        requester_pays=on("request_payer"),
    )


def _of_mapper(mapper: Any) -> tuple[str, dict[str, str] | None]:
    """Return URL and options of an fsspec mapper."""
    system = mapper.fs
    names = (system.protocol,) if isinstance(system.protocol, str) else tuple(system.protocol)
    if "file" in names or "local" in names:
        return str(mapper.root), None
    root = str(mapper.root).strip("/")
    if "s3" in names:
        client = dict(getattr(system, "client_kwargs", None) or {})
        endpoint = getattr(system, "endpoint_url", None) or client.get("endpoint_url")
        options = {
            "access_key_id": getattr(system, "key", None) or client.get("aws_access_key_id"),
            "secret_access_key": getattr(system, "secret", None)
            or client.get("aws_secret_access_key"),
            "session_token": getattr(system, "token", None) or client.get("aws_session_token"),
            "endpoint": endpoint,
            "region": client.get("region_name"),
            "skip_signature": "true" if getattr(system, "anon", False) else None,
            "allow_http": "true" if str(endpoint or "").startswith("http://") else None,
        }
        return f"s3://{root}", {name: str(value) for name, value in options.items() if value}
    for scheme, known in (("gs", {"gs", "gcs"}), ("az", {"az", "abfs", "abfss", "adl"})):
        if known & set(names):
            return f"{scheme}://{root}", None
    raise TypeError(
        f"a mapper of {names[0]}:// is no place for a repository; use a folder, s3, gs or az"
    )


def _sorted(error: Exception, url: str) -> RefreezeError:
    """Sort an error of the icechunk package, whose causes are in its text alone."""
    whole, text = str(error), one_line(error)
    cleaned(error)
    if any(word in whole for word in ("PermissionDenied", "AccessDenied", "403", "401")):
        return AccessError(f"cannot use {url}: {text}", "check the credentials of the target")
    if "branch" in whole.lower() and "not" in whole.lower():
        return TargetNotFoundError(f"{url}: {text}", "check --branch")
    return TargetError(f"cannot use {url}: {text}", "run again with --log-level debug")
