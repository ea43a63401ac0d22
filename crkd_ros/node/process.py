"""A lifecycle node as a process: arguments, the first transitions, signals, exit codes."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import TransitionCallbackReturn

from crkd_ros.signals import ENDING

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
            at once, and ``close(patience=seconds)`` ends it; False: one of its threads still runs.
        args: ROS arguments; None: those of the command line.

    Returns:
        Exit code, 0: stopped by the user; 1: could not start, and a line on stderr says why.
    """
    node, stopped = None, True
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
    except kind.refusals as error:
        print(f"{_NAME}: {error}", file=sys.stderr)
        return 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if node is not None:
            stopped = node.close(patience=_PATIENCE)
        rclpy.try_shutdown()
        for number in ENDING:
            # Python's end gives signals back to the system, whose way is to kill the process.
            signal.signal(number, signal.SIG_IGN)
    if not stopped:
        # Python would end the thread inside the network's C++, which aborts the process.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


def _interrupt(*_: Any) -> None:
    """The first signal ends the node; those that follow must not disturb its end.

    The exception comes again and again until ``run`` has it: libraries that are imported while the
    weights are loaded, and callbacks, may swallow one.
    """
    for number in ENDING:
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGALRM, _raise)
    signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
    raise KeyboardInterrupt


def _raise(*_: Any) -> None:
    raise KeyboardInterrupt
