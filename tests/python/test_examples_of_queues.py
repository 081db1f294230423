"""The complete examples of batch queues do what they say, with a scheduler that is a few lines of shell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import refreeze
from crews_for_tests import references, store_of

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

SBATCH = """#!/bin/bash
# Runs each task of the array at once.
while [ $# -gt 0 ]; do
    case "$1" in
        --array) range=$2; shift;;
        --wrap) wrapped=$2; shift;;
    esac
    shift
done
range=${range:-0-0}
for task in $(seq "${range%-*}" "${range#*-}"); do
    SLURM_ARRAY_TASK_ID=$task bash -c "$wrapped" >&2 || exit 1
done
echo 17
"""


def test_the_slurm_array(tmp_path: Path) -> None:
    """The script begins, does all parts and publishes."""
    source, target = store_of(tmp_path), tmp_path / "t.icechunk"
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "sbatch").write_text(SBATCH)
    (tools / "refreeze").write_text(f'#!/bin/bash\nexec "{sys.executable}" -m refreeze "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "SOURCE": str(source),
        "TARGET": str(target),
        "PARTS": "2",
        "RUN": str(tmp_path / "run.json"),
    }
    script = EXAMPLES / "slurm_array.sh"
    ended = subprocess.run(
        ["/bin/bash", str(script)], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    whole = tmp_path / "whole.icechunk"
    refreeze.ingest(str(source), str(whole))
    assert references(target) == references(whole)


def test_the_kubernetes_job() -> None:
    """Its command is a part of work, as many as there are completions."""
    text = (EXAMPLES / "kubernetes_indexed_job.yaml").read_text()
    assert "completions: 64" in text
    assert "refreeze work /run/refreeze/run.json --part $JOB_COMPLETION_INDEX/64" in text
