"""The node's publishers: which there are, whether anybody listens, and one frame's messages."""

from __future__ import annotations

from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile

from crkd_core.boxes import Detections
from crkd_ros import messages, publish
from crkd_ros.node_config import NodeConfig

#: Detections are few and small: nothing is gained by losing them.
_RELIABLE_DEPTH = 10


class Outputs:
    """Publishers of the detections, from configuration to clean-up; silent while inactive.

    Args:
        node: advertises them.
        config: the node's parameters.
    """

    def __init__(self, node: LifecycleNode, *, config: NodeConfig) -> None:
        self._node, self._config = node, config
        outputs: list[tuple[str, str, Any]] = [
            ("~/markers", "visualization_msgs/msg/MarkerArray", publish.marker_array),
            ("~/boxes", "sensor_msgs/msg/PointCloud2", publish.boxes_cloud),
        ]
        if messages.installed("vision_msgs"):
            kind = "vision_msgs/msg/Detection3DArray"
            outputs.append(("~/detections", kind, publish.detection_array))
        self._outputs = [
            (
                node.create_lifecycle_publisher(
                    messages.message_class(kind), topic, QoSProfile(depth=_RELIABLE_DEPTH)
                ),
                build,
            )
            for topic, kind, build in outputs
        ]

    def wanted(self) -> bool:
        """Whether anybody subscribes to detections; if not, no work is done for them."""
        return any(publisher.get_subscription_count() for publisher, _ in self._outputs)

    def publish(self, detections: Detections, stamp_ns: int) -> None:
        """Send one frame's detections to whoever subscribes.

        Args:
            detections: in ``base_frame``.
            stamp_ns: of the frame.
        """
        for publisher, build in self._outputs:
            if publisher.get_subscription_count():
                message = build(
                    detections,
                    stamp_ns=stamp_ns,
                    frame_id=self._config.base_frame,
                    make=messages.make,
                )
                publisher.publish(message)

    def close(self) -> None:
        """Withdraw the publishers."""
        for publisher, _ in self._outputs:
            self._node.destroy_lifecycle_publisher(publisher)
        self._outputs = []
