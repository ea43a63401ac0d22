"""Entry points of `crkd` and of `ros2 run`.

Nothing is imported before an interrupt can be answered.
"""

from __future__ import annotations

import importlib
import sys


def main() -> None:
    """Run `crkd`."""
    start("crkd_core.cli")


def start(module: str, name: str = "main") -> None:
    """Run a command; an interrupt, also one while its modules are imported, is status 130.

    Args:
        module: that has it.
        name: of its function, whose answer is the exit status.
    """
    try:
        sys.exit(getattr(importlib.import_module(module), name)())
    except KeyboardInterrupt:
        sys.exit(130)
