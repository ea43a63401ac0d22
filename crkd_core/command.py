"""What all commands share: every expected error is one line on stderr and exit status 1."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape


def run(command: typer.Typer) -> None:
    """Run a typer command; expected errors are one line on stderr and exit status 1."""
    try:
        command()
    except OSError as error:
        # str() of these begins with a number that says nothing to a user.
        known = error.strerror and error.filename is not None
        _fail(error, f"{error.filename}: {error.strerror}" if known else str(error))
    except (ValueError, RuntimeError, ImportError) as error:
        _fail(error, _without_trace(str(error)))


def run_function(function: Callable[..., None]) -> None:
    """``run`` for a function that is the whole command; its parameters are the options."""
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command()(function)
    run(single)


def _without_trace(text: str) -> str:
    """The error itself, where a data loading process has put its whole trace into the text."""
    if "Original Traceback" not in text:
        return text
    return text.rstrip().rpartition("\n")[2].partition(": ")[2]


def _fail(error: Exception, text: str) -> NoReturn:
    line = f"[bold red]error:[/] {escape(f'{type(error).__name__}: {text}')}"
    Console(stderr=True).print(line, soft_wrap=True, highlight=False)
    sys.exit(1)
