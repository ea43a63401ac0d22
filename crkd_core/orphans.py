"""Processes that end when the one that started them ends, in whatever way."""

from __future__ import annotations

import ctypes
import signal
import sys

#: Option of Linux' prctl: the signal that a process gets when its parent dies.
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """From now on, on Linux: killed as soon as the thread that started this process has ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
