"""What is shipped beside the code: completion for shells, extras, the container."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))


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


def test_every_step_of_the_container_is_tried():
    """`make smoke` executes the instructions that there are; one that it does not know is an error."""
    import try_container

    steps = try_container.instructions((ROOT / "Containerfile").read_text())
    assert [name for name, _ in steps] == [
        "FROM",
        "COPY",
        "RUN",
        "USER",
        "WORKDIR",
        "ENTRYPOINT",
        "CMD",
    ]
    run = dict(steps)["RUN"]
    assert "useradd" in run
    subprocess.run(["/bin/sh", "-n", "-c", run], check=True)
    with pytest.raises(ValueError, match="VOLUME"):
        try_container.instructions("FROM x\nVOLUME /data\n")


@pytest.mark.parametrize("name", ["kubernetes_indexed_job.yaml", "slurm_array.sh"])
def test_commands_of_the_examples(name):
    """Each command in them is a verb with options that it has, and the files are what they seem."""
    import yaml
    from typer.main import get_command

    from refreeze.cli.app import app

    text = (ROOT / "examples" / name).read_text()
    if name.endswith(".yaml"):
        job = yaml.safe_load(text)
        assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
        container = job["spec"]["template"]["spec"]["containers"][0]
        assert container["resources"]["limits"]["memory"]
    else:
        subprocess.run(["/bin/bash", "-n", str(ROOT / "examples" / name)], check=True)
    verbs = get_command(app).commands
    found = re.findall(r"\brefreeze ([a-z]+) ([^\n]*)", text)
    assert {verb for verb, _ in found} >= {"plan", "work", "commit"}
    # Comments speak of refreeze too, in words that are no verbs.
    for verb, words in found:
        if verb not in verbs:
            assert "--" not in words
            continue
        known = {option for parameter in verbs[verb].params for option in parameter.opts}
        assert set(re.findall(r"(?<!\S)--[a-z-]+", words.partition(";")[0])) <= known, words
