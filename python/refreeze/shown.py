"""What of a text may be shown, in errors, logs and reports: the core decides, Python asks it.

Secrets are taken out, control characters become escapes, long texts are cut in the middle.
"""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any

from refreeze._refreeze import error_line, redact, remember_secrets, shown_text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

__all__ = ["ShownFormatter", "cleaned", "one_line", "redacted", "remember", "shown"]


def shown(text: str) -> str:
    """Return a text as a message shows it: one line, without secrets, not too long."""
    return shown_text(_plain(text))


def one_line(error: BaseException) -> str:
    """Return one line of what a library's error says, without the body of a server's answer."""
    return error_line(_plain(str(error).strip())) or type(error).__name__


def redacted(value: Any) -> Any:
    """Return a value of JSON without secrets in its texts."""
    if isinstance(value, str):
        return redact(_plain(value))
    if isinstance(value, dict):
        return {redacted(key): redacted(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(each) for each in value]
    return value


def remember(secrets: Iterable[str]) -> None:
    """Take note of values that must not be shown from now on."""
    remember_secrets([_plain(secret) for secret in secrets])


def cleaned[E: BaseException](error: E) -> E:
    """Return an error whose text, and that of all its causes, is what may be shown.

    Errors of stores repeat what a server has said, which may be the request with all its headers;
    they are kept as causes of ours, for their tracebacks. Ask for `one_line` before: a text that was
    cleaned no longer tells a known document from any other.
    """
    each: BaseException | None = error
    seen: set[int] = set()
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        if len(each.args) == 1 and isinstance(each.args[0], str):
            each.args = (one_line(each),)
        each = each.__cause__ or each.__context__
    return error


class ShownFormatter(logging.Formatter):
    """Formats log records; whoever wrote them, no secret is in them."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record, its traceback included."""
        return redact(_plain(super().format(record)))

    def formatException(  # noqa: N802 the name that logging calls
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        """Format a traceback; of each error, what may be shown."""
        parts: list[str] = []
        error, seen = ei[1], set[int]()
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            frames = "".join(traceback.format_tb(error.__traceback__))
            parts.insert(0, f"{frames}{type(error).__name__}: {one_line(error)}")
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\n\nthat led to:\n\n".join(parts)


def _plain(text: str) -> str:
    """Return a text that UTF-8 can write: lone surrogates become escapes."""
    return text.encode("utf-8", "backslashreplace").decode()
