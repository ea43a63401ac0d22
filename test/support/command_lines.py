"""Commands of crkd_ros in processes of their own, whatever `crkd` is installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Seconds that a command may take on a busy machine.
_LIMIT = 300.0

_CODE = """
import faulthandler, typer
faulthandler.dump_traceback_later({tell})
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
    # Where it stands is told before it is given up.
    code = _CODE.format(module=module, name=name or module, tell=0.9 * _LIMIT)
    return [sys.executable, "-c", code, *map(str, arguments)]


def run(command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    line = words(command, *arguments)
    try:
        return subprocess.run(line, capture_output=True, text=True, timeout=_LIMIT, check=False)
    except subprocess.TimeoutExpired as late:
        said = [(text or b"").decode(errors="replace") for text in (late.stdout, late.stderr)]
        pytest.fail(f"{command} took more than {_LIMIT:g} s: " + "\n".join(said))
