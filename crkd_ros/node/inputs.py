"""The node's subscriptions and their callbacks: they check, note, and never block."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from rclpy.node import Node
from rclpy.qos import (
    QoSDurabilityPolicy,
    QoSHistoryPolicy,
    QoSPolicyKind,
    QoSProfile,
    QoSReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions

from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.convert import arrays, ros_packages
from crkd_ros.convert.camera_model import CameraModel
from crkd_ros.motion.calibration_file import Calibration
from crkd_ros.node.health import Health, TopicStatus
from crkd_ros.node.topic_status import topic_status
from crkd_ros.node.worker import FrameWorker
from crkd_ros.parameters.node import NodeConfig

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # humble
    from rclpy.qos_event import SubscriptionEventCallbacks

#: Messages that wait for their callback, as ``qos_profile_sensor_data`` has it.
_MESSAGES = 5
#: Poses are small and come in bursts, and a gap in them costs frames.
_POSES = 200
#: What ``qos_overrides.<topic>.subscription.*`` may change; durability for latched CameraInfo.
_OVERRIDABLE = (
    QoSPolicyKind.HISTORY,
    QoSPolicyKind.DEPTH,
    QoSPolicyKind.RELIABILITY,
    QoSPolicyKind.DURABILITY,
)


class Inputs:
    """Subscriptions of every sensor in use, from activation to deactivation.

    Args:
        node: subscribes.
        config: the node's parameters.
        worker: takes the messages.
        extrinsics: a Calibration may know intrinsics of cameras without CameraInfo.
        motion: takes the poses of odometry; None = no odometry is subscribed to.
        wanted: whether anybody wants detections; while not, images and clouds are left alone.
        health: takes what arrives from which sensor, and what is wrong with it.
        problem: takes (kind, text) of what went wrong.
    """

    def __init__(
        self,
        node: Node,
        *,
        config: NodeConfig,
        worker: FrameWorker,
        extrinsics: Any,
        motion: Any,
        wanted: Callable[[], bool],
        health: Health,
        problem: Callable[[str, str], None],
    ) -> None:
        self._node, self._worker = node, worker
        self._extrinsics, self._motion = extrinsics, motion
        self._wanted, self._health, self._problem = wanted, health, problem
        self._topics: dict[str, _Topic] = {}
        self._listening = False
        self._models: dict[str, CameraModel] = {}
        self._rectified: dict[str, bool] = {}
        self._subscriptions: list[Any] = []
        self._poses: Any = None
        try:
            self._subscribe_all(config)
        except Exception:
            self.close()  # Half of the subscriptions must not outlive this object.
            raise
        health.watch({sensor: topic.name for sensor, topic in self._topics.items()})

    def _subscribe_all(self, config: NodeConfig) -> None:
        topics, sensor = config.topics, "sensor_msgs/msg/"
        image = "Image" if config.image_transport == "raw" else "CompressedImage"
        for name in config.sensors:
            if name in CAMERAS:
                # The name that publishers know it by: after remapping.
                topic = self._node.resolve_topic_name(config.topic(name))
                self._rectified[name] = config.cameras.is_rectified(topic)
                self._subscribe(f"{sensor}CameraInfo", topics.camera_info, self._on_info, name)
                self._subscribe(f"{sensor}{image}", config.topic(name), self._on_image, name)
            elif name in RADARS:
                self._subscribe(f"{sensor}PointCloud2", topics.radar, self._on_cloud, name)
        if config.motion.source == "odom":
            self._subscribe(
                "nav_msgs/msg/Odometry", topics.odometry, self._on_odometry, "odometry"
            )

    def statuses(self, sensors: Collection[str]) -> dict[str, TopicStatus]:
        """What the ROS graph says of the topics of some sensors."""
        return {
            sensor: topic_status(
                self._node, topic=topic.name, type_name=topic.kind, profile=topic.profile
            )
            for sensor, topic in self._topics.items()
            if sensor in sensors
        }

    def close(self) -> None:
        """End the subscriptions."""
        self._health.watch({})
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def _subscribe(self, kind: str, topic: str, callback: Any, sensor: str) -> None:
        topic = topic.format(sensor=sensor.lower())
        profile = _sensor_data(_POSES if sensor == "odometry" else _MESSAGES)
        if callback != self._on_info:
            resolved = self._node.resolve_topic_name(topic)
            self._topics[sensor] = _Topic(resolved, kind, profile)
        handle = self._all_waiting if sensor == "odometry" else self._safely
        subscription = self._node.create_subscription(
            ros_packages.message_class(kind),
            topic,
            functools.partial(handle, callback, sensor),
            profile,
            qos_overriding_options=QoSOverridingOptions(_OVERRIDABLE),
            # Each event that is watched costs every turn of the executor.
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=functools.partial(self._on_incompatible, sensor, topic),
                use_default_callbacks=False,
            ),
        )
        self._subscriptions.append(subscription)
        if sensor == "odometry":
            self._poses = subscription

    def _all_waiting(self, callback: Any, sensor: str, message: Any) -> None:
        """A message, and all that wait behind it.

        The executor hands out one message of a topic in each of its turns, which cost far more
        than a pose: a busy machine would fall behind fast odometry for good.
        """
        self._safely(callback, sensor, message)
        for _ in range(_POSES):
            with self._poses.handle:
                waiting = self._poses.handle.take_message(self._poses.msg_type, False)
            if waiting is None:
                return
            self._safely(callback, sensor, waiting[0])

    def _safely(self, callback: Any, sensor: str, message: Any) -> None:
        """A message that cannot be used must not end the node, whatever is wrong with it."""
        info = callback == self._on_info
        try:
            if info:
                self._health.info_received(sensor)
            else:
                self._health.received(
                    sensor,
                    stamp_ns=arrays.stamp_ns(message.header.stamp),
                    clock_ns=self._node.get_clock().now().nanoseconds,
                )
            callback(sensor, message)
            return
        except arrays.ConvertError as error:
            text = str(error)
        except Exception as error:
            text = f"{sensor}: {type(error).__name__}: {error}"
        self._health.trouble(sensor, "no CameraInfo" if info else "unusable", text)
        self._problem(f"{sensor.lower()} message", text)

    def _on_incompatible(self, sensor: str, topic: str, event: Any) -> None:
        try:
            policy = qos_policy_name_from_kind(event.last_policy_kind)
        except ValueError:  # One that this rclpy has no name for.
            policy = f"policy {event.last_policy_kind}"
        self._problem(
            f"{sensor.lower()} QoS",
            f"{sensor}: a publisher of {topic} offers an incompatible QoS ({policy}); set "
            f"qos_overrides.{self._node.resolve_topic_name(topic)}.subscription.* to what it "
            "offers",
        )

    def _on_info(self, camera: str, message: Any) -> None:
        self._models[camera] = CameraModel.of_info(message, rectified=self._rectified[camera])

    def _idle(self) -> bool:
        """Whether nobody listens, so that images and clouds need not be touched."""
        wanted = self._wanted()
        if wanted and not self._listening:
            # What was left from before the pause does not belong to the frames to come.
            self._worker.clear()
        self._listening = wanted
        return not wanted

    def _on_image(self, camera: str, message: Any) -> None:
        if self._idle():
            return
        model = self._models.get(camera)
        if model is None and isinstance(self._extrinsics, Calibration):
            entry = self._extrinsics.camera(message.header.frame_id or camera)
            model = None if entry is None else CameraModel.of_entry(entry, name=camera)
        if model is None:
            text = f"{camera}: no CameraInfo yet, image not used"
            self._health.trouble(camera, "no CameraInfo", text)
            self._problem("intrinsics", text)
            return
        self._worker.add_image(camera, message, model)

    def _on_cloud(self, radar: str, message: Any) -> None:
        if not self._idle():
            self._worker.add_cloud(radar, message)

    def _on_odometry(self, _: str, message: Any) -> None:
        stamp_ns = arrays.stamp_ns(message.header.stamp)
        self._motion.add(
            stamp_ns,
            arrays.odometry_pose(message),
            parent=message.header.frame_id,
            child=message.child_frame_id,
            twist=arrays.odometry_twist(message),
        )
        self._worker.add_pose(stamp_ns)


class _Topic(NamedTuple):
    """A sensor's topic as resolved, its message type, and the QoS asked for."""

    name: str
    kind: str
    profile: QoSProfile


def _sensor_data(depth: int) -> QoSProfile:
    """What ``qos_profile_sensor_data`` says, made anew: overrides are written into the object."""
    return QoSProfile(
        history=QoSHistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=QoSReliabilityPolicy.BEST_EFFORT,
        durability=QoSDurabilityPolicy.VOLATILE,
    )
