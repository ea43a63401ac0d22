"""The node's publishers: which there are, whether anybody listens, and one frame's messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile

from crkd_core.boxes import Detections
from crkd_ros.convert import box_messages, ros_packages
from crkd_ros.convert.autoware import detected_objects
from crkd_ros.convert.markers import marker_array
from crkd_ros.motion.poses import EgoMotion
from crkd_ros.node.postprocess import Place, Postprocess
from crkd_ros.parameters.node import NodeConfig

#: Detections are few and small: nothing is gained by losing them.
_RELIABLE_DEPTH = 10
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Outputs:
    """Publishers of the detections, from configuration to clean-up; silent while inactive.

    Args:
        node: advertises them.
        config: the node's parameters.
        motion: how the vehicle moves, for ids.
        place: where the vehicle is in the output frame; None: that is the vehicle's own.
        problem: takes (kind, text) of what the user should know.

    Raises:
        MessageError: an output that was asked for needs a package that is not installed.
    """

    def __init__(
        self,
        node: LifecycleNode,
        *,
        config: NodeConfig,
        motion: EgoMotion,
        place: Place | None,
        problem: Callable[[str, str], None],
    ) -> None:
        self._node, self._config = node, config
        self._postprocess = Postprocess(
            config, motion=motion, place=place, problem=lambda text: problem("tracking", text)
        )
        outputs: list[tuple[str, str, Any]] = [
            ("~/markers", "visualization_msgs/msg/MarkerArray", self._markers),
            ("~/boxes", "sensor_msgs/msg/PointCloud2", box_messages.boxes_cloud),
        ]
        if ros_packages.installed("vision_msgs"):
            kind = "vision_msgs/msg/Detection3DArray"
            outputs.append(("~/detections", kind, box_messages.detection_array))
        if config.objects:
            kind = "autoware_perception_msgs/msg/DetectedObjects"
            outputs.append(("~/objects", kind, detected_objects))
        for _, kind, _ in outputs:
            ros_packages.message_class(kind)  # Raises before anything is advertised.
        self._labels: Any = None
        if ros_packages.installed("vision_msgs"):
            self._labels = self._advertise("~/label_info", "vision_msgs/msg/LabelInfo", _LATCHED)
        reliable = QoSProfile(depth=_RELIABLE_DEPTH)
        self._outputs = [
            (self._advertise(topic, kind, reliable), build) for topic, kind, build in outputs
        ]

    def wanted(self) -> bool:
        """Whether anybody subscribes to detections; if not, no work is done for them."""
        return any(publisher.get_subscription_count() for publisher, _ in self._outputs)

    def announce(self) -> None:
        """Send the latched label info; once the node is active, and when a threshold changed."""
        if self._labels is not None:
            stamp_ns = self._node.get_clock().now().nanoseconds
            threshold = self._config.score_threshold
            info = box_messages.label_info(
                **self._head(stamp_ns), threshold=threshold, make=ros_packages.make
            )
            self._labels.publish(info)

    def configure(self, config: NodeConfig) -> None:
        """Take dynamic parameters that have changed; from the next frame on."""
        threshold, self._config = self._config.score_threshold, config
        self._postprocess.config = config
        if threshold != config.score_threshold:
            self.announce()

    def publish(self, detections: Detections, stamp_ns: int) -> None:
        """Send one frame's detections to whoever subscribes.

        Args:
            detections: in ``base_frame``.
            stamp_ns: of the frame.

        Raises:
            MotionError: the way to ``output_frame`` is not known at this time.
        """
        detections = self._postprocess(detections, stamp_ns)
        for publisher, build in self._outputs:
            if publisher.get_subscription_count():
                publisher.publish(
                    build(detections, **self._head(stamp_ns), make=ros_packages.make)
                )

    def close(self) -> None:
        """Withdraw the publishers."""
        for publisher in (self._labels, *(publisher for publisher, _ in self._outputs)):
            if publisher is not None:
                self._node.destroy_lifecycle_publisher(publisher)
        self._outputs, self._labels = [], None

    def _advertise(self, topic: str, kind: str, profile: QoSProfile) -> Any:
        return self._node.create_lifecycle_publisher(
            ros_packages.message_class(kind), topic, profile
        )

    def _head(self, stamp_ns: int) -> dict[str, Any]:
        frame_id = self._config.output_frame or self._config.base_frame
        return {"stamp_ns": stamp_ns, "frame_id": frame_id}

    def _markers(self, detections: Detections, **head: Any) -> Any:
        return marker_array(detections, config=self._config.markers, **head)
