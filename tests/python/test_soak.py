"""Hundreds of commits by one process, and millions of references through faults: memory and time do not grow with them.

``make test-soak`` makes 300 commits and ten million references and shows the figures; the suite makes a few, whose memory
is looked at.
"""

import os
import sys
import time
from pathlib import Path

import pytest

import refreeze
from endpoint import array
from modes_for_tests import grow, rewrite, write

LARGE = "REFREEZE_SOAK" in os.environ
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


FAULTS = {
    **dict.fromkeys(["truncate_xml", "cut_body", "internal_error", "slow_down"], 0.01),
    **dict.fromkeys(["cut_connection", "error_body"], 0.005),
}
"""A twentieth of all pages, in every way that the endpoint knows of servers that are ill for a moment."""


def test_an_ingest_through_random_faults(serve, tmp_path, capsys):
    """What a twentieth of the answers gets wrong is asked for again, and is all that is: the target is equal to the source."""
    count = 10_000_000 if LARGE else 200_000
    endpoint = serve(array("air", count // 1_000, 1_000))
    url, options = "s3://bucket/air", {"source_options": endpoint.options}
    started = time.monotonic()
    undisturbed = refreeze.ingest(url, tmp_path / "undisturbed", checksum="none", **options)
    between = time.monotonic()
    endpoint.fail(**FAULTS, seed=18)
    report = refreeze.ingest(url, tmp_path / "target", checksum="none", **options)
    ended = time.monotonic()
    endpoint.fail()
    assert report.references_written == undisturbed.references_written == count
    assert undisturbed.list_requests < report.list_requests < 1.2 * undisturbed.list_requests
    with capsys.disabled():
        sys.stdout.write(
            f"\n{count:,} references: {undisturbed.list_requests:,} requests and {between - started:.1f} s; through faults "
            f"{report.list_requests:,} and {ended - between:.1f} s\n"
        )
    assert refreeze.verify(url, tmp_path / "target", **options).equal
