"""How results look: Markdown for people, JSON for programs, both with what they were measured on."""

from __future__ import annotations

import dataclasses
import os
import platform
import subprocess
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from harness import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sections import Section

COLUMNS: dict[str, tuple[str, str]] = {
    "runs": ("runs", "{:.0f}"),
    "wall": ("wall s", "{:.2f}"),
    "cpu": ("CPU s", "{:.2f}"),
    "us_per_ref": ("wall µs a reference", "{:.2f}"),
    "us_cpu": ("CPU µs a reference", "{:.2f}"),
    "us_per_key": ("CPU µs a key", "{:.2f}"),
    "rss": ("peak MB", "MB"),
    "list_requests": ("LIST requests", "{:,.0f}"),
    "most_in_flight": ("most in flight", "{:,.0f}"),
    "refused": ("refused", "{:,.0f}"),
    "limit_s": ("physical limit, s", "{:.2f}"),
    "share": ("share reached", "{:.0%}"),
    "keys_per_s": ("keys/s", "{:,.0f}"),
    "references": ("references", "{:,.0f}"),
    "repo_bytes": ("MB written", "MB.1"),
    "manifest_bytes": ("MB of manifests", "MB.1"),
    "requests_per_array": ("requests an array", "{:.2f}"),
    "commits": ("commits", "{:.0f}"),
    "manifests": ("manifests", "{:.0f}"),
    "amplification": ("write amplification", "{:.2f}"),
    "appends": ("appends", "{:.0f}"),
    "first_s": ("first s", "{:.3f}"),
    "median_s": ("median s", "{:.3f}"),
    "last_s": ("last s", "{:.3f}"),
    "first_bytes": ("first MB", "MB.3"),
    "last_bytes": ("last MB", "MB.3"),
    "seconds": ("s to the first chunk", "{:.3f}"),
    "get_requests": ("GET requests", "{:,.0f}"),
    "get_bytes": ("MB fetched", "MB.2"),
}
"""Of the figures that a section may show: heading, and how a value is written."""


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    _, form = COLUMNS[name]
    if form.startswith("MB"):
        return f"{value / 1e6:,.{form.partition('.')[2] or 0}f}"
    return form.format(value)


def machine() -> dict[str, Any]:
    """Return what the figures depend on besides the program."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    model = ""
    with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
        model = next((ln.split(":")[1].strip() for ln in lines if ln.startswith("model name")), "")
    packages = ("icechunk", "virtualizarr", "obstore", "zarr", "numpy")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {model}",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": commit,
        "versions": {name: version(name) for name in packages},
    }


def markdown(section: Section) -> Iterator[str]:
    """Yield the lines of a section."""
    yield f"### {section.title}\n"
    yield "| case | tool | " + " | ".join(COLUMNS[name][0] for name in section.columns) + " |"
    yield "|---|---|" + "--:|" * len(section.columns)
    for row in section.rows:
        cells = " | ".join(_cell(name, row.get(name)) for name in section.columns)
        yield f"| {row['case']} | {row['tool']} | {cells} |"
    if section.checks:
        yield "\n| ratio or figure | measured | must be | |\n|---|--:|--:|---|"
    for check in section.checks:
        sign = "≥" if check.at_least else "≤"
        verdict = "holds" if check.holds else "**does not hold**"
        yield f"| {check.what} | {check.value:,.2f} | {sign} {check.target:,g} | {verdict} |"
    for note in section.notes:
        yield f"\n{note}"
    yield ""


def heading(found: dict[str, Any], command: str, load: float) -> Iterator[str]:
    """Yield the lines before the sections."""
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    yield (
        f"`{command}` printed this on {found['date']}: refreeze {found['commit']}, {versions}, "
        f"Python {found['python']}; {found['machine']}; {found['system']}. Whole processes, timed "
        f"from outside, medians of runs that take turns. The endpoint runs on the same cores "
        f"(load before the first run: {load:.1f}).\n"
    )


def as_json(sections: list[Section]) -> list[dict[str, Any]]:
    """Return the sections as plain data."""
    return [
        dataclasses.asdict(section)
        | {"checks": [dataclasses.asdict(c) | {"holds": c.holds} for c in section.checks]}
        for section in sections
    ]
