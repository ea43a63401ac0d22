"""Both ways to make a message: the installed packages', and the readers' of bags."""

from __future__ import annotations

import pytest

from crkd_ros.bags import message_types
from crkd_ros.convert import ros_packages


@pytest.fixture(params=["rclpy", "rosbags"])
def make(request):
    if request.param == "rosbags":
        return message_types.make
    pytest.importorskip("rclpy")
    return ros_packages.make
