"""What is started here ends with its parent, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crkd_core.orphans import not_outliving_us

PARENT = """
import signal, subprocess, sys, time
from crkd_core.orphans import not_outliving_us
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup had it ignored by all that it started.
child = subprocess.Popen(not_outliving_us(sys.argv[1:]), start_new_session=True)
print(child.pid, flush=True)
time.sleep(3600)
"""


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of a parent's death")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_child_ends_when_its_parent_is_killed(number: int) -> None:
    command = [sys.executable, "-c", PARENT, "sleep", "3600"]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        deadline = time.monotonic() + 60
        while not Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"sleep"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        parent.send_signal(number)
        parent.wait()
        while alive(child):
            assert time.monotonic() < deadline, "it runs on"
            time.sleep(0.01)
    finally:
        for pid in (parent.pid, child):
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def test_the_process_is_the_program_itself() -> None:
    done = subprocess.run(
        not_outliving_us([sys.executable, "-c", "import sys; sys.exit(7)"]), check=False
    )
    assert done.returncode == 7


LATE = """
import multiprocessing, os, signal, time
from crkd_core.orphans import die_with_parent

def late():
    print(os.getpid(), flush=True)
    while os.getppid() == multiprocessing.parent_process().pid:
        time.sleep(0.01)
    die_with_parent()
    time.sleep(3600)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=late).start()
    time.sleep(3600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives an orphan another parent")
def test_a_worker_whose_parent_has_ended_before_it_asked_ends(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(LATE)
    command = [sys.executable, str(tmp_path / "late.py")]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    try:
        while alive(worker):
            assert time.monotonic() < deadline, "it runs on"
            time.sleep(0.01)
    finally:
        if alive(worker):
            os.kill(worker, signal.SIGKILL)
