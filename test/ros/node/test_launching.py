"""The node as other commands start it."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("rclpy")

from crkd_ros.node.launching import detector_command

#: What the node makes of its arguments.
CODE = """
import sys
import rclpy
from crkd_ros.node.detector_node import DetectorNode

rclpy.init(args=sys.argv)
print(DetectorNode().config.autostart)
"""


def test_a_node_that_nobody_else_starts_starts_itself_whatever_its_vehicle_has(tmp_path) -> None:
    params = tmp_path / "vehicle.yaml"
    params.write_text("/**:\n  ros__parameters:\n    autostart: false\n")
    command = detector_command({"autostart": "false"}, files=[params])
    arguments = command[command.index("--ros-args") :]
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "True\n", done.stderr
