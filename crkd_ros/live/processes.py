"""Commands of crkd_ros, and `ros2 bag play`, as processes of their own."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

PlayerName = Literal["auto", "own", "ros2"]

#: Ticks of /clock per second that `ros2 bag play` is asked for: arrivals are told by them.
CLOCK_HZ = 200
#: Seconds that `ros2 bag play` waits between advertising and playing, for discovery.
_DELAY = 3.0
#: Seconds that a process may take to end after SIGINT before it is killed.
_PATIENCE = 10.0


class LiveError(RuntimeError):
    """The node or the player did not come up, or stopped early; the text names its log."""


def module_command(module: str, arguments: Sequence[str]) -> list[str]:
    """The command line of a module of crkd_ros with a ``main``."""
    code = f"import sys; from crkd_ros.{module} import main; sys.exit(main())"
    return [sys.executable, "-c", code, *arguments]


def player_command(bag: Path, *, rate: float, player: PlayerName = "auto") -> list[str]:
    """The command line that plays a bag with /clock.

    Args:
        bag: a rosbag2.
        rate: bag seconds per real second.
        player: "ros2" is `ros2 bag play`, "own" `crkd-play`; "auto" prefers the first.

    Raises:
        LiveError: `ros2 bag play` was asked for and is not installed.
    """
    ros2 = shutil.which("ros2") is not None and all(
        importlib.util.find_spec(name) is not None for name in ("ros2bag", "rosbag2_py")
    )
    if player == "ros2" and not ros2:
        raise LiveError("ros2 bag play is not installed here; leave --player out or use own")
    if player == "own" or not ros2:
        arguments = [str(bag), "--rate", str(rate), "--clock", "--wait", "60"]
        return module_command("player", arguments)
    options = ["--rate", str(rate), "--clock", str(CLOCK_HZ), "--delay", str(_DELAY)]
    return ["ros2", "bag", "play", str(bag), *options, "--disable-keyboard-controls"]


@contextlib.contextmanager
def process(command: Sequence[str], *, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command in its own process, interrupted and awaited at the end of the block.

    Args:
        command: its words.
        log: file for what it prints; its folder is made.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        running = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            yield running
        finally:
            if running.poll() is None:
                running.send_signal(signal.SIGINT)
                try:
                    running.wait(timeout=_PATIENCE)
                except subprocess.TimeoutExpired:
                    running.kill()
                    running.wait()


def wait_until(
    ready: Callable[[], bool], running: subprocess.Popen[bytes], *, log: Path, limit: float
) -> None:
    """Wait for something that a process is to do.

    Raises:
        LiveError: it ended before, or took longer than ``limit`` seconds; quotes its log.
    """
    deadline = time.monotonic() + limit
    while not ready():
        if running.poll() is not None or time.monotonic() > deadline:
            tail = log.read_text(errors="replace").splitlines()[-5:]
            raise LiveError("the node did not come up: " + " / ".join(tail))
        time.sleep(0.1)
