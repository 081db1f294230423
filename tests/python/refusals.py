"""Ingests that are refused: the class of the error, its built-in base, its words and a hint."""

import pytest

import refreeze
from refreeze.exceptions import (
    AccessError,
    AlreadyExistsError,
    ListingError,
    SourceNotFoundError,
    TargetError,
    UnsupportedArrayError,
)

BUILT_IN = {
    AccessError: PermissionError,
    AlreadyExistsError: FileExistsError,
    ListingError: OSError,
    SourceNotFoundError: FileNotFoundError,
    TargetError: OSError,
    UnsupportedArrayError: ValueError,
}


def fails(kind, *parts, source, target, **options):
    """Ingest, and check the error: its class and built-in base, its words, and that it has a hint."""
    with pytest.raises(kind) as raised:
        refreeze.ingest(source, target, **options)
    error = raised.value
    assert type(error) is kind
    assert isinstance(error, BUILT_IN[kind])
    for part in parts:
        assert str(part) in error.message, error.message
    assert "\n" not in error.message
    assert not error.message.endswith(".")
    assert error.hint
    return error
