"""Every code block of README and the site runs, or says why it does not.

A block is marked by a comment in the line above it: ``<!-- not run: needs a bucket -->``. Blocks of a page share
a folder, in which ``air.zarr`` lies, and what Python has defined. Every command must end well. What a page shows of
its output is written by ``UPDATE_DOCS=1``; the words themselves are held by `test_cli_snapshots`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from refreeze.cli.app import main

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
NAMED = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md"]
PAGES = [ROOT / name for name in NAMED] + sorted(DOCS.rglob("*.md"))
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>\S.*?) -->\n)?```(?P<language>[\w-]*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
TEXT = ("", "text")
FAR = re.compile(r"\b(s3|gs|gcs|az|abfss?)://")
"""What no test reaches; in README that is reason enough."""


@dataclass
class Block:
    """A code block of a page."""

    language: str
    code: str
    reason: str | None
    line: int
    span: tuple[int, int] = field(repr=False)


def blocks(page: Path) -> list[Block]:
    """Return the code blocks of a page."""
    text = page.read_text()
    return [
        Block(
            found["language"],
            found["code"],
            found["reason"],
            text[: found.start("code")].count("\n") + 1,
            found.span("code"),
        )
        for found in FENCE.finditer(text)
    ]


def test_there_are_blocks():
    """The pattern finds them: as many as there are fences."""
    for page in PAGES:
        fences = len(re.findall(r"^```", page.read_text(), re.MULTILINE))
        assert 2 * len(blocks(page)) == fences, page
    assert sum(len(blocks(page)) for page in PAGES) > 40


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Go to a folder with a small store, ``air.zarr``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    ones = np.ones((48, 4, 6), dtype="float32")
    data = xr.Dataset(
        {
            "t2m": (("time", "lat", "lon"), 280 + ones, {"units": "K"}),
            "wind": (("time", "lat", "lon"), 3 * ones, {"units": "m s-1"}),
        },
        {
            "time": ("time", np.arange(48), {"units": "days since 2026-01-01"}),
            "lat": np.arange(4.0),
            "lon": np.arange(6.0),
        },
    )
    chunks = {"chunks": (12, 4, 6)}
    data.to_zarr(
        "air.zarr", encoding={"t2m": chunks, "wind": chunks}, consolidated=False, zarr_format=3
    )
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_code_blocks(page, folder):
    """A page's blocks run one after another, as a reader would run them."""
    namespace: dict[str, Any] = {"__name__": "docs"}
    update = bool(os.environ.get("UPDATE_DOCS"))
    texts: list[tuple[tuple[int, int], str]] = []
    for block in blocks(page):
        if block.reason or block.language in TEXT:
            continue
        if page.name == "README.md" and FAR.search(block.code):
            continue
        where = f"{page.relative_to(ROOT)}:{block.line}"
        if block.language == "python":
            code = compile("\n" * block.line + block.code, str(page), "exec")
            exec(code, namespace)  # noqa: S102 the documentation's own code
        elif block.language in ("sh", "console"):
            shown = _commands(block, where, folder)
            if block.language == "console" and update:
                texts.append((block.span, shown))
        else:
            pytest.fail(f"{where}: nothing is known of {block.language}: mark it, or call it text")
    if texts:
        _write(page, texts)


def _commands(block: Block, where: str, folder: Path) -> str:
    """Run the commands of a block; return them with what they print."""
    said = []
    code = block.code
    if block.language == "console":
        code = "\n".join(line[2:] for line in code.splitlines() if line.startswith("$ "))
    for command in code.replace("\\\n", " ").splitlines():
        words = shlex.split(command, comments=True)
        if not words:
            continue
        assert words[0] == "refreeze", f"{where}: only refreeze is run: {command}"
        out = io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(out),
            pytest.raises(SystemExit) as ended,
        ):
            main(words[1:])
        assert not ended.value.code, f"{where}: {command}\n{out.getvalue()}"
        said.append(f"$ {command}\n{out.getvalue().replace(f'{folder}/', '')}")
    text = "".join(said).replace(str(folder), ".")
    return "\n".join(line.rstrip() for line in text.rstrip().splitlines()) + "\n"


def _write(page: Path, texts: list[tuple[tuple[int, int], str]]) -> None:
    whole = page.read_text()
    for (start, stop), text in reversed(texts):
        whole = whole[:start] + text + whole[stop:]
    page.write_text(whole)


@pytest.mark.parametrize("notebook", sorted(DOCS.rglob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks(notebook, tmp_path):
    """Every cell runs, in a new kernel and an empty folder."""
    import nbformat
    from nbclient import NotebookClient

    nodes = nbformat.read(notebook, as_version=4)
    client = NotebookClient(
        nodes, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    assert any(cell["cell_type"] == "code" for cell in nodes["cells"])
