"""Entry points of commands. Nothing is imported before an interrupt or a lack can be answered."""

from __future__ import annotations

import importlib
import sys


def main() -> None:
    """Run `crkd`."""
    start("crkd_core.cli")


def start(module: str, function: str = "main") -> None:
    """Run the function of a module that is a command.

    Also while it is imported an interrupt is status 130, and a package that the Python in use has
    not, as where no environment is active, one line and status 1.
    """
    try:
        getattr(importlib.import_module(module), function)()
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as error:
        from crkd_core.extras import absent

        sys.exit(f"error: {absent(error)}")
