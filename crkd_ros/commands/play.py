"""`crkd play`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crkd_core.command import run_function
from crkd_core.progress import stderr_console


def play(
    bag: Annotated[Path, typer.Argument(help="A rosbag2: folder, .mcap or .db3.")],
    rate: Annotated[float, typer.Option(help="Speed; 1 = as recorded.")] = 1.0,
    topic: Annotated[
        list[str] | None, typer.Option(help="Play only this topic (repeatable).")
    ] = None,
    wait: Annotated[
        float, typer.Option(help="Wait up to this many seconds for subscribers.")
    ] = 0.0,
    clock: Annotated[bool, typer.Option(help="Publish /clock.")] = False,
    start_offset: Annotated[
        float, typer.Option(help="Leave out this many seconds at the start.")
    ] = 0.0,
    loop: Annotated[bool, typer.Option(help="Begin again at the end, until interrupted.")] = False,
) -> None:
    """Play a rosbag2 to ROS 2 topics, where `ros2 bag play` is not installed."""
    from crkd_ros.bags import player

    report = player.play(
        bag,
        rate=rate,
        topics=topic or None,
        wait=wait,
        clock=clock,
        start_offset=start_offset,
        passes=None if loop else 1,
    )
    stderr_console().print(
        f"{sum(report.messages.values())} messages in {report.seconds:.1f} s, "
        f"at most {report.late * 1e3:.0f} ms late",
        soft_wrap=True,
    )


def main() -> None:
    """How other commands start it as a process: see ``node/launching.py``."""
    run_function(play)
