"""A signal that the system gives to another thread is heard while the main thread sleeps."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("rclpy")

#: The main thread sleeps in a system call; a thread sends the signal to itself, as the system may.
CODE = """
import signal, sys, threading, time
from crkd_ros.node import process

def to_itself():
    time.sleep(0.5)
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
    time.sleep(3600)

def heard(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGINT, heard)
threading.Thread(target=to_itself, daemon=True).start()
with process._woken():
    try:
        time.sleep(3600)
    except KeyboardInterrupt:
        print("heard")
"""


def test_a_signal_of_another_thread_wakes_the_main_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr
