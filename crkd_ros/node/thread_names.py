"""Names that Linux shows for a thread, in top -H and /proc."""

from __future__ import annotations

import ctypes
import sys

_SET_NAME = 15  # PR_SET_NAME of prctl(2)
_LONGEST = 15


def name_thread(name: str) -> None:
    """Name the calling thread. Threads that it makes inherit the name. Nothing, where not Linux.

    Args:
        name: the first 15 bytes are shown.
    """
    if not sys.platform.startswith("linux"):
        return
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_SET_NAME, name.encode()[:_LONGEST], 0, 0, 0)
