"""Says where the CPU time of an ingest goes: ``make bench-profile``.

Runs the ingest of a synthetic array under ``perf`` (Linux; it must be allowed to sample one's own
processes) with an extension that has its symbols, and adds the samples up by what their functions
do. ``--top N`` also lists the functions.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from harness import ROOT, WORKER, Endpoint, dense

STAGES = {
    "Python: start, imports, metadata": r"^(python|_Py|Py|.*\.so\.python)|zend|python3",
    "compressing manifests and logs": r"ZSTD|HUF_|FSE_|zstd",
    "page scan (`source/xml`)": r"source::xml|memchr|source::page",
    "judging pages, ranks, records (`list`)": r"refreeze::(list|rank|rank_region|decimal|key)\b|arrow_",
    "references (`batch`)": r"refreeze::batch",
    "sorting": r"core::slice::sort",
    "writing manifests and logs (`manifest`, `commit`)": r"refreeze::(manifest|container|flat|files|commit)",
    "hashing and signing": r"sha2|hmac|ring::|aws_lc|blake|digest",
    "HTTP, async runtime, TLS": r"hyper|reqwest|tokio|h2::|http::|object_store|tower|mio|bytes::",
    "Icechunk": r"icechunk",
    "copying and allocating memory": r"mem(cpy|move|set|cmp)|malloc|free|realloc|_int_",
}
"""By the names of functions, the first that fits."""


def stage_of(library: str, function: str) -> str:
    """Return the stage that a sample belongs to."""
    if "kernel" in library or "vdso" in library:
        return "kernel: sockets, pages of memory, files"
    if re.search(r"python3|libpython|numpy|\.cpython-", library):
        return next(iter(STAGES))
    for stage, pattern in STAGES.items():
        if re.search(pattern, function):
            return stage
    return "other"


def main() -> None:
    """Record, add up, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--millions", type=float, default=10)
    parser.add_argument("--package", type=Path, default=ROOT / "target" / "bench-profiling")
    parser.add_argument("--task", default="refreeze_ingest", help="of worker.py")
    parser.add_argument("--top", type=int, default=0, help="also so many functions")
    options = parser.parse_args()
    array = dense([round(options.millions * 1_000), 10, 100])
    with Endpoint([array]) as endpoint, tempfile.TemporaryDirectory() as folder:
        arguments: dict[str, object] = {"url": endpoint.url}
        if options.task == "refreeze_ingest":
            arguments |= {"target": f"{folder}/repo", "options": {}}
        else:
            arguments |= {"array": array["prefix"]}
        data = f"{folder}/perf.data"
        record = ["perf", "record", "--freq", "499", "--output", data, "--"]
        worker = [sys.executable, str(WORKER), options.task, json.dumps(arguments)]
        environment = {**os.environ, "PYTHONPATH": str(options.package), "ICECHUNK_LOG": "error"}
        subprocess.run([*record, *worker], check=True, env=environment, stdout=sys.stderr)
        script = ["perf", "script", "--input", data, "--fields", "period,ip,sym,dso"]
        samples = subprocess.run(script, check=True, capture_output=True, text=True).stdout
    stages: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for line in samples.splitlines():
        found = re.match(r"\s*(\d+)\s+[0-9a-f]+\s+(.*?)\s+\(([^()]*)\)$", line)
        if found is None:
            continue
        period, function, library = int(found[1]), found[2], found[3]
        stages[stage_of(library, function)] += period
        functions[f"{Path(library).name}: {function}"] += period
    total = stages.total()
    print(f"| `{options.task}`, {options.millions:g} M chunks | CPU |\n|---|--:|")
    for stage, period in stages.most_common():
        print(f"| {stage} | {period / total:.1%} |")
    for function, period in functions.most_common(options.top):
        print(f"{period / total:7.2%}  {function}")


if __name__ == "__main__":
    main()
