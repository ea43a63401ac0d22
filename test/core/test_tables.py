"""Tables are printed whole, whatever the terminal and whatever stands in their cells."""

from __future__ import annotations

import io
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from crkd_core.tables import Table, TableError, number, print_tables

LONG = "a_very_long_name_of_a_run_that_differs_only_in_its_last_letter_"


def printed(*tables: Table, width: int, lines: bool = True) -> str:
    file = io.StringIO()
    print_tables(*tables, console=Console(file=file, width=width), lines=lines)
    return file.getvalue()


@given(width=st.integers(1, 200), lines=st.booleans(), words=st.integers(0, 30))
def test_nothing_is_cut_or_broken_by_a_narrow_terminal(width, lines, words) -> None:
    rows = [[LONG + letter, "0.123", "some words " * words + letter] for letter in "ab"]
    table = Table(title="t", columns=("name", "mAP", "note"), rows=rows, texts=("note",))
    text = printed(table, width=width, lines=lines)
    for row in rows:
        (line,) = (line for line in text.splitlines() if row[0] in line)
        assert all(cell.strip() in line for cell in row)
    assert text == printed(table, width=1000, lines=lines)


def test_cells_are_texts_not_markup() -> None:
    table = Table(title="[b]t", columns=("[x]", "y"), rows=[["[/red]", "[0.1, 0.2]"]])
    text = printed(table, width=80)
    assert all(part in text for part in ("[b]t", "[x]", "[/red]", "[0.1, 0.2]"))


def test_numbers_stand_to_the_right_and_texts_to_the_left() -> None:
    rows = [["a", "1", "x"], ["bb", "100", "yy"]]
    table = Table(columns=("name", "count", "kind"), rows=rows, texts=("kind",))
    lines = printed(table, width=80, lines=False).splitlines()
    assert [re.sub(" +$", "", line) for line in lines] == [
        "name  count  kind",
        "a         1  x",
        "bb      100  yy",
    ]
    assert table.markdown().splitlines()[1] == "| --- | ---: | --- |"
    odd = Table(columns=("set-up", "mAP"), rows=[["a|b", "0.1"]])
    assert odd.markdown().splitlines()[2] == r"| a\|b | 0.1 |"


def test_ragged_rows_are_refused() -> None:
    with pytest.raises(TableError, match="table 't': expected 2 cells, got"):
        Table(title="t", columns=("a", "b"), rows=[["1"]])


def test_what_is_not_known_is_a_dash() -> None:
    assert (number(math.nan), number(0.12345), number(2, 0)) == ("-", "0.123", "2")
