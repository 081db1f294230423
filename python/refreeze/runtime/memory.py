"""How the C library keeps memory: large blocks are given back at once, threads share what is free."""

from __future__ import annotations

import functools
import os
import sys

__all__ = ["return_large_blocks", "share_free_memory"]

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
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
    return _set(_M_MMAP_THRESHOLD, _THRESHOLD, "MALLOC_MMAP_THRESHOLD_")


@functools.cache
def share_free_memory() -> bool:
    """Let the threads that begin from now on share one arena; return whether that was done.

    zarr encodes and decodes chunks in threads, and the core copies them in threads. With an arena
    of its own each keeps what it has freed, buffers of megabytes, while the others ask for more
    (565 MB instead of 186 MB for 250,000 copies, ``make bench ARGS="--only formats"``). To be
    called before there are threads that allocate: glibc looks at the number once.
    """
    return _set(_M_ARENA_MAX, 1, "MALLOC_ARENA_MAX")


def _set(parameter: int, value: int, variable: str) -> bool:
    if sys.platform != "linux" or {variable, "GLIBC_TUNABLES"} & os.environ.keys():
        return False
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(parameter, value) == 1
