"""Settings of an S3 store from options and environment: obeyed, or refused by name.

object_store knows what each of them means. Here is decided which one wins, which make no sense on
which side, and which have to be said because readers of a repository cannot find them in it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from refreeze.exceptions import AccessError
from refreeze.shown import remember

__all__ = [
    "CLIENT_SETTINGS",
    "SECRET_SETTINGS",
    "SETTINGS",
    "S3Settings",
    "check_endpoint",
    "check_value",
    "environment_settings",
    "is_setting",
    "password_in",
    "s3_settings",
    "text_of",
]

CLIENT_SETTINGS = frozenset(
    {
        "allow_http",
        "allow_invalid_certificates",
        "connect_timeout",
        "default_content_type",
        "disable_system_certificates",
        "http1_only",
        "http2_keep_alive_interval",
        "http2_keep_alive_timeout",
        "http2_keep_alive_while_idle",
        "http2_max_frame_size",
        "http2_only",
        "pool_idle_timeout",
        "pool_max_idle_per_host",
        "proxy_ca_certificate",
        "proxy_excludes",
        "proxy_url",
        "randomize_addresses",
        "read_timeout",
        "timeout",
        "user_agent",
    }
)
"""Settings of the HTTP client, which are the same for every kind of store."""

SETTINGS = frozenset(
    {
        "access_key_id",
        "bucket",
        "checksum_algorithm",
        "conditional_put",
        "container_authorization_token_file",
        "container_credentials_full_uri",
        "container_credentials_relative_uri",
        "copy_if_not_exists",
        "default_region",
        "disable_bulk_delete",
        "disable_tagging",
        "endpoint",
        "endpoint_url_s3",
        "endpoint_url_sts",
        "imdsv1_fallback",
        "metadata_endpoint",
        "region",
        "request_payer",
        "role_arn",
        "role_session_name",
        "s3_express",
        "secret_access_key",
        "server_side_encryption",
        "session_token",
        "skip_signature",
        "sse_bucket_key_enabled",
        "sse_customer_key_base64",
        "sse_kms_key_id",
        "unsigned_payload",
        "virtual_hosted_style_request",
        "web_identity_token_file",
    }
)
"""Settings of object_store's S3 client, without ``aws_``."""

_SYNONYMS = {
    "bucket_name": "bucket",
    "endpoint_url": "endpoint",
    "token": "session_token",
}

SECRET_SETTINGS = (
    "access_key_id",
    "secret_access_key",
    "session_token",
    "sse_customer_key_base64",
)
"""Settings whose values are shown nowhere."""

_OF_WRITING = frozenset(
    {
        "checksum_algorithm",
        "conditional_put",
        "copy_if_not_exists",
        "default_content_type",
        "disable_bulk_delete",
        "disable_tagging",
        "sse_bucket_key_enabled",
        "sse_kms_key_id",
    }
)
"""What says how something is written has no meaning for a source, which is only read."""

_OF_READERS = (
    "allow_invalid_certificates",
    "disable_system_certificates",
    "proxy_ca_certificate",
    "s3_express",
    "sse_customer_key_base64",
)
"""What readers need too, and Icechunk's stored configuration has no place for."""

_OFF = {"", "0", "false", "off", "no", "n"}

_DIRECTORY_BUCKET = "--x-s3"
"""Names of S3 Express's buckets end so."""

_PAYER_NOTE = (
    "the repository says that the requester pays, but Icechunk 2.3 does not say who pays when it "
    "reads referenced chunks: readers that do not own the bucket may be refused"
)


@dataclass(frozen=True)
class S3Settings:
    """Settings of one store as obstore takes them."""

    config: dict[str, str]
    """Of the S3 client, names with ``aws_``, which object_store knows all of them by."""
    client: dict[str, str]
    """Of the HTTP client."""
    notes: tuple[str, ...]
    """What readers have to know, for warnings."""


def s3_settings(bucket: str, options: Mapping[str, Any] | None, side: str) -> S3Settings:
    """Resolve the settings of a bucket.

    Parameters
    ----------
    bucket
        Its name, as the URL has it.
    options
        Given by the user, in object_store's names; they take precedence over the environment.
    side
        ``source`` or ``target``, for messages.

    Raises
    ------
    ValueError
        A setting that is not known, that has no meaning on this side, or that is no URL.
    AccessError
        A value that no request can carry, such as a key with a line break.
    """
    given = {_name(key): text_of(value) for key, value in (options or {}).items()}
    environment = environment_settings()
    # Before anything can go wrong: what goes wrong may be told with the values.
    for known in (environment, given):
        remember(known[name] for name in SECRET_SETTINGS if name in known)
        remember(password_in(known[name]) for name in ("endpoint", "proxy_url") if name in known)
    for key in options or {}:
        _check_name(key, side)
    for name, value in given.items():
        _check_use(f"{side} option {name}", name, value, side)
    if side == "target" and "conditional_put" in environment:
        _check_use("AWS_CONDITIONAL_PUT", "conditional_put", environment["conditional_put"], side)
    for name, value in (environment | given).items():
        where = f"{side} option {name}" if name in given else f"AWS_{name.upper()}"
        check_value(where, name, value)
        if "endpoint" in name:
            check_endpoint(where, value)

    config = {name: value for name, value in given.items() if name not in CLIENT_SETTINGS}
    if "endpoint" in given and "endpoint_url_s3" not in given and "endpoint_url_s3" in environment:
        # object_store prefers the narrower one, wherever that is from.
        config["endpoint_url_s3"] = given["endpoint"]
    if "default_region" in given and "region" not in given:
        config["region"] = config.pop("default_region")
    client = {name: value for name, value in given.items() if name in CLIENT_SETTINGS}
    if client:
        # obstore lets client settings replace those of the environment, all of them.
        client = {
            name: value for name, value in environment.items() if name in CLIENT_SETTINGS
        } | client
    config |= _told_by_name(bucket, environment | given)
    config = {f"aws_{name}": value for name, value in config.items()}
    return S3Settings(config, client, _notes(bucket, environment | given, side))


def _told_by_name(bucket: str, known: Mapping[str, str]) -> dict[str, str]:
    """Return what a bucket's name says, where no setting says anything else.

    A directory bucket has its zone in its name, and the zone an endpoint of its own.
    """
    told = bucket.endswith(_DIRECTORY_BUCKET) and not {"s3_express", "endpoint"} & set(known)
    return {"s3_express": "true"} if told else {}


def _name(key: str) -> str:
    name = key.lower().removeprefix("aws_")
    return _SYNONYMS.get(name, name)


def text_of(value: Any) -> str:
    """Return a setting's value as object_store takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def environment_settings() -> dict[str, str]:
    """Return the settings of S3 in the environment, by object_store's names."""
    found = {_name(key): value for key, value in os.environ.items() if key.startswith("AWS_")}
    return {name: value for name, value in found.items() if is_setting(name)}


def is_setting(name: str) -> bool:
    """Whether a name, of an option or an environment variable, is one of a setting of S3."""
    return _name(name) in SETTINGS | CLIENT_SETTINGS


def password_in(url: str) -> str:
    """Return the password in a URL, if there is one."""
    try:
        return unquote(urlsplit(url).password or "")
    except ValueError:
        return ""


def _check_name(key: str, side: str) -> None:
    name = _name(key)
    if name not in SETTINGS | CLIENT_SETTINGS:
        raise ValueError(
            f"{side} option {key}: no such configuration key of S3 (known: region, endpoint, "
            "skip_signature, allow_http, …: the names of object_store)"
        )
    if name == "bucket":
        raise ValueError(f"{side} option {key}: the URL names the bucket; leave it out")


def _check_use(where: str, name: str, value: str, side: str) -> None:
    """Refuse what could only be ignored."""
    customer = name == "server_side_encryption" and value.lower() == "sse-c"
    if side == "source" and (
        name in _OF_WRITING or (name == "server_side_encryption" and not customer)
    ):
        raise ValueError(f"{where} is about writing, and a source is only read; leave it out")
    if side == "target" and name == "conditional_put" and value.lower() != "etag":
        raise ValueError(
            f"{where} must be etag: without conditional writes commits can be lost; leave it out"
        )
    if side == "target" and name == "copy_if_not_exists":
        raise ValueError(f"{where}: nothing is copied within a repository; leave it out")


def check_value(where: str, name: str, value: str) -> None:
    """Refuse what no request can carry."""
    certificate = name == "proxy_ca_certificate"
    if not certificate and (
        value != value.strip() or not all(" " <= letter <= "~" for letter in value)
    ):
        raise AccessError(
            f"{where} holds a line break, or another character that no request can carry",
            "give it without spaces and line breaks at its ends; a file's last line break is often "
            "taken along",
        )


def check_endpoint(where: str, endpoint: str) -> None:
    """Refuse endpoints that are no URLs, or hold credentials, which object_store would repeat."""
    try:
        parts = urlsplit(endpoint)
        port = parts.port
    except ValueError:
        port = -1
    if port == -1 or "://" not in endpoint:
        raise ValueError(f"{where} is not a URL (https://host:port)")
    if "@" in parts.netloc:
        raise ValueError(
            f"{where}: credentials do not belong into a URL; use the options access_key_id "
            "and secret_access_key"
        )


def _notes(bucket: str, settings: Mapping[str, str], side: str) -> tuple[str, ...]:
    needed = [name for name in _OF_READERS if settings.get(name, "").lower() not in _OFF]
    endpoint = urlsplit(settings.get("endpoint_url_s3") or settings.get("endpoint") or "")
    virtual = settings.get("virtual_hosted_style_request", "").lower() not in _OFF
    if endpoint.hostname and virtual and not endpoint.hostname.startswith(f"{bucket}."):
        needed.append("virtual_hosted_style_request (the endpoint does not begin with the bucket)")
    notes: tuple[str, ...] = ()
    if side == "source" and settings.get("request_payer", "").lower() not in _OFF:
        notes = (_PAYER_NOTE,)
    if not needed:
        return notes
    what = "the references" if side == "source" else "the repository"
    note = (
        f"readers of {what} need settings of the {side} that Icechunk's configuration cannot hold: "
        f"{', '.join(needed)}"
    )
    return (*notes, note)
