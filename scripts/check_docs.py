"""Check that every public name is documented: each function's parameters, each class, each field of a report.

What the site shows of Python is made from docstrings, so that a missing one would be an empty place there.
That links lead somewhere is mkdocs' business (`make docs`), that code blocks run that of the tests.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any

import refreeze
from refreeze import exceptions


def problems() -> Iterator[str]:
    """Yield what is not documented."""
    for name in refreeze.__all__:
        value = getattr(refreeze, name)
        if inspect.ismodule(value) or isinstance(value, str):
            continue
        text = inspect.getdoc(value) or ""
        if not text:
            yield f"refreeze.{name} has no docstring"
        elif inspect.isclass(value):
            yield from _of_class(f"refreeze.{name}", value)
        else:
            yield from _of_function(f"refreeze.{name}", value, text)
    for name in exceptions.__all__:
        if not getattr(exceptions, name).__doc__:
            yield f"refreeze.exceptions.{name} has no docstring"


def _of_function(name: str, function: Any, text: str) -> Iterator[str]:
    """Yield parameters that the text does not name: by themselves, or among others that are alike."""
    words = set(re.findall(r"\w+", text.partition("Parameters\n")[2]))
    for parameter in inspect.signature(function).parameters:
        if parameter not in words:
            yield f"{name}: the parameter {parameter} is not documented"


def _of_class(name: str, value: type) -> Iterator[str]:
    for member, inner in vars(value).items():
        public = not member.startswith("_") and callable(getattr(inner, "__func__", inner))
        if public and not inspect.getdoc(inner):
            yield f"{name}.{member} has no docstring"


def main() -> int:
    """Print what is not documented, and return the exit code."""
    found = list(problems())
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
