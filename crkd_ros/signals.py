"""Signals that end a node, before it is there to hear them. Imports nothing that takes long."""

from __future__ import annotations

import signal

#: Signals that end a node.
ENDING = (signal.SIGINT, signal.SIGTERM)


def die_by_them() -> None:
    """Let them end the process as the system does, until the node takes them over.

    Python's own answer to SIGINT, an exception, can be lost within an import.
    """
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
