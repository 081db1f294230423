"""How the C library gives memory back: at once, for what is large."""

from __future__ import annotations

import functools
import os
import sys

__all__ = ["return_large_blocks"]

_M_MMAP_THRESHOLD = -3
"""Of glibc's ``malloc.h``."""
_THRESHOLD = 1 << 20
"""In bytes: pages of a listing stay below, buckets of references soon are above."""


@functools.cache
def return_large_blocks() -> bool:
    """Fix the size from which glibc maps memory; return whether that was done.

    glibc raises it with every large block that is freed. Pages, references and manifests come and
    go in blocks of megabytes; in arenas they leave holes, and the process grows with the number of
    commits (429 MB instead of 248 MB at a hundred million references, ``make bench-full``). Other
    C libraries do not do that. What the environment says stays in force.
    """
    if sys.platform != "linux" or {"MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"} & os.environ.keys():
        return False
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_M_MMAP_THRESHOLD, _THRESHOLD) == 1
