"""What no program could be quicker than: the physical limits that tables show.

Requests that are answered after a while, so many at a time, take their number times that while,
divided by how many are in flight. What is written goes through zstd, at the level that is used, on
as many cores as there are.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness import Endpoint

LEVEL = 1
"""Of manifests and logs, where a repository names none."""
_FRAME = bytes.fromhex("28b52ffd")
"""How a zstd frame begins, behind Icechunk's own header."""
_MOST = 40
"""Files that are compressed anew: of more, as many that are spread evenly stand for all."""


def least_seconds(endpoint: Endpoint, requests: float, target: Path) -> float:
    """Return the seconds below which no ingest of so many requests can end, as many in flight as were."""
    waiting = requests * endpoint.latency_ms / 1e3 / max(1, endpoint.stats()["max_in_flight"])
    # In a process of its own: the peak memory of a process that is started begins with that of the
    # one that starts it.
    command = [sys.executable, __file__, str(target)]
    compressing = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return max(waiting, float(compressing))


def _compressing(target: Path) -> float:
    """Return the seconds that zstd takes for the manifests and logs below `target`, on all cores."""
    from numcodecs.zstd import Zstd

    files = sorted(
        file for name in ("manifests", "transactions") for file in target.rglob(f"{name}/*")
    )
    chosen = files[:: -(-len(files) // _MOST) or 1]
    codec, seconds, seen = Zstd(level=LEVEL), 0.0, 0
    for file in chosen:
        stored = file.read_bytes()
        content = codec.decode(stored[stored.index(_FRAME) :])
        started = time.process_time()
        codec.encode(content)
        seconds += time.process_time() - started
        seen += len(stored)
    whole = sum(file.stat().st_size for file in files)
    return seconds * whole / max(1, seen) / (os.cpu_count() or 1)


if __name__ == "__main__":
    print(_compressing(Path(sys.argv[1])))
