"""Which settings of stores are found where, by name alone, and what is found that nobody reads.

For `refreeze doctor`. What settings mean is decided in ``s3_settings`` and ``cloud_settings``; no value
is looked at here beyond whether it is empty.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from refreeze.stores import s3_settings
from refreeze.stores.cloud_settings import AZURE, GOOGLE, is_setting

__all__ = ["FoundSettings", "found_settings", "unread_profiles"]

_OF_NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE")
"""Variables that the HTTP client reads by itself, in either case."""


@dataclass(frozen=True)
class FoundSettings:
    """Names of what is set."""

    read: tuple[str, ...]
    """Environment variables that object_store, or refreeze, obeys."""
    unread: tuple[str, ...]
    """Variables that look like settings of stores, and are read by other tools only."""


def found_settings() -> FoundSettings:
    """Return the names of the settings in the environment."""
    read: list[str] = []
    unread: list[str] = []
    for name in sorted(os.environ):
        upper = name.upper()
        if name.startswith("AWS_"):
            known = s3_settings.is_setting(name)
        elif name.startswith("GOOGLE_"):
            known = is_setting(GOOGLE, name)
        elif name.startswith("AZURE_"):
            known = is_setting(AZURE, name)
        elif upper in _OF_NETWORK or name.startswith("REFREEZE_"):
            known = True
        else:
            continue
        (read if known else unread).append(name)
    return FoundSettings(tuple(read), tuple(unread))


def unread_profiles() -> list[str]:
    """Return the files of AWS profiles, which object_store does not read, where nothing else is set."""
    if {"access_key_id", "skip_signature", "web_identity_token_file"} & set(
        s3_settings.environment_settings()
    ):
        return []
    folder = Path(os.path.expanduser("~")) / ".aws"  # noqa: PTH111 no home is no error
    return [f"~/.aws/{name}" for name in ("credentials", "config") if (folder / name).is_file()]
