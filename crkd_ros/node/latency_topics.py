"""``~/latency/<stage>``: the times of each frame, one topic per stage, for plots and monitors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crkd_ros.convert import ros_packages
from crkd_ros.node.latency import PARTS

_TYPE = "std_msgs/msg/Float64"
_DEPTH = 10


class LatencyTopics:
    """Publishers of PARTS in milliseconds; silent while inactive, and where nobody subscribes.

    Args:
        node: an rclpy LifecycleNode.
    """

    def __init__(self, node: Any) -> None:
        self._node = node
        kind = ros_packages.message_class(_TYPE)
        self._publishers = {
            part: node.create_lifecycle_publisher(kind, f"~/latency/{part}", _DEPTH)
            for part in PARTS
        }

    def publish(self, seconds: Mapping[str, float]) -> None:
        """Send one frame's stages; a stage that took no time is 0, an unknown pipeline nothing."""
        for part, publisher in self._publishers.items():
            if not publisher.get_subscription_count():
                continue
            if part != "pipeline" or part in seconds:
                publisher.publish(ros_packages.make(_TYPE, data=1e3 * seconds.get(part, 0.0)))

    def close(self) -> None:
        """Withdraw the publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers = {}
