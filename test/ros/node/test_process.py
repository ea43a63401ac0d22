"""Signals and the end of a node's process."""

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


#: The first node meets a context that rclpy's handler of signals has ended: what it calls says so
#: in two ways. The second cannot be made at all.
ENDED = """
import rclpy
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode
from crkd_ros.node import process

class Late(LifecycleNode):
    refusals = ()

    def __init__(self):
        rclpy.try_shutdown()
        super().__init__("late")

class Later(LifecycleNode):
    refusals = ()

    def __init__(self):
        rclpy.try_shutdown()
        raise rclpy_implementation.RCLError("the given context is not valid")

class Wrong(LifecycleNode):
    refusals = ()

    def __init__(self):
        raise rclpy_implementation.RCLError("another reason")

print(process.run(Late, []), process.run(Later, []))
try:
    process.run(Wrong, [])
except rclpy_implementation.RCLError as error:
    print(error)
"""


def test_a_context_that_a_signal_ended_while_the_node_is_made_is_a_clean_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDED], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "0 0\nanother reason\n"), done.stderr


#: A node that cannot start ends while Python would still wait for a thread, as one in the network.
LEFT = """
import threading
from crkd_ros.node import detector_node

threading.Thread(target=threading.Event().wait).start()
print("said", end="")
detector_node.main(["--ros-args", "-p", "sync.wayt:=0.3"])
"""


def test_the_process_ends_without_what_python_does_at_its_end_and_loses_no_output() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEFT], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (1, "said"), done.stderr
    assert "did you mean 'sync.wait'?" in done.stderr
