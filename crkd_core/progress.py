"""What is said on stderr beside the work: a bar while something long is counted off.

Where stderr is no terminal there are no bars, but lines now and then.

That nobody listens, because stderr is closed or its disk is full, never ends the work.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from operator import length_hint
from typing import IO, Any, TypeVar, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

#: Between two lines of a task where stderr is no terminal, seconds.
LINE_SECONDS = 30.0

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


def drop_unwritten(stream: IO[str] | None) -> OSError | None:
    """Forget what stdout or stderr has buffered and cannot write, at the end of a command.

    Python would try once more when it ends, and make exit status 120 of it.

    Returns:
        Why it cannot be written; None where nothing is left.
    """
    try:
        if stream is not None:
            stream.flush()
    except ValueError:  # It is closed.
        return None
    except OSError as error:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            assert stream is not None
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
            stream.flush()
        return error
    return None


class Bar(Progress):
    """rich's Progress on stderr; where that is no terminal, lines that are never cut.

    A line is ``UNIT DONE/TOTAL, H:MM:SS left: DESCRIPTION``. One comes every LINE_SECONDS while a
    task moves, and one at the end if the bar stays.

    Args:
        columns: of the bar.
        unit: before the numbers of a line.
        shown: False = nothing is said.
        stays: whether it is still there at the end.
        per_second: how often the bar is drawn.
    """

    def __init__(
        self,
        *columns: ProgressColumn,
        unit: str = "",
        shown: bool = True,
        stays: bool = True,
        per_second: float = 10,
    ) -> None:
        console = stderr_console(quiet=not shown)
        self.plain = not console.is_terminal
        self._unit, self._stays = unit, stays
        self._said: dict[TaskID, tuple[float, float]] = {}
        super().__init__(
            *columns,
            console=console,
            transient=not stays,
            refresh_per_second=per_second,
            disable=self.plain or not shown,
        )

    def add_task(self, *args: Any, **settings: Any) -> TaskID:
        """As rich's."""
        task = super().add_task(*args, **settings)
        self._said[task] = (time.monotonic(), -1.0)
        return task

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """As rich's."""
        super().advance(task_id, advance)
        self._tell(task_id)

    def update(self, task_id: TaskID, **settings: Any) -> None:
        """As rich's."""
        super().update(task_id, **settings)
        self._tell(task_id)

    def stop(self) -> None:
        """As rich's."""
        if not self.plain:
            super().stop()
        for task_id in self.task_ids if self._stays else ():
            self._tell(task_id, last=True)

    def _tell(self, task_id: TaskID, *, last: bool = False) -> None:
        if not self.plain:
            return
        (when, done), now, task = self._said[task_id], time.monotonic(), self._tasks[task_id]
        if task.completed == done or (now - when < LINE_SECONDS and not last):
            return
        self._said[task_id] = (now, task.completed)
        total = "" if task.total is None else f"/{task.total:.0f}"
        left = task.time_remaining
        remaining = f", {timedelta(seconds=round(left))} left" if left else ""
        said = " ".join([task.description, *map(str, task.fields.values())]).strip()
        text = f"{self._unit} {task.completed:.0f}{total}{remaining}: {said}".strip()
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def counted(
    items: Iterable[Item],
    text: str,
    *,
    total: int | None = None,
    shown: bool = True,
    stays: bool = False,
) -> Iterator[Item]:
    """The items, with a Bar beside.

    Args:
        items: taken one by one.
        text: before the bar.
        total: how many there are; None = ``len(items)`` where it has one, else unknown.
        shown: False = no bar.
        stays: whether it is still there at the end, in a log too.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(show_speed=True),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Bar(*columns, shown=shown, stays=stays) as bar:
        if not bar.plain:
            yield from bar.track(items, total=total, description=text)
            return
        task = bar.add_task(text, total=total or length_hint(items) or None)
        for item in items:
            yield item
            bar.advance(task)
