"""The node's publishers: which there are, whether anybody listens, and one frame's messages."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import deserialize_message, serialize_message

from crkd_core.boxes import Detections
from crkd_core.config import DRIVABLE
from crkd_core.segments import Segments
from crkd_ros.convert import box_messages, ros_packages
from crkd_ros.convert.autoware import detected_objects
from crkd_ros.convert.grids import occupancy_grid
from crkd_ros.convert.marker_bytes import agrees, marker_bytes
from crkd_ros.convert.markers import MarkersRate, marker_array
from crkd_ros.motion.poses import EgoMotion
from crkd_ros.node.latency import PARTS, pipeline
from crkd_ros.node.postprocess import Place, Postprocess
from crkd_ros.parameters.node import NodeConfig
from crkd_ros.reporter import Reporter

_FLOAT = "std_msgs/msg/Float64"
_GRID = "nav_msgs/msg/OccupancyGrid"
#: Detections are few and small: nothing is gained by losing them.
_RELIABLE_DEPTH = 10
#: Steps of float32 in ~/boxes above this are told, metres.
_COARSE = 0.01
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Outputs:
    """Publishers of the detections, from configuration to clean-up; silent while inactive.

    Args:
        node: advertises them.
        config: the node's parameters, with the classes of the weights.
        motion: how the vehicle moves, for ids.
        place: where the vehicle is in the output frame; None: that is the vehicle's own.
        drivable: whether the weights tell the drivable area.
        reporter: is told what the user should know.

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
        drivable: bool = False,
        reporter: Reporter,
    ) -> None:
        self._node, self._config, self._place = node, config, place
        self._reporter, self._told_of_float32 = reporter, False
        self._postprocess = Postprocess(
            config, motion=motion, place=place, problem=reporter.of("tracking")
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
        for _, name, _ in outputs:
            ros_packages.message_class(name)  # Raises before anything is advertised.
        plain = functools.partial(marker_array, make=ros_packages.make)
        kind = ros_packages.message_class("visualization_msgs/msg/MarkerArray")
        self._bytes_agree = agrees(
            plain, serialize_message, lambda data: deserialize_message(data, kind)
        )
        self._markers_rate = MarkersRate()
        self._labels: Any = None
        self._drivable: Any = None
        if ros_packages.installed("vision_msgs"):
            self._labels = self._advertise("~/label_info", "vision_msgs/msg/LabelInfo", _LATCHED)
        reliable = QoSProfile(depth=_RELIABLE_DEPTH)
        self._outputs = [
            (self._advertise(topic, kind, reliable), build) for topic, kind, build in outputs
        ]
        if drivable and config.drivable_area:
            self._drivable = self._advertise("~/drivable_area", _GRID, reliable)
        self._stages = {
            part: self._advertise(f"~/latency/{part}", _FLOAT, reliable) for part in PARTS
        }

    def wanted(self) -> bool:
        """Whether anybody subscribes to what a frame gives; if not, no work is done for it."""
        found = any(publisher.get_subscription_count() for publisher, _ in self._outputs)
        return found or self._drivable_wanted()

    def announce(self) -> None:
        """Send the latched label info; once the node is active, and when a threshold changed."""
        if self._labels is not None:
            stamp_ns = self._node.get_clock().now().nanoseconds
            info = box_messages.label_info(
                self._config.classes,
                **self._head(stamp_ns),
                threshold=self._config.score_threshold,
                make=ros_packages.make,
            )
            self._labels.publish(info)

    def configure(self, config: NodeConfig) -> None:
        """Take dynamic parameters that have changed; from the next frame on."""
        threshold, self._config = self._config.score_threshold, config
        self._postprocess.config = config
        if threshold != config.score_threshold:
            self.announce()

    def publish(
        self,
        detections: Detections,
        stamp_ns: int,
        segments: Callable[[], Segments | None] = lambda: None,
    ) -> None:
        """Send what one frame gave to whoever subscribes.

        Args:
            detections: in ``base_frame``.
            stamp_ns: of the frame.
            segments: says what the second head said of it; asked where somebody wants to know.

        Raises:
            MotionError: the way to ``output_frame`` is not known at this time.
        """
        try:
            detections = self._postprocess(detections, stamp_ns)
            self._doubt_float32(detections)
            for publisher, build in self._outputs:
                if publisher.get_subscription_count():
                    message = build(detections, **self._head(stamp_ns), make=ros_packages.make)
                    if message is not None:
                        publisher.publish(message)
            if self._drivable_wanted() and (said := segments()) is not None:
                self._drivable.publish(self._grid(said, stamp_ns))
        except Exception:
            if self._node.context.ok():
                raise  # Otherwise the process is ending, and nobody can publish any more.

    def timed(self, stages: Mapping[str, float], stamp_ns: int) -> Mapping[str, float]:
        """Send the times of a frame that went out, a topic per stage, in milliseconds.

        A stage that took no time is 0, an unknown pipeline nothing.

        Args:
            stages: as ``Latency.finish`` answers them, seconds.
            stamp_ns: of the frame.

        Returns:
            ``stages`` and "pipeline", where the node's clock is that of the stamps.
        """
        now_ns = self._node.get_clock().now().nanoseconds
        age = pipeline(stages["total"], now_ns=now_ns, stamp_ns=stamp_ns)
        stages = stages if age is None else {**stages, "pipeline": age}
        if self._node.context.ok():
            for part, publisher in self._stages.items():
                if publisher.get_subscription_count() and (part in stages or part != "pipeline"):
                    milliseconds = 1e3 * stages.get(part, 0.0)
                    publisher.publish(ros_packages.make(_FLOAT, data=milliseconds))
        return stages

    def close(self) -> None:
        """Withdraw the publishers."""
        detections = (publisher for publisher, _ in self._outputs)
        for publisher in (self._labels, self._drivable, *detections, *self._stages.values()):
            if publisher is not None:
                self._node.destroy_lifecycle_publisher(publisher)
        self._outputs, self._labels, self._drivable, self._stages = [], None, None, {}

    def _advertise(self, topic: str, kind: str, profile: QoSProfile) -> Any:
        return self._node.create_lifecycle_publisher(
            ros_packages.message_class(kind), topic, profile
        )

    def _head(self, stamp_ns: int) -> dict[str, Any]:
        return {"stamp_ns": stamp_ns, "frame_id": self._config.frame_id}

    def _doubt_float32(self, detections: Detections) -> None:
        """Say once that the fields of ~/boxes do not hold places in a frame of a whole country."""
        if self._told_of_float32 or self._place is None or not len(detections):
            return
        step = float(np.spacing(np.float32(np.nanmax(np.abs(detections.center)))))
        if step > _COARSE:
            self._told_of_float32 = True
            self._reporter.problem(
                "output_frame",
                f"so far from the origin of {self._config.output_frame!r} float32 goes in steps "
                f"of {step:.3f} m: take ~/detections or ~/markers instead of ~/boxes, or a frame "
                "whose origin is near",
            )

    def _drivable_wanted(self) -> bool:
        return self._drivable is not None and bool(self._drivable.get_subscription_count())

    def _grid(self, segments: Segments, stamp_ns: int) -> Any:
        frame_T_base = np.eye(4) if self._place is None else self._place(stamp_ns)
        return occupancy_grid(
            segments,
            DRIVABLE,
            frame_T_ego=frame_T_base,
            make=ros_packages.make,
            **self._head(stamp_ns),
        )

    def _markers(self, detections: Detections, *, stamp_ns: int, frame_id: str, make: Any) -> Any:
        """The array, as bytes where that is the same; None: it is not time for one yet."""
        config = self._config.markers
        if not self._markers_rate.due(stamp_ns, config):
            return None
        told: dict[str, Any] = {"stamp_ns": stamp_ns, "frame_id": frame_id, "config": config}
        if self._bytes_agree:
            return marker_bytes(detections, **told)
        return marker_array(detections, make=make, **told)
