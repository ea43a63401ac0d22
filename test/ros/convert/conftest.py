"""Both ways to make a message: the installed packages', and the readers' of bags."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["rclpy", "rosbags"])
def make(request):
    # Here, so that only tests are skipped where one of the two is not installed.
    if request.param == "rosbags":
        from crkd_ros.bags import message_types

        return message_types.make
    pytest.importorskip("rclpy")
    from crkd_ros.convert import ros_packages

    return ros_packages.make
