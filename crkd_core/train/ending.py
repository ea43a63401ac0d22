"""A training that is told to end, by SIGTERM or Ctrl-C, ends after its step and keeps it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from crkd_core.train import distributed
from crkd_core.train.distributed import Processes

#: Those that a user, a scheduler or a system that shuts down sends, and a process may answer.
_SIGNALS: tuple[int, ...] = (signal.SIGTERM, signal.SIGINT)


class Ending:
    """Whether this process was told to end. By a second Ctrl-C it ends at once.

    Not by a second SIGTERM: what stops a group of processes and what started this one may both
    send it.
    """

    def __init__(self) -> None:
        self._told: int = 0
        self._before: dict[int, Any] = {}

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Within it the signals wait for ``told``; signals that were ignored stay so.

        Only the main thread can hear them; in another nothing changes.
        """
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                # None: a handler that Python did not set, and could not bring back.
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._hear)
        try:
            yield
        finally:
            for number in [*self._before]:
                signal.signal(number, self._before.pop(number))

    def _hear(self, number: int, _: FrameType | None) -> None:
        self._told = self._told or number
        if number == signal.SIGINT:
            signal.signal(number, self._before.pop(number))

    def told(self, processes: Processes, device: str) -> int:
        """The signal that one of the processes was sent, 0 = none. All of them must ask."""
        return distributed.most(self._told, processes, device)


def end_by(number: int) -> None:
    """Leave as a shell expects of a process that a signal ends.

    Raises:
        KeyboardInterrupt: of SIGINT.
        SystemExit: of others.
    """
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
