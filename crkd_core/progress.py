"""What is said on stderr beside the work: a bar while something long is counted off.

That nobody listens, because stderr is closed or its disk is full, never ends the work.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import IO, Any, TypeVar, cast

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


class _Stderr:
    """sys.stderr as it is at that moment, but for errors of writing."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)

    @property
    def rich_proxied_file(self) -> _Stderr:
        """What rich writes to while it has replaced sys.stderr."""
        return self

    def write(self, text: str) -> int:
        # Where stderr was closed before Python started there is None.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._file().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._file().flush()

    @staticmethod
    def _file() -> Any:
        return getattr(sys.stderr, "rich_proxied_file", sys.stderr)


def stderr_console(*, quiet: bool = False) -> Console:
    """A rich console on stderr.

    Args:
        quiet: it says nothing.
    """
    return Console(file=cast(IO[str], _Stderr()), quiet=quiet)


def drop_unheard() -> None:
    """Forget what stderr has buffered and cannot write, at the end of a command.

    Python would try once more when it ends, and make exit status 120 of a success.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        try:
            sys.stderr.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stderr.fileno())
            os.close(nowhere)
            sys.stderr.flush()


def counted(
    items: Iterable[Item],
    text: str,
    *,
    total: int | None = None,
    shown: bool = True,
    stays: bool = False,
) -> Iterator[Item]:
    """The items, with a bar beside.

    Args:
        items: taken one by one.
        text: before the bar.
        total: how many there are; None = ``len(items)`` where it has one, else unknown.
        shown: False = no bar.
        stays: whether it is still there at the end, in a log too.
    """
    yield from track(
        items,
        description=text,
        total=total,
        console=stderr_console(),
        disable=not shown,
        transient=not stays,
    )
