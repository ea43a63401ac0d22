"""Bars count on stderr, and only where they are wanted."""

from __future__ import annotations

import pytest

from crkd_core.progress import counted


@pytest.mark.parametrize(("shown", "stays"), [(True, True), (True, False), (False, True)])
def test_items_come_through_and_a_log_holds_what_stays(shown, stays, capfd) -> None:
    items = (number for number in range(3))
    assert list(counted(items, "counting", total=3, shown=shown, stays=stays)) == [0, 1, 2]
    out, err = capfd.readouterr()
    assert out == ""
    assert ("counting" in err and "100%" in err) == (shown and stays)
