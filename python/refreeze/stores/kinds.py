"""Which of obstore's classes a store is of: the one question that decides how it is spoken to.

What is done with each kind is decided by those who ask.
"""

from __future__ import annotations

from typing import Any

__all__ = ["kind_of"]

_KINDS = {"S3Store", "GCSStore", "AzureStore", "HTTPStore", "LocalStore", "MemoryStore"}

_OWN = {"list", "get", "head", "list_with_delimiter"}
"""Methods that make a subclass another kind of store, when it has its own."""


def kind_of(store: Any) -> str:
    """Return the name of obstore's class that a store is of, or of its own class.

    Parameters
    ----------
    store
        Any store. A subclass that lists or reads in its own way is no longer of obstore's kind.
    """
    for cls in type(store).__mro__:
        if cls.__name__ in _KINDS:
            return str(cls.__name__)
        if _OWN & set(vars(cls)):
            break
    return type(store).__name__
