"""`ZarrConverter`: options given once, for people who come from zarrio. A thin holder, no more."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from refreeze.writer.template import create_template
from refreeze.writer.write_region import write_region

if TYPE_CHECKING:
    from refreeze.writer.report import WriteReport

__all__ = ["ZarrConverter"]


def _options(function: Any) -> frozenset[str]:
    parameters = inspect.signature(function).parameters.values()
    return frozenset(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


_TEMPLATE = _options(create_template)
_REGION = _options(write_region)


class ZarrConverter:
    """Holds options of `create_template` and `write_region`.

    Parameters
    ----------
    **defaults
        Options of either; each function gets those that it knows.

    Raises
    ------
    TypeError
        Neither function has an option of a name.
    """

    def __init__(self, **defaults: Any) -> None:
        _refuse_unknown(defaults, _TEMPLATE | _REGION, "ZarrConverter")
        self._defaults = defaults

    def __repr__(self) -> str:
        return f"ZarrConverter({', '.join(sorted(self._defaults))})"

    def create_template(
        self, template_dataset: Any, output_path: Any, **options: Any
    ) -> WriteReport:
        """Create an archive without data; see `refreeze.create_template`."""
        return create_template(
            template_dataset, output_path, **self._with(options, _TEMPLATE, "create_template")
        )

    def write_region(
        self, input_file: Any, zarr_path: Any, region: Any = None, **options: Any
    ) -> WriteReport:
        """Write a file into its place; see `refreeze.write_region`."""
        if region is not None:
            options["region"] = region
        return write_region(input_file, zarr_path, **self._with(options, _REGION, "write_region"))

    def _with(self, options: dict[str, Any], known: frozenset[str], where: str) -> dict[str, Any]:
        _refuse_unknown(options, known, where)
        held = {name: value for name, value in self._defaults.items() if name in known}
        return {**held, **options}


def _refuse_unknown(options: dict[str, Any], known: frozenset[str], where: str) -> None:
    for name in options:
        if name not in known:
            raise TypeError(
                f"{where}() got an unexpected keyword argument {name!r} (known: "
                f"{', '.join(sorted(known))})"
            )
