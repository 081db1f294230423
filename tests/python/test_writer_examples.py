"""The examples of writing run as they stand there, and print what they say."""

import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("dask")

ROOT = Path(__file__).parents[2]

EXAMPLES = {
    "saver": ("appended: (6, 4)", "updated: [9, 9, 9, 7]", "overwritten: [1.5, 2.5]"),
    "safe_overwrite": ("warmer: 281.0", "refused: ", "plain: [2, 2, 2, 2, 2, 2, 2, 2]"),
    "template_regions": (
        "{'time': [72, 96], 'x': [0, 4]}",
        "4 files, 1 commit",
        "refused: 2024-01-01T00:30:00",
        "120 of 8784 hours",
    ),
    "virtual_regions": (
        "3 files in 1 commit",
        "6 references, 0 chunks copied",
        "the last hour is 71.0",
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, str(tmp_path)])
    runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    for text in EXAMPLES[name]:
        assert text in printed


def test_the_page_names_what_there_is():
    """Every name of refreeze in the table of names exists."""
    import re

    import refreeze

    page = (ROOT / "docs" / "coming-from.md").read_text()
    names = set(re.findall(r"refreeze\.([A-Za-z_]+)", page)) - {"exceptions"}
    assert names
    for name in names:
        assert hasattr(refreeze, name), name
    for link in re.findall(r"\]\(\.\./([^)]+)\)", page):
        assert (ROOT / link).exists(), link
