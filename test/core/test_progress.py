"""Bars count on stderr, and only where they are wanted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from crkd_core.progress import Bar, counted


@pytest.mark.parametrize(("shown", "stays"), [(True, True), (True, False), (False, True)])
def test_items_come_through_and_a_log_holds_what_stays(shown, stays, capfd) -> None:
    items = (number for number in range(3))
    assert list(counted(items, "counting", total=3, shown=shown, stays=stays)) == [0, 1, 2]
    out, err = capfd.readouterr()
    assert out == ""
    assert err == ("3/3: counting\n" if shown and stays else "")


def test_a_log_has_lines_that_are_never_cut(monkeypatch, capfd) -> None:
    monkeypatch.setattr("crkd_core.progress.LINE_SECONDS", 0.0)
    with Bar(unit="step") as bar:
        task = bar.add_task("train", total=3, losses="")
        for step in range(2):
            bar.update(task, advance=1, losses=f"[total] {step} " + "long " * 40)
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 2
    first, second = err.splitlines()
    assert first.startswith("step 1/3") and second.startswith("step 2/3")
    assert second.endswith(": train [total] 1 " + "long " * 39 + "long")


def test_lines_of_a_log_are_seconds_apart(capfd) -> None:
    with Bar(stays=False) as bar:
        task = bar.add_task("quick", total=1000)
        for _ in range(1000):
            bar.advance(task)
    assert capfd.readouterr() == ("", "")


BAR = """
import sys, warnings
from crkd_core.command import run_function
from crkd_core.progress import counted, stderr_console
if sys.argv[1] == "closed":
    sys.stderr.close()

def work() -> None:
    for _ in counted(range(3), "working", stays=True):
        stderr_console().print("said beside")
    print("the result")

sys.argv[1:] = []
run_function(work)
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("stderr", ["closed", "none", "full"])
def test_work_is_not_lost_where_nobody_listens(stderr, unbuffered):
    words = [sys.executable, "-c", BAR, stderr]
    if stderr == "none":
        words = ["/bin/sh", "-c", 'exec "$@" 2>&-', "sh", *words]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            words,
            stdout=subprocess.PIPE,
            stderr=full if stderr == "full" else None,
            text=True,
            check=False,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )
    assert (done.stdout, done.returncode) == ("the result\n", 0)
