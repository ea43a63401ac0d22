"""A bar on stderr while something long is counted off."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


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
        console=Console(stderr=True),
        disable=not shown,
        transient=not stays,
    )
