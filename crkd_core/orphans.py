"""Processes that end when the one that started them ends, in whatever way."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence

#: Option of Linux' prctl: the signal that a process gets when its parent dies.
_PR_SET_PDEATHSIG = 1


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """From now on, on Linux: signalled as soon as the thread that started this process has ended.

    A process of multiprocessing whose parent has ended already ends at once.

    Args:
        number: of the signal.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)  # Nobody is left to hear of it.


def not_outliving_us(command: Sequence[str]) -> list[str]:
    """A command line whose process gets SIGTERM when ours has ended, killed or not.

    Whatever program it is: this module asks for the signal and then becomes it.
    """
    return [sys.executable, "-m", __name__, str(os.getpid()), *command]


def _become(parent: str, *command: str) -> None:
    die_with_parent(signal.SIGTERM)
    if os.getppid() != int(parent):  # It ended before we could ask.
        sys.exit(f"{command[0]}: not started, what started it has ended")
    os.execvp(command[0], command)


if __name__ == "__main__":
    _become(*sys.argv[1:])
