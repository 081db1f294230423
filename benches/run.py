"""Runs the benchmarks and prints their tables: ``make bench`` and ``make bench-full``.

Results go to stdout as Markdown, and with ``--output NAME`` to NAME.md and NAME.json as well. The
exit code is 1 when a ratio does not hold. ``--scale 0.01`` shows in a minute that everything works.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import comparisons
from compression import compression
from formats import formats
from harness import Bench, Endpoint, parser_of
from in_flight import in_flight
from sources import clouds, files, many_arrays
from start import start
from tables import as_json, heading, machine, markdown

QUICK = {
    "start": start,
    **comparisons.QUICK,
    "in-flight": in_flight,
    "clouds": clouds,
    "many": many_arrays,
    "files": files,
}
FULL = QUICK | {
    **comparisons.FULL,
    "formats": formats,
    "compression": compression,
}


def main() -> int:
    """Run what is asked for."""
    parser = parser_of(__doc__)
    parser.add_argument("--full", action="store_true", help="all scenarios, larger: an hour")
    parser.add_argument("--only", default="", help=f"some of {','.join(FULL)}")
    parser.add_argument("--runs", type=int, default=3, help="of each, where they are quick")
    parser.add_argument("--output", type=Path, help="beginning of the names of two files")
    options = parser.parse_args()
    chosen = FULL if options.full or options.only else QUICK
    names = [name for name in options.only.split(",") if name] or list(chosen)
    if unknown := set(names) - set(chosen):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    Endpoint.binary = options.endpoint
    os.environ["ICECHUNK_LOG"] = "error"  # it warns of every repository on local disk
    found, load = machine(), os.getloadavg()[0]
    command = "make bench-full" if options.full else "make bench"
    # What the targets of make say by themselves is not repeated.
    own = {"--full", "--output", str(options.output)}
    given = [word for word in sys.argv[1:] if word not in own]
    if given:
        command += f' ARGS="{shlex.join(given)}"'
    lines = list(heading(found, command, load))
    print(*lines, sep="\n", flush=True)
    bench = Bench(options.package, options.runs, options.scale)
    sections = []
    for name in names:
        section = chosen[name](bench, options.full)
        sections.append(section)
        text = list(markdown(section))
        lines += text
        print(*text, sep="\n", flush=True)
        if options.output:
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.with_suffix(".md").write_text("\n".join(lines) + "\n")
            results = {**found, "load": load, "command": command, "sections": as_json(sections)}
            options.output.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")
    missed = [check for section in sections for check in section.checks if not check.holds]
    return 1 if missed and options.scale == 1 else 0


if __name__ == "__main__":
    sys.exit(main())
