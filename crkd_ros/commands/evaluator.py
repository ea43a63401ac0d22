"""The executable `evaluator` of `ros2 run`."""

from __future__ import annotations

from crkd_core.command import run
from crkd_ros.commands.ros_arguments import node_command


def _evaluator(args: list[str]) -> int:
    from crkd_ros.streaming_eval import evaluator

    return evaluator.main(args)


app = node_command(
    _evaluator,
    "Record what the detector answers to a bag that is played with --clock, then score it.\n\n"
    "For example: --ros-args -p data:=DIR -p split:=SPLIT -p out:=DIR. `crkd live` plays the bag "
    "and starts the detector too.",
)


def main() -> None:
    """Entry point of `ros2 run crkd_ros evaluator`."""
    run(app)
