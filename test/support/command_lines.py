"""Commands of crkd_ros in processes of their own, whatever `crkd` is installed."""

from __future__ import annotations

import subprocess
import sys

_CODE = """
import typer
from crkd_core.command import run, run_function
from crkd_ros.commands.{module} import {name} as command
(run if isinstance(command, typer.Typer) else run_function)(command)
"""


def words(command: str, *arguments: object) -> list[str]:
    """The words that run a command.

    Args:
        command: "module:object" below crkd_ros.commands; the object is the module's name if it is
            left out.
        arguments: of the command.
    """
    module, _, name = command.partition(":")
    code = _CODE.format(module=module, name=name or module)
    return [sys.executable, "-c", code, *map(str, arguments)]


def run(command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        words(command, *arguments), capture_output=True, text=True, timeout=300, check=False
    )
