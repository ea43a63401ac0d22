"""A lifecycle node as a process: arguments, the first transitions, signals, exit codes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

import rclpy
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    NotInitializedException,
    ParameterUninitializedException,
)
from rclpy.executors import ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import TransitionCallbackReturn

from crkd_core.progress import drop_unwritten
from crkd_ros.signals import ENDING, are_held

#: What rclpy says of values of its own parameters, such as ``use_sim_time``, as a node is made.
REFUSED = (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterUninitializedException,
)
#: Longest wait for the node's own threads when the process ends, seconds.
_PATIENCE = 1.0
#: So long after a signal, seconds, it is raised again, until it is noticed.
_AGAIN = 0.3
_NAME = "detector_node"


def run(kind: type[Any], args: list[str] | None) -> int:
    """Run a node until SIGINT or SIGTERM.

    Args:
        kind: a LifecycleNode that is made without arguments. Its ``refusals`` are the errors that
            a user can put right, ``config.autostart`` says whether it is configured and activated
            at once, and ``close(patience=seconds)`` ends it, but for a thread that takes longer.
        args: ROS arguments; None: those of the command line.

    Returns:
        Exit code, 0: stopped by the user; 1: could not start, and a line on stderr says why.
    """
    with _woken():
        return _run(kind, args)


def _run(kind: type[Any], args: list[str] | None) -> int:
    node = None
    try:
        for number in ENDING:
            # Before rclpy.init, whose own handlers call these: they only wake the executor, which
            # would not help while the weights are being loaded.
            signal.signal(number, _interrupt)
        try:
            rclpy.init(args=args)
        except RuntimeError as error:  # Arguments or a parameter file that rcl cannot read.
            print(f"{_NAME}: cannot read these ROS arguments: {error}", file=sys.stderr)
            return 1
        node = kind()
        if node.config.autostart:
            for transition in (node.trigger_configure, node.trigger_activate):
                if transition() != TransitionCallbackReturn.SUCCESS:
                    return 1  # The node has logged why.
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (rclpy_implementation.RCLError, NotInitializedException):
        # A signal may end the context while the node is made, before Python hears of it.
        if rclpy.ok():
            raise
    except (*kind.refusals, *REFUSED) as error:
        print(f"{_NAME}: {error}", file=sys.stderr)
        return 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if node is not None:
            node.close(patience=_PATIENCE)
        rclpy.try_shutdown()
        for number in ENDING:
            # Python's end gives signals back to the system, whose way is to kill the process.
            signal.signal(number, signal.SIG_IGN)
    return 0


def end(code: int) -> NoReturn:
    """End the process as it is, after ``run``.

    Python would first take torch and rclpy apart, a second of the processor, and end a thread that
    ``run`` has given up inside the network's C++, which aborts the process.
    """
    for stream in (sys.stdout, sys.stderr):
        drop_unwritten(stream)
    os._exit(code)


def _interrupt(*_: Any) -> None:
    """The first signal ends the node; those that follow must not disturb its end.

    The exception comes again and again until ``run`` has it: libraries that are imported while the
    weights are loaded, and callbacks, may swallow one.
    """
    for number in ENDING:
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGALRM, _raise)
    signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
    _raise()


def _raise(*_: Any) -> None:
    if not are_held():  # Or it comes again, a little later.
        raise KeyboardInterrupt


@contextlib.contextmanager
def _woken() -> Iterator[None]:
    """The main thread wakes at every signal, whichever thread the system gives it to.

    Python runs handlers in the main thread alone, and one that sleeps in a system call does not
    notice a signal that another thread has got.
    """
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    main, poke = threading.main_thread().ident, signal.SIGURG
    assert main is not None

    def wake() -> None:
        while number := ours.recv(1):
            if number[0] != poke:
                signal.pthread_kill(main, poke)

    before = signal.signal(poke, lambda *_: None)
    signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=wake, name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        theirs.close()
        thread.join()
        ours.close()
        signal.signal(poke, before)
