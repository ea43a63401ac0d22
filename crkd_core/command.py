"""What all commands share: every expected error is one line on stderr and exit status 1 or 2."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import typer
from rich.markup import escape

from crkd_core import extras
from crkd_core.progress import drop_unheard, stderr_console

#: What the command line itself is wrong in. Newer releases of typer do not use click's own class.
_Usage: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)
#: Exit status of an interrupted command, as of a shell: 128 + SIGINT.
_INTERRUPTED = 130


def run(command: typer.Typer) -> NoReturn:
    """Run a typer command; expected errors are one line on stderr.

    Exit status 1: it could not do what was asked; 2: the command line is wrong.
    """
    try:
        status = command(standalone_mode=False, prog_name=Path(sys.argv[0]).name)
    except _Usage as error:
        _say(_usage(error))
        sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(_INTERRUPTED)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        _say(explained(error))
        sys.exit(1)
    finally:
        drop_unheard()
    # Whatever a function returned is no exit status; typer.Exit gives a number.
    sys.exit(status if isinstance(status, int) else 0)


def run_function(function: Callable[..., None]) -> NoReturn:
    """``run`` for a function that is the whole command; its parameters are the options."""
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command()(function)
    run(single)


def explained(error: BaseException) -> str:
    """An error on one line, and of a module that is missing what brings it."""
    kind, text = type(error).__name__, str(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        top = error.name.partition(".")[0]
        if extra := extras.extra_of(top):
            return f"{top} is not installed: {extras.remedy(extra)}"
        return f"{kind}: {text} in {sys.executable}; activate the environment that has it"
    if isinstance(error, OSError):
        # str() of these begins with a number that says nothing to a user.
        known = error.strerror and error.filename is not None
        text = f"{error.filename}: {error.strerror}" if known else text
    return f"{kind}: {_without_trace(text)}"


def _usage(error: Exception) -> str:
    """A wrong command line in words; empty where the help has been shown instead."""
    text = " ".join(error.format_message().split()).rstrip(".")  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    return f"{text}; see {context.command_path} --help" if text and context else text


def _without_trace(text: str) -> str:
    """The error itself, where a data loading process has put its whole trace into the text."""
    if "Original Traceback" not in text:
        return text
    return text.rstrip().rpartition("\n")[2].partition(": ")[2]


def _say(text: str) -> None:
    if text:
        line = f"[bold red]error:[/] {escape(text)}"
        stderr_console().print(line, soft_wrap=True, highlight=False)
