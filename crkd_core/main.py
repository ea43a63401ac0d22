"""Entry points of commands. Nothing is imported before an interrupt or a lack can be answered."""

from __future__ import annotations

import importlib
import sys


def main() -> None:
    """Run `crkd`."""
    start("crkd_core.cli")


def start(module: str, name: str = "main") -> None:
    """Run a command.

    Also while its modules are imported an interrupt is status 130, and a package that the Python
    in use has not, as where no environment is active, one line and status 1.

    Args:
        module: that has it.
        name: of its function, whose answer is the exit status.
    """
    try:
        sys.exit(getattr(importlib.import_module(module), name)())
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as error:
        from crkd_core.extras import absent

        sys.exit(f"error: {absent(error)}")
