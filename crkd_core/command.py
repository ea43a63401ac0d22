"""What all commands share: every expected error is one line on stderr and exit status 1 or 2."""

from __future__ import annotations

import contextlib
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TextIO

import typer
from rich.markup import escape

from crkd_core import extras
from crkd_core.files import FULL
from crkd_core.progress import drop_unwritten, stderr_console

#: What the command line itself is wrong in. Newer releases of typer do not use click's own class.
_Usage: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)
#: Exit status of an interrupted command, as of a shell: 128 + SIGINT.
_INTERRUPTED = 130
#: And of one whose reader has gone, as in ``crkd ... | head``: 128 + SIGPIPE.
_UNREAD = 141
_EMPTY = re.compile(r"--[\w-]+=")


def run(command: typer.Typer) -> NoReturn:
    """Run a typer command; expected errors are one line on stderr.

    Exit status 1: it could not do what was asked; 2: the command line is wrong; 141: nobody reads
    what it prints any more.
    """
    shown, warnings.showwarning = warnings.showwarning, _warning
    try:
        _check_words(sys.argv[1:])
        status = command(standalone_mode=False, prog_name=Path(sys.argv[0]).name)
    except _Usage as error:
        _say(_usage(error))
        sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(_INTERRUPTED)
    except SystemExit as error:
        # What click makes of it.
        sys.exit(_UNREAD if isinstance(error.__context__, BrokenPipeError) else error.code)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        drop_unwritten(sys.stdout)
        _say(explained(error))
        sys.exit(1)
    else:
        _finish()
    finally:
        warnings.showwarning = shown
        drop_unwritten(sys.stderr)
    # Whatever a function returned is no exit status; typer.Exit gives a number.
    sys.exit(status if isinstance(status, int) else 0)


def run_function(function: Callable[..., None]) -> NoReturn:
    """``run`` for a function that is the whole command; its parameters are the options."""
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command()(function)
    run(single)


def _check_words(words: Sequence[str]) -> None:
    """Refuse an empty word, such as that of a shell's variable that is not set.

    As a path it would be the current folder.
    """
    for place, word in enumerate(words):
        if word and not _EMPTY.fullmatch(word):
            continue
        before = words[place - 1] if place else ""
        name = word.rstrip("=") or (before if before.startswith("-") else "an argument")
        raise typer.BadParameter(f"{name} is empty; say a value, or leave it out")


def _finish() -> None:
    """Write what is still to be printed; ends the command where that cannot be."""
    lost = drop_unwritten(sys.stdout)
    if isinstance(lost, BrokenPipeError):
        sys.exit(_UNREAD)
    if lost is not None:
        _say(explained(lost))
        sys.exit(1)


def explained(error: BaseException) -> str:
    """An error on one line, and of a module that is missing what brings it."""
    kind, text = type(error).__name__, str(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        return extras.absent(error)
    if isinstance(error, OSError):
        # str() of these begins with a number that says nothing to a user.
        known = error.strerror and error.filename is not None
        text = f"{error.filename}: {error.strerror}" if known else text
        # Files are named by whoever writes them (files.replacing).
        if error.filename is None and error.errno in FULL:
            text = f"standard output: {error.strerror}"
    if isinstance(error, ImportError):
        # rclpy adds a line.
        text = " ".join(text.split())
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


def _warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning of ours on one line, without the place in the program; others as Python has it."""
    if file is None and issubclass(category, UserWarning) and _is_ours(filename):
        text = " ".join(str(message).split())
        stderr_console().print(f"warning: {escape(text)}", soft_wrap=True, highlight=False)
        return
    text = warnings.formatwarning(message, category, filename, lineno, line)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        (file or sys.stderr).write(text)


def _is_ours(filename: str) -> bool:
    packages = Path(__file__).parents[1]
    return any(Path(filename).is_relative_to(packages / one) for one in ("crkd_core", "crkd_ros"))


def _say(text: str) -> None:
    if text:
        line = f"[bold red]error:[/] {escape(text)}"
        stderr_console().print(line, soft_wrap=True, highlight=False)
