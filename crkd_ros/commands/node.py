"""`crkd node`, for `ros2 run` the executable `detector_node`."""

from __future__ import annotations

from crkd_core.command import run
from crkd_ros.commands.ros_arguments import node_command
from crkd_ros.signals import die_by_them


def _detector_node(args: list[str]) -> int:
    die_by_them()
    from crkd_core.infer.allocator import keep_freed_memory
    from crkd_ros.node import detector_node

    keep_freed_memory()
    detector_node.main(args)


app = node_command(
    _detector_node,
    "Run the detector live, as a ROS 2 node, until it is interrupted.\n\n"
    "For example: --ros-args -p weights:=FILE -p calibration_file:=FILE, or --params-file FILE. "
    "config/detector.yaml lists all parameters.",
)


def main() -> None:
    """Entry point of `ros2 run crkd_ros detector_node`."""
    run(app)
