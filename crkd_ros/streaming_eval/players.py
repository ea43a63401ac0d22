"""The command that plays a bag in real time: `ros2 bag play` or our own player."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Literal

from crkd_ros.node.launching import module_command

PlayerName = Literal["auto", "own", "ros2"]

#: Ticks of /clock per second that `ros2 bag play` is asked for: arrivals are told by them.
_CLOCK_HZ = 200
#: Seconds that `ros2 bag play` waits between advertising and playing, for discovery.
_DELAY = 3.0


class SessionError(RuntimeError):
    """Nothing came of the node or the player, or an argument is wrong; the text says which."""


def player_command(bag: Path, *, rate: float, player: PlayerName = "auto") -> list[str]:
    """The command line that plays a bag with /clock.

    Args:
        bag: a rosbag2.
        rate: bag seconds per real second.
        player: "ros2" is `ros2 bag play`, "own" `crkd play`; "auto" prefers the first.

    Raises:
        SessionError: `ros2 bag play` was asked for and is not installed.
    """
    ros2 = shutil.which("ros2") is not None and all(
        importlib.util.find_spec(name) is not None for name in ("ros2bag", "rosbag2_py")
    )
    if player == "ros2" and not ros2:
        raise SessionError("ros2 bag play is not installed here; leave --player out or use own")
    if player == "own" or not ros2:
        arguments = [str(bag), "--rate", str(rate), "--clock", "--wait", "60"]
        return module_command("commands.play", arguments)
    return ros2_play_command(bag, rate=rate)


def ros2_play_command(
    bag: str | Path, *, rate: float, start_offset: float = 0.0, loop: bool = False
) -> list[str]:
    """The command line of `ros2 bag play` with /clock.

    Args:
        bag: a rosbag2.
        rate: bag seconds per real second.
        start_offset: seconds to leave out at the bag's start.
        loop: begin again at the bag's end, until interrupted.
    """
    command = ["ros2", "bag", "play", str(bag), "--clock", str(_CLOCK_HZ), "--rate", str(rate)]
    command += ["--delay", str(_DELAY), "--disable-keyboard-controls"]
    # It refuses 0 in some versions.
    if start_offset:
        command += ["--start-offset", str(start_offset)]
    return [*command, "--loop"] if loop else command
