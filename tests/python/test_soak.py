"""Hundreds of commits by one process: memory and time do not grow with them.

``make test-soak`` makes 300 and shows the figures; the suite makes a few, whose memory is looked at.
"""

import os
import sys
import time
from pathlib import Path

import pytest

import refreeze
from modes_for_tests import grow, rewrite, write

COMMITS = int(os.environ.get("REFREEZE_SOAK", "16"))
WARM = max(COMMITS // 4, 6)
"""Commits after which caches and arenas are as large as they get."""
ALLOWED = 24 << 20
"""Bytes that the process may grow by from then on."""


def resident():
    """Return the bytes that the process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_commits_of_one_process(tmp_path, capsys):
    """Appends and syncs in turn, of a source that grows and changes; afterwards the target is equal."""
    folder, target = write(tmp_path / "a", 0, 12, names=("air", "wind")), tmp_path / "t"
    refreeze.ingest(folder, target)
    sizes, times = [], []
    for number in range(COMMITS):
        if number % 2:
            rewrite(folder, "air", slice(number % 9, number % 9 + 1), float(number))
        else:
            days = 12 + number // 2
            grow(folder, 0, days, days + 1)
        started = time.monotonic()
        if number % 2:
            report = refreeze.sync(folder, target)
            assert report.published
        else:
            assert refreeze.ingest(folder, target, mode="append", append_dim="time").published
        times.append(time.monotonic() - started)
        sizes.append(resident())
    grown = max(sizes[WARM:]) - sizes[WARM - 1]
    with capsys.disabled():
        first, last = (sum(part) / len(part) for part in (times[:WARM], times[-WARM:]))
        sys.stdout.write(
            f"\n{COMMITS} commits: {sizes[WARM - 1] >> 20} MiB after {WARM}, {max(sizes) >> 20} MiB "
            f"at most; {first:.2f} s a commit at first, {last:.2f} s at last\n"
        )
    assert refreeze.verify(folder, target).equal
    assert grown < ALLOWED, sizes
