"""The few lines of Python that open what an ingest has written."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from refreeze.stores.cloud_settings import public_settings
from refreeze.stores.resolve import shown_url
from refreeze.stores.web_store import is_web

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
    modules, storage, before = "icechunk", _storage(report.target, target_options), ""
    if headers := _headers(report.containers, source_options):
        modules, before, storage = "icechunk, os", _with_headers(storage, headers), "storage"
        authorise = f"\n    config=config,{authorise}"
    return f"""\
import {modules}, xarray as xr
{before}
repo = icechunk.Repository.open(
    {storage},{authorise}
)
session = repo.readonly_session({report.branch!r})
ds = xr.open_zarr(session.store{group_argument}, consolidated=False)
"""


def _storage(target: str, options: Options | None) -> str:
    scheme, separator, rest = target.partition("://")
    if not separator:
        return f"icechunk.local_filesystem_storage({target!r})"
    bucket, _, prefix = rest.partition("/")
    if scheme in {"gs", "az"}:
        settings = public_settings(scheme, options)
        who = f"{'anonymous' if _is_on(settings, 'skip_signature') else 'from_env'}=True"
        kept = {name: settings[name] for name in _KEPT[scheme] if name in settings}
        config = f", config={kept!r}" if kept else ""
        if scheme == "gs":
            return f"icechunk.gcs_storage(bucket={bucket!r}, prefix={prefix!r}, {who}{config})"
        account = settings.get("account_name", "devstoreaccount1")
        return (
            f"icechunk.azure_storage(account={account!r}, container={bucket!r}, "
            f"prefix={prefix!r}, {who}{config})"
        )
    arguments = [f"bucket={bucket!r}", f"prefix={prefix!r}"]
    region = _setting(options, "region", "AWS_REGION", "AWS_DEFAULT_REGION")
    arguments.append(f"region={region or 'us-east-1'!r}")
    endpoint = _setting(
        options, "endpoint", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"
    )
    if endpoint:
        bucket_first = f"://{bucket}."
        style = _setting(
            options, "virtual_hosted_style_request", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST"
        )
        shown = shown_url(endpoint)
        if _is_on({"": style or ""}, "") and bucket_first in shown:
            # Icechunk puts the bucket before the host itself.
            shown = shown.replace(bucket_first, "://", 1)
        else:
            arguments.append("force_path_style=True")
        arguments.append(f"endpoint_url={shown!r}")
        if endpoint.startswith("http://"):
            arguments.append("allow_http=True")
    if _is_on({"": _setting(options, "request_payer", "AWS_REQUEST_PAYER") or ""}, ""):
        arguments.append("requester_pays=True")
    arguments.append("anonymous=True" if _is_anonymous(options) else "from_env=True")
    return f"icechunk.s3_storage({', '.join(arguments)})"


_KEPT = {"gs": ("base_url", "allow_http"), "az": ("endpoint", "use_fabric_endpoint", "allow_http")}
"""Settings that lead to a store and are no secrets."""


def _headers(containers: Iterable[str], options: Options | None) -> dict[str, dict[str, str]]:
    """Return the headers that containers on web servers need: environment variables by name."""
    names = [key[len("header.") :] for key in options or {} if key.lower().startswith("header.")]
    variables = {name: re.sub(r"\W", "_", name).upper() for name in names}
    return {container: variables for container in containers if is_web(container) and names}


def _with_headers(storage: str, headers: dict[str, dict[str, str]]) -> str:
    """Return lines that give containers their headers, which no repository holds."""
    lines = ["", f"storage = {storage}", "config = icechunk.Repository.fetch_config(storage)"]
    for prefix, variables in headers.items():
        values = ", ".join(
            f"{name!r}: os.environ[{variable!r}]" for name, variable in variables.items()
        )
        lines += [
            f"container = config.virtual_chunk_containers[{prefix!r}]",
            f"store = icechunk.http_store(headers={{{values}}})",
            "config.set_virtual_chunk_container(",
            f"    icechunk.VirtualChunkContainer({prefix!r}, store, name=container.name)",
            ")",
        ]
    return "\n".join([*lines, ""])


def _credentials(container: str, options: Options | None) -> str:
    scheme, separator, _ = container.partition("://")
    makers = {"s3": "s3_credentials", "gs": "gcs_credentials", "az": "azure_credentials"}
    if is_web(container):
        return "icechunk.credentials.HttpAccess"
    if not separator or scheme not in makers:
        return "icechunk.credentials.LocalFileSystemAccess"
    if scheme == "s3":
        anonymous = _is_anonymous(options)
    else:
        anonymous = _is_on(public_settings(scheme, options), "skip_signature")
    return f"icechunk.{makers[scheme]}({'anonymous' if anonymous else 'from_env'}=True)"


def _is_on(settings: Mapping[str, str], name: str) -> bool:
    return settings.get(name, "").lower() not in {"", "0", "false", "off", "no", "n"}


def _is_anonymous(options: Options | None) -> bool:
    return _is_on({"": _setting(options, "skip_signature", "AWS_SKIP_SIGNATURE") or ""}, "")


def _setting(options: Options | None, name: str, *variables: str) -> str | None:
    """Look up a setting as object_store does: options (with or without ``aws_``), environment."""
    for key, value in (options or {}).items():
        if key.lower().removeprefix("aws_").removesuffix("_url") == name:
            return str(value)
    return next((os.environ[name] for name in variables if os.environ.get(name)), None)
