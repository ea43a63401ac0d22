"""The live detector: a ROS 2 node around ``crkd_core.Detector``. It translates, never computes.

Parameters are in parameters.py, the way of a frame in worker.py, the choice of its messages in
sync.py, the outputs in publish.py.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from typing import Any

# Spinning OpenMP threads would take the processor from the decoding threads. Read by torch, so it
# must be set before that is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import rclpy
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.time import Time

from crkd_core.boxes import Detections
from crkd_core.frame import CAMERAS, RADARS
from crkd_ros import convert, messages, parameters, publish
from crkd_ros.calibration import Calibration
from crkd_ros.health import Health
from crkd_ros.motion import MotionError, NoMotion, PoseBuffer, TfMotion
from crkd_ros.node_config import NodeConfig
from crkd_ros.parameters import ParameterError
from crkd_ros.sync import Synchronizer
from crkd_ros.worker import FrameWorker, WorkerError, load_detector


class DetectorNode(Node):
    """Parameters, topics, and a worker that detects. Callbacks never block.

    Raises:
        ParameterError, MotionError, MessageError, WorkerError: it cannot start; the text says why.
    """

    def __init__(self) -> None:
        super().__init__("detector_node")
        self.config = parameters.declare(self, NodeConfig)
        self._base = self.config.base_frame
        for line in messages.missing_features():
            self.get_logger().info(line)
        self._extrinsics, self._motion = self._sources()
        self._detector = load_detector(self.config)
        self._infos: dict[str, Any] = {}
        hardware = f"{self.config.device}, {self.config.precision}"
        self._health = Health(name=self.get_name(), hardware=hardware)
        cameras = [name for name in CAMERAS if name in self.config.sensors]
        radars = [name for name in RADARS if name in self.config.sensors]
        limits = dataclasses.replace(self.config.sync, sweeps=self._detector.config.radar.sweeps)
        self._worker = FrameWorker(
            detector=self._detector,
            sync=Synchronizer(limits, cameras=cameras, radars=radars),
            extrinsics=self._extrinsics,
            motion=self._motion,
            publish=self._publish,
            health=self._health,
            problem=self._problem,
            decode_threads=self.config.decode_threads,
        )
        self._outputs = self._advertise()
        self._subscribe_all(cameras, radars)
        self._diagnostics = self.create_publisher(
            messages.message_class("diagnostic_msgs/msg/DiagnosticArray"), "/diagnostics", 10
        )
        self.create_timer(1.0, self._report)
        self.add_on_set_parameters_callback(self._on_parameters)
        self.get_logger().info(
            f"ready: {self.config.weights} on {hardware}, {len(cameras)} cameras, {len(radars)} "
            f"radars, ego motion {self.config.motion.source}"
        )

    def destroy_node(self) -> None:
        """Stop the worker, then the node."""
        if hasattr(self, "_worker"):
            self._worker.stop()
        super().destroy_node()

    # -- set-up ---------------------------------------------------------------------------------

    def _sources(self) -> tuple[Any, Any]:
        """Where extrinsics and ego motion come from. Raises MotionError."""
        path, source = self.config.calibration_file, self.config.motion.source
        tf = None
        if source == "tf" or not path:
            if not messages.installed("tf2_ros"):
                raise MotionError(
                    "tf2_ros is not installed: set calibration_file (config/calibration.yaml "
                    "explains it), and motion.source to odom or off"
                )
            tf = TfMotion(
                buffer=messages.tf_buffer(self),
                time=lambda stamp_ns: Time(nanoseconds=stamp_ns),
                timeout=Duration(seconds=self.config.sync.wait),
                stamped_to_matrix=convert.transform_matrix,
                base=self._base,
                fixed=self.config.motion.fixed_frame,
            )
        extrinsics = Calibration.load(path, base=self._base) if path else tf
        return extrinsics, {"odom": PoseBuffer(), "tf": tf, "off": NoMotion()}[source]

    def _advertise(self) -> list[tuple[Any, Any]]:
        """(publisher, function of publish.py) of every output that is available."""
        outputs: list[tuple[str, str, Any]] = [
            ("~/markers", "visualization_msgs/msg/MarkerArray", publish.marker_array),
            ("~/boxes", "sensor_msgs/msg/PointCloud2", publish.boxes_cloud),
        ]
        if messages.installed("vision_msgs"):
            kind = "vision_msgs/msg/Detection3DArray"
            outputs.append(("~/detections", kind, publish.detection_array))
        reliable = QoSProfile(depth=10)
        return [
            (self.create_publisher(messages.message_class(kind), topic, reliable), build)
            for topic, kind, build in outputs
        ]

    def _subscribe_all(self, cameras: list[str], radars: list[str]) -> None:
        topics = self.config.topics
        image, topic = "CompressedImage", topics.image_compressed
        if self.config.image_transport == "raw":
            image, topic = "Image", topics.image_raw
        sensor = "sensor_msgs/msg/"
        for camera in cameras:
            self._subscribe(f"{sensor}CameraInfo", topics.camera_info, self._on_info, camera)
            self._subscribe(f"{sensor}{image}", topic, self._on_image, camera)
        for radar in radars:
            self._subscribe(f"{sensor}PointCloud2", topics.radar, self._on_cloud, radar)
        if self.config.motion.source == "odom":
            self._subscribe("nav_msgs/msg/Odometry", topics.odometry, self._on_odometry)

    def _subscribe(self, kind: str, topic: str, callback: Any, *sensor: str) -> None:
        self.create_subscription(
            messages.message_class(kind),
            topic.format(sensor=sensor[0].lower() if sensor else ""),
            functools.partial(callback, *sensor),
            qos_profile_sensor_data,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    # -- inputs ---------------------------------------------------------------------------------

    def _on_info(self, camera: str, message: Any) -> None:
        try:
            self._infos[camera] = convert.intrinsics(message), convert.image_size(message)
        except convert.ConvertError as error:
            self._problem("camera_info", f"{camera}: {error}")

    def _on_image(self, camera: str, message: Any) -> None:
        if not self._wanted():
            return
        matrix, size = self._infos.get(camera, (None, None))
        if matrix is None and isinstance(self._extrinsics, Calibration):
            matrix = self._extrinsics.intrinsics(message.header.frame_id or camera)
        if matrix is None:
            self._problem("intrinsics", f"{camera}: no CameraInfo yet, image not used")
            return
        self._worker.add_image(camera, message, matrix, size)

    def _on_cloud(self, radar: str, message: Any) -> None:
        if not self._wanted():
            return
        try:
            self._worker.add_cloud(radar, message)
        except convert.ConvertError as error:
            self._problem("radar", str(error))

    def _on_odometry(self, message: Any) -> None:
        child = message.child_frame_id.lstrip("/")
        if child not in ("", self._base):
            self._problem(
                "odometry", f"odometry is of {child!r}, not of base_frame {self._base!r}"
            )
            return
        try:
            stamp_ns = convert.stamp_ns(message.header.stamp)
            self._motion.add(stamp_ns, convert.odometry_pose(message))
        except convert.ConvertError as error:
            self._problem("odometry", str(error))
        else:
            self._worker.add_pose(stamp_ns)

    def _on_parameters(self, changes: list[Parameter]) -> Any:
        for change in changes:
            if change.name == "score_threshold":
                self._detector.score_threshold = change.value
        return messages.make("rcl_interfaces/msg/SetParametersResult", successful=True)

    # -- outputs --------------------------------------------------------------------------------

    def _wanted(self) -> bool:
        return any(publisher.get_subscription_count() for publisher, _ in self._outputs)

    def _publish(self, detections: Detections, stamp_ns: int) -> None:
        for publisher, build in self._outputs:
            if self.context.ok() and publisher.get_subscription_count():
                head = {"stamp_ns": stamp_ns, "frame_id": self._base, "make": messages.make}
                publisher.publish(build(detections, **head))

    def _report(self) -> None:
        report = self._health.diagnostics(
            messages.make,
            stamp_ns=self.get_clock().now().nanoseconds,
            sensors=self._worker.counts(),
            listeners=self._wanted(),
        )
        self._diagnostics.publish(report)

    def _problem(self, kind: str, text: str) -> None:
        if self._health.problem(kind, text):
            self.get_logger().warning(text)


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted. 0: stopped by the user; 1: could not start."""
    node = None
    try:
        rclpy.init(args=args)
    except RuntimeError as error:  # Arguments or a parameter file that rcl cannot read.
        print(f"detector_node: cannot read these ROS arguments: {error}", file=sys.stderr)
        return 1
    try:
        node = DetectorNode()
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (ParameterError, MotionError, messages.MessageError, WorkerError) as error:
        print(f"detector_node: {error}", file=sys.stderr)
        return 1
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
