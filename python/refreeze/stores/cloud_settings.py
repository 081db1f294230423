"""Settings of stores on Google Cloud and Azure from options and environment: obeyed, or refused by name.

object_store knows what each of them means. Here is decided which one wins, and which have to be
said because readers of a repository cannot find them in it. Those of S3 are in ``s3_settings``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from refreeze.shown import remember
from refreeze.stores.s3_settings import (
    CLIENT_SETTINGS,
    S3Settings,
    check_endpoint,
    check_value,
    password_in,
    text_of,
)

__all__ = [
    "AZURE",
    "GOOGLE",
    "CloudService",
    "cloud_settings",
    "environment_settings",
    "has_credentials",
    "is_setting",
    "public_settings",
]


@dataclass(frozen=True)
class CloudService:
    """The names of a service's settings."""

    name: str
    """For messages."""
    prefix: str
    """Of environment variables, in lower case."""
    settings: Mapping[str, str]
    """object_store's name by every name that a setting has without the prefix."""
    secrets: tuple[str, ...]
    """Settings whose values are shown nowhere."""
    credentials: frozenset[str]
    """Settings that say who asks."""
    of_url: frozenset[str]
    """Settings that the URL says."""
    endpoint: str
    """The setting that says where the service is."""
    example: str
    """Settings to name in a message."""


def _names(*names: str, **synonyms: str) -> dict[str, str]:
    return {name: name for name in names} | synonyms


GOOGLE = CloudService(
    name="Google Cloud Storage",
    prefix="google_",
    settings=_names(
        "application_credentials",
        "base_url",
        "bearer_token",
        "bucket",
        "service_account",
        "service_account_key",
        "skip_signature",
        bucket_name="bucket",
        endpoint="base_url",
        service_account_path="service_account",
    ),
    secrets=("bearer_token", "service_account_key"),
    credentials=frozenset(
        {"application_credentials", "bearer_token", "service_account", "service_account_key"}
    ),
    of_url=frozenset({"bucket"}),
    endpoint="base_url",
    example="service_account, base_url, skip_signature",
)

AZURE = CloudService(
    name="Azure",
    prefix="azure_",
    settings=_names(
        "account_name",
        "account_key",
        "authority_host",
        "client_id",
        "client_secret",
        "container_name",
        "credential_type",
        "disable_tagging",
        "encryption_key",
        "endpoint",
        "fabric_cluster_identifier",
        "fabric_session_token",
        "fabric_token_service_url",
        "fabric_workload_host",
        "federated_token_file",
        "msi_endpoint",
        "msi_resource_id",
        "object_id",
        "sas_key",
        "skip_signature",
        "tenant_id",
        "token",
        "use_azure_cli",
        "use_emulator",
        "use_fabric_endpoint",
        access_key="account_key",
        account="account_name",
        authority_id="tenant_id",
        bearer_token="token",  # noqa: S106 (a name)
        identity_endpoint="msi_endpoint",
        master_key="account_key",
        sas_token="sas_key",  # noqa: S106 (a name)
    ),
    secrets=(
        "account_key",
        "client_secret",
        "encryption_key",
        "fabric_session_token",
        "sas_key",
        "token",
    ),
    credentials=frozenset(
        {
            "account_key",
            "client_id",
            "client_secret",
            "credential_type",
            "fabric_session_token",
            "federated_token_file",
            "msi_endpoint",
            "sas_key",
            "token",
            "use_azure_cli",
            "use_emulator",
        }
    ),
    of_url=frozenset({"container_name"}),
    endpoint="endpoint",
    example="account_name, account_key, sas_token, endpoint, skip_signature",
)

_OF_READERS = ("allow_invalid_certificates", "disable_system_certificates", "encryption_key")
"""What readers need too, and Icechunk's stored configuration has no place for."""

_OFF = {"", "0", "false", "off", "no", "n"}


def cloud_settings(
    service: CloudService,
    bucket: str,
    options: Mapping[str, Any] | None,
    from_url: Mapping[str, str],
    side: str,
) -> S3Settings:
    """Resolve the settings of a bucket or container.

    Parameters
    ----------
    service
        ``GOOGLE`` or ``AZURE``.
    bucket
        Its name, as the URL has it.
    options
        Given by the user, in object_store's names; they take precedence over the environment.
    from_url
        What the URL says beside the bucket, such as ``account_name``; options come before it.
    side
        ``source`` or ``target``, for messages.

    Raises
    ------
    ValueError
        A setting that is not known, that the URL says, or that is no URL; no account of Azure.
    AccessError
        A value that no request can carry, such as a key with a line break.
    """
    given = {_name(service, key): text_of(value) for key, value in (options or {}).items()}
    environment = environment_settings(service)
    # Before anything can go wrong: what goes wrong may be told with the values.
    for known in (environment, given, from_url):
        for name in service.secrets:
            remember(_secrets_in(name, known.get(name, "")))
        remember(
            password_in(known[name]) for name in (service.endpoint, "proxy_url") if name in known
        )
    for key in options or {}:
        _check_name(service, key, side)
    together = environment | dict(from_url) | given
    for name, value in together.items():
        where = (
            f"{side} option {name}" if name in given else f"{service.prefix.upper()}{name.upper()}"
        )
        if name != "service_account_key":
            check_value(where, name, value)
        if name == service.endpoint:
            check_endpoint(where, value)
    if service is AZURE and not (
        together.get("account_name") or together.get("use_emulator", "").lower() not in _OFF
    ):
        raise ValueError(
            f"the {side} az://{bucket} needs the name of its storage account: set "
            f"--{side}-option account_name=… or AZURE_STORAGE_ACCOUNT_NAME"
        )
    settings = dict(from_url) | given
    config = {
        f"{service.prefix}{_written(service, name)}": value
        for name, value in settings.items()
        if name not in CLIENT_SETTINGS
    }
    client = {name: value for name, value in settings.items() if name in CLIENT_SETTINGS}
    if client:
        # obstore lets client settings replace those of the environment, all of them.
        client = {
            name: value for name, value in environment.items() if name in CLIENT_SETTINGS
        } | client
    return S3Settings(config, client, _notes(together, side))


def _check_name(service: CloudService, key: str, side: str) -> None:
    name = _name(service, key)
    if name not in service.settings and name not in CLIENT_SETTINGS:
        raise ValueError(
            f"{side} option {key}: no such configuration key of {service.name} (known: "
            f"{service.example}, …: the names of object_store)"
        )
    if name in service.of_url:
        raise ValueError(f"{side} option {key}: the URL names it; leave it out")


def public_settings(scheme: str, options: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the settings that are no secrets, of ``gs`` or ``az``; URLs without passwords."""
    service = GOOGLE if scheme == "gs" else AZURE
    given = {_name(service, key): text_of(value) for key, value in (options or {}).items()}
    together = environment_settings(service) | given
    shown = {}
    for name, value in together.items():
        if name in service.secrets or name in service.credentials:
            continue
        password = password_in(value) if "://" in value else ""
        shown[name] = value.replace(f":{password}@", "@") if password else value
    return shown


def has_credentials(service: CloudService, options: Mapping[str, Any] | None) -> bool:
    """Whether options or environment say who asks."""
    given = {_name(service, key) for key in options or {}}
    found = {name for name, value in environment_settings(service).items() if value}
    return bool((given | found) & (service.credentials | {"skip_signature"}))


def _name(service: CloudService, key: str) -> str:
    name = key.lower().removeprefix(service.prefix)
    if service is AZURE:
        name = name.removeprefix("storage_")
    return service.settings.get(name, name)


def _written(service: CloudService, name: str) -> str:
    """Return the name under which object_store knows a setting behind the service's prefix."""
    of_storage = {
        "account_name",
        "account_key",
        "sas_key",
        "token",
        "endpoint",
        "use_emulator",
        "encryption_key",
        "client_id",
        "client_secret",
        "tenant_id",
        "authority_host",
    }
    return f"storage_{name}" if service is AZURE and name in of_storage else name


def environment_settings(service: CloudService) -> dict[str, str]:
    """Return the settings of a service in the environment, by object_store's names."""
    prefix = service.prefix.upper()
    found = {
        _name(service, key): value for key, value in os.environ.items() if key.startswith(prefix)
    }
    return {name: value for name, value in found.items() if is_setting(service, name)}


def is_setting(service: CloudService, name: str) -> bool:
    """Whether a name, of an option or an environment variable, is one of a setting."""
    return _name(service, name) in {*service.settings.values(), *CLIENT_SETTINGS}


def _secrets_in(name: str, value: str) -> list[str]:
    """Return what of a setting must not be shown: all of it, and the signature of a SAS by itself."""
    if name == "sas_key":
        return [value, *(text for key, text in parse_qsl(value.lstrip("?")) if key == "sig")]
    if name == "service_account_key" and not value.lstrip().startswith("{") and len(value) < 300:  # noqa: PLR2004
        # object_store wants the document, and people give the file's name.
        return [] if Path(value).is_file() else [value]
    return [value]


def _notes(settings: Mapping[str, str], side: str) -> tuple[str, ...]:
    needed = [name for name in _OF_READERS if settings.get(name, "").lower() not in _OFF]
    if not needed:
        return ()
    what = "the references" if side == "source" else "the repository"
    note = (
        f"readers of {what} need settings of the {side} that Icechunk's configuration cannot hold: "
        f"{', '.join(needed)}"
    )
    return (note,)
