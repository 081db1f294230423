"""What is shipped beside the code: completion for shells, extras, the container."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell):
    """A shell that asks is told the verbs that begin as the word does."""
    asked = {
        "bash": {"COMP_WORDS": "refreeze cov", "COMP_CWORD": "1"},
        "zsh": {"_TYPER_COMPLETE_ARGS": "refreeze cov"},
        "fish": {"_TYPER_COMPLETE_ARGS": "refreeze cov", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    done = subprocess.run(
        [sys.executable, "-m", "refreeze"],
        env={"_REFREEZE_COMPLETE": f"complete_{shell}", "PATH": "", **asked},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "coverage" in done.stdout, done
    assert "ingest" not in done.stdout


def test_the_extras_that_are_documented():
    """The table of extras has each one that there is, and no other."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    table = (ROOT / "docs/how-to/install.md").read_text().partition("## Extras")[2]
    table = table.partition("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert sorted(documented) == sorted(project["optional-dependencies"])


def test_the_container():
    """It takes the wheel, runs as nobody's user, and its entry point is the command."""
    text = (ROOT / "Containerfile").read_text()
    assert "COPY dist/refreeze-*.whl" in text
    assert re.search(r"^USER refreeze$", text, re.MULTILINE)
    assert 'ENTRYPOINT ["refreeze"]' in text
