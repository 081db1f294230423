"""The few lines of Python that open what an ingest has written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from refreeze.stores.resolve import shown_url

if TYPE_CHECKING:
    from refreeze.stores.resolve import Options
    from refreeze.verbs.report import IngestReport

__all__ = ["opening_lines"]


def opening_lines(
    report: IngestReport,
    *,
    target_group: str | None = None,
    source_options: Options | None = None,
    target_options: Options | None = None,
) -> str:
    """Return Python code that opens the ingested group as an xarray dataset named ``ds``.

    The code holds no secrets: it takes credentials from the environment.
    """
    authorise = ""
    if report.containers:
        credentials = ", ".join(
            f"{container!r}: {_credentials(container, source_options)}"
            for container in report.containers
        )
        authorise = (
            "\n    authorize_virtual_chunk_access=icechunk.containers_credentials("
            f"{{{credentials}}}),"
        )
    group = (target_group or "").strip("/")
    group_argument = f", group={group!r}" if group else ""
    return f"""\
import icechunk, xarray as xr

repo = icechunk.Repository.open(
    {_storage(report.target, target_options)},{authorise}
)
session = repo.readonly_session({report.branch!r})
ds = xr.open_zarr(session.store{group_argument}, consolidated=False)
"""


def _storage(target: str, options: Options | None) -> str:
    if not target.startswith("s3://"):
        return f"icechunk.local_filesystem_storage({target!r})"
    bucket, _, prefix = target.removeprefix("s3://").partition("/")
    arguments = [f"bucket={bucket!r}", f"prefix={prefix!r}"]
    region = _setting(options, "region", "AWS_REGION", "AWS_DEFAULT_REGION")
    arguments.append(f"region={region or 'us-east-1'!r}")
    endpoint = _setting(
        options, "endpoint", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"
    )
    if endpoint:
        arguments.append(f"endpoint_url={shown_url(endpoint)!r}")
        arguments.append("force_path_style=True")
        if endpoint.startswith("http://"):
            arguments.append("allow_http=True")
    arguments.append("anonymous=True" if _is_anonymous(options) else "from_env=True")
    return f"icechunk.s3_storage({', '.join(arguments)})"


def _credentials(container: str, options: Options | None) -> str:
    if not container.startswith("s3://"):
        return "icechunk.credentials.LocalFileSystemAccess"
    how = "anonymous=True" if _is_anonymous(options) else "from_env=True"
    return f"icechunk.s3_credentials({how})"


def _is_anonymous(options: Options | None) -> bool:
    return str(_setting(options, "skip_signature", "AWS_SKIP_SIGNATURE")).lower() == "true"


def _setting(options: Options | None, name: str, *variables: str) -> str | None:
    """Look up a setting as object_store does: options (with or without ``aws_``), environment."""
    for key, value in (options or {}).items():
        if key.lower().removeprefix("aws_").removesuffix("_url") == name:
            return str(value)
    return next((os.environ[name] for name in variables if os.environ.get(name)), None)
