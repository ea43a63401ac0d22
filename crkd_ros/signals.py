"""Signals that end a node, before it is there to hear them. Imports nothing that takes long."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

#: Signals that end a node.
ENDING = (signal.SIGINT, signal.SIGTERM)


_held = 0


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Within, a signal that ends the node raises nothing; it does afterwards.

    C++ that runs Python while torch is imported ends the process at an exception, with SIGABRT.
    """
    global _held
    _held += 1
    try:
        yield
    finally:
        _held -= 1


def are_held() -> bool:
    """Whether such a block is running."""
    return _held > 0


def die_by_them() -> None:
    """Let them end the process as the system does, until the node takes them over.

    Python's own answer to SIGINT, an exception, can be lost within an import.
    """
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
