"""Storage and repositories of the icechunk package as targets: what they are, and their state.

The package tells of a storage only what a reader may see; its settings and credentials are in a
repository's serialised state, which the core takes apart. What cannot work is a TypeError that
shows the URL to give instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import AccessError, RefreezeError, TargetError, TargetNotFoundError
from refreeze.shown import cleaned, one_line

if TYPE_CHECKING:
    import icechunk

__all__ = ["LocalFolder", "State", "take_over"]

_VERSION = "2.3"
"""Of the package whose serialised state the core knows; another minor version has another."""

_READ_ONLY = {"HTTP", "redirect"}


@dataclass(frozen=True)
class LocalFolder:
    """A repository in a folder, which is opened, and locked, as one that is named by its path."""

    path: str


@dataclass(frozen=True)
class State:
    """A repository's serialised state."""

    url: str
    """For messages."""
    state: bytes = field(repr=False)
    fresh: bool
    """Whether the repository was created here."""


def take_over(
    target: icechunk.Storage | icechunk.Repository, *, create: bool
) -> LocalFolder | State:
    """Find out what a storage or repository is.

    Parameters
    ----------
    target
        Of the icechunk package.
    create
        Create a repository in a storage that holds none; only a repository tells its settings.

    Raises
    ------
    TypeError
        It cannot be used from another library; the message shows how to name it by a URL.
    TargetNotFoundError
        There is no repository, and none shall be created.
    AccessError, TargetError
        The storage refuses or fails.
    """
    import icechunk

    storage = target if isinstance(target, icechunk.Storage) else target.storage
    # One line a field, after a line with the class: `type: S3`, `bucket: …`, `prefix: …`.
    lines = [line.partition(": ") for line in str(storage).strip().splitlines()]
    told = {key: value for key, _, value in lines}
    kind = told.get("type", "")
    if kind == "local filesystem":
        return LocalFolder(str(Path(told["path"]).absolute()))
    if kind == "in-memory":
        raise TypeError(
            "a repository in memory cannot be handed to another library; use a folder or a bucket: "
            'refreeze.ingest(source, "s3://bucket/prefix", target_options={…})'
        )
    url, options = _url_form(kind, told)
    instead = (
        f"give its URL and options: refreeze.ingest(source, {url!r}, target_options={options})"
    )
    if kind in _READ_ONLY:
        raise TypeError(f"icechunk storage over {kind} can only be read; use a folder or a bucket")
    if icechunk.__version__.split(".")[:2] != _VERSION.split("."):
        raise TypeError(
            f"storage of icechunk {icechunk.__version__} cannot be taken over by this version of "
            f"refreeze, which knows {_VERSION}; {instead}"
        )
    try:
        fresh = False
        repository: Any = target
        if isinstance(target, icechunk.Storage):
            if icechunk.Repository.exists(target):
                repository = icechunk.Repository.open(target)
            elif create:
                repository, fresh = _created(target)
            else:
                raise TargetNotFoundError(f"there is no repository at {url}", "check the storage")
        # The wrapper class is Python; its compiled half knows how to serialise itself.
        state = repository._repository.as_bytes()  # noqa: SLF001
    except icechunk.IcechunkError as error:
        raise _icechunk_error(url, error) from error
    return State(url, state, fresh)


def _created(storage: icechunk.Storage) -> tuple[icechunk.Repository, bool]:
    """Create a repository; whoever was quicker has done so already."""
    import icechunk

    try:
        return icechunk.Repository.create(storage), True
    except icechunk.IcechunkError:
        if not icechunk.Repository.exists(storage):
            raise
        return icechunk.Repository.open(storage), False


def _url_form(kind: str, told: dict[str, str]) -> tuple[str, str]:
    """Return the URL that names a storage, and its options as Python writes them."""
    prefix = told.get("prefix", "").strip("/")
    options: dict[str, str] = {}
    if kind.startswith("S3"):
        url = f"s3://{told.get('bucket', 'bucket')}/{prefix}"
        for name, option in (("region", "region"), ("endpoint_url", "endpoint")):
            if name in told:
                options[option] = told[name]
        if told.get("allow_http") == "True":
            options["allow_http"] = "true"
    elif kind == "GCS":
        url = f"gs://{told.get('bucket', 'bucket')}/{prefix}"
    elif kind == "Azure":
        url = f"az://{told.get('container', 'container')}/{prefix}"
        options["account_name"] = told.get("account", "…")
    else:
        return f"icechunk storage ({kind})", "{…}"
    return url, str(options) if options else "{…}"


def _icechunk_error(url: str, error: Exception) -> RefreezeError:
    """Sort an error of the icechunk package, whose causes are in its text alone."""
    whole = str(error)
    text = one_line(error)
    cleaned(error)
    refusals = (
        "PermissionDenied",
        "Unauthenticated",
        "403",
        "401",
        "lacked the necessary privil",
        "credential provider",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "XAdminUserNotFound",
        # A call-back of the caller's that raises.
        "gcp error: storage error",
    )
    if any(refusal in whole for refusal in refusals):
        return AccessError(
            f"cannot open the target {url}: {text}", "check the credentials of the icechunk.Storage"
        )
    if "not clean" in text or "not empty" in text:
        return TargetError(
            f"{url} is not empty and is not an Icechunk repository",
            "use an empty or new folder (or prefix) as the target",
        )
    return TargetError(f"cannot open the target {url}: {text}")
