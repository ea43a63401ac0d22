"""Tables of texts and numbers: for the terminal, for documentation and for web pages."""

from __future__ import annotations

import html
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import rich.box
import rich.table
from rich.console import Console
from rich.text import Text

#: Wider than any table; rich asks for a limit.
_ENDLESS = 100_000


class TableError(ValueError):
    """A row with more or fewer cells than there are columns."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table for terminal and page.

    Attributes:
        title: its heading.
        columns: heading of every column.
        rows: one text per column.
        texts: headings of the columns that hold texts and stand to the left, besides the first
            one, which always does; the others hold numbers and stand to the right.

    Raises:
        TableError: a row that has not as many cells as there are columns.
    """

    title: str = ""
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: Collection[str] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise TableError(
                    f"table {self.title!r}: expected {len(self.columns)} cells, got {row!r}"
                )

    def rich(self, *, lines: bool = True) -> rich.table.Table:
        """For ``print_tables``: as wide as it needs, whatever the terminal."""
        table = rich.table.Table(
            title=Text(self.title) if self.title else None,
            title_justify="left",
            box=rich.box.HEAVY_HEAD if lines else None,
            pad_edge=lines,
        )
        for i, name in enumerate(self.columns):
            left = i == 0 or name in self.texts
            table.add_column(Text(name), justify="left" if left else "right", no_wrap=True)
        for row in self.rows:
            table.add_row(*map(Text, row))
        table.width = Console(width=_ENDLESS).measure(table).maximum
        return table

    def markdown(self) -> str:
        """For documentation: without the title, texts to the left, numbers to the right.

        A bar in a text, as in the name of a run, does not end its cell.
        """
        rules = [
            "---" if i == 0 or name in self.texts else "---:"
            for i, name in enumerate(self.columns)
        ]
        lines = (self.columns, rules, *self.rows)
        escaped = ([cell.replace("|", "\\|") for cell in cells] for cells in lines)
        return "".join(f"| {' | '.join(cells)} |\n" for cells in escaped)

    def html(self) -> str:
        """As an HTML fragment; cells of ``texts`` have the class "text"."""
        kinds = [' class="text"' if name in self.texts else "" for name in self.columns]
        head = "".join(
            f"<th{kind}>{html.escape(name)}</th>"
            for name, kind in zip(self.columns, kinds, strict=True)
        )
        body = "".join(
            "<tr>"
            + "".join(
                f"<td{kind}>{html.escape(cell)}</td>"
                for cell, kind in zip(row, kinds, strict=True)
            )
            + "</tr>\n"
            for row in self.rows
        )
        return (
            f"<table><caption>{html.escape(self.title)}</caption>\n<thead><tr>{head}</tr></thead>\n"
            f"<tbody>\n{body}</tbody></table>\n"
        )


def print_tables(*tables: Table, console: Console | None = None, lines: bool = True) -> None:
    """Print them whole, also where the terminal is narrower: two names must not look alike.

    Args:
        tables: one below the other.
        console: None = stdout.
        lines: around titles and columns; without them programs read it more easily.
    """
    console = console or Console()
    for table in tables:
        console.print(table.rich(lines=lines), crop=False, no_wrap=True, overflow="ignore")


def number(value: float, digits: int = 3) -> str:
    """For a cell; what is not known (NaN) is a dash."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
