"""Entry point of `crkd`. It imports nothing before it can answer an interrupt."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command; an interrupt, also one while its modules are imported, is status 130."""
    try:
        from crkd_core.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)
