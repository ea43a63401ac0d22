"""Freed memory that stays with the process: a network asks for the same large blocks every frame.

glibc hands blocks from 32 MiB on, and at first far smaller ones, back to the system as soon as
they are free, and the system gives the next ones page by page, zeroed. That took a quarter of the
time of ``crkd_r50`` on a CPU (docs/benchmarks.md, "Speed").
"""

from __future__ import annotations

import ctypes

#: Parameters of mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """From now on this process keeps what it frees, so it stays as large as it ever was.

    For programs that detect, or train, and do little else: `crkd train`, `distill`, `evaluate`,
    `replay`, `bench` and the node call it, a library's user may. Memory of a GPU is not concerned.

    Returns:
        Whether the C library can be told so; others than glibc cannot.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    # No blocks apart from the heap, and none of the heap's end given back.
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _LARGEST))
