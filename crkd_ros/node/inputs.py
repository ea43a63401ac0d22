"""The node's subscriptions and their callbacks, which check, note, and never block."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    InvalidTopicNameException,
)
from rclpy.node import Node
from rclpy.qos import (
    QoSDurabilityPolicy,
    QoSHistoryPolicy,
    QoSProfile,
    QoSReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.serialization import deserialize_message

from crkd_ros.convert import arrays, cdr, ros_packages
from crkd_ros.node import qos_overrides
from crkd_ros.node.receiver import Receiver
from crkd_ros.node.topic_status import topic_status
from crkd_ros.node.worker import FrameWorker
from crkd_ros.parameters.framing import FramingConfig
from crkd_ros.parameters.knobs import ParameterError
from crkd_ros.reporter import Reporter
from crkd_ros.sensors.health import TopicStatus, Trouble, silence
from crkd_ros.sensors.rig import Rig
from crkd_ros.sensors.sensor import Camera, NoIntrinsics, Odometry, Radar
from crkd_ros.sync.history import Arrival

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # humble
    from rclpy.qos_event import SubscriptionEventCallbacks

#: Messages that wait for their callback, as ``qos_profile_sensor_data`` has it.
_MESSAGES = 5
#: Poses are small and come in bursts, and a gap in them costs frames.
_POSES = 200
#: Seconds between two looks at why a camera has no CameraInfo.
_EVERY = 1.0
#: Where the content of a serialised CameraInfo begins: behind the encapsulation and the stamp.
_INFO_CONTENT = 4 + 8


class Inputs:
    """Subscriptions of every sensor in use, from activation to deactivation.

    Args:
        node: subscribes.
        framing: names and types of the topics.
        rig: its sensors hear the messages.
        worker: takes what they make of them.
        reporter: is told of what cannot be used.
    """

    def __init__(
        self,
        node: Node,
        *,
        framing: FramingConfig,
        rig: Rig,
        worker: FrameWorker,
        reporter: Reporter,
    ) -> None:
        self._node, self._worker, self._reporter = node, worker, reporter
        self._topics: dict[str, _Topic] = {}
        other = replace(
            framing, image_transport="compressed" if framing.image_transport == "raw" else "raw"
        )
        self._others = {name: other.topic(name) for name in rig.cameras}
        self._subscriptions: list[Any] = []
        self._infos: dict[str, bytes] = {}
        self._info_topics: dict[str, _Topic] = {}
        self._informed: set[str] = set()  # Cameras of which any CameraInfo came.
        self._looked: dict[str, tuple[float, str]] = {}
        self._receiver = Receiver(node, functools.partial(reporter.problem, "messages"))
        try:
            self._subscribe_all(framing, rig)
            if stray := qos_overrides.without_effect(node, framing):
                reporter.problem("QoS overrides", stray)
            self._receiver.start()
        except Exception:
            self.close()  # Half of the subscriptions must not outlive this object.
            raise

    def status(self, sensor: str) -> TopicStatus:
        """What the ROS graph says of the topic of a sensor's messages."""
        topic, kind, profile = self._topics[sensor]
        return topic_status(
            self._node,
            topic=topic,
            type_name=kind,
            profile=profile,
            other=self._others.get(sensor, ""),
        )

    def close(self) -> None:
        """End the subscriptions."""
        self._receiver.close()
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def _subscribe_all(self, framing: FramingConfig, rig: Rig) -> None:
        package = "sensor_msgs/msg/"
        self._info = ros_packages.message_class(f"{package}CameraInfo")
        images = "Image" if framing.image_transport == "raw" else "CompressedImage"
        for name, camera in rig.cameras.items():
            on_info = functools.partial(self._on_info, camera)
            self._info_topics[name] = self._subscribe(
                name, f"{package}CameraInfo", framing.info_topic(name), on_info, raw=True
            )
            on_image = functools.partial(self._on_item, camera)
            self._topics[name] = self._subscribe(
                name, f"{package}{images}", framing.topic(name), on_image
            )
        for name, radar in rig.radars.items():
            on_cloud = functools.partial(self._on_item, radar)
            self._topics[name] = self._subscribe(
                name, f"{package}PointCloud2", framing.topic(name), on_cloud
            )
        if rig.odometry is not None:
            name, on_pose = rig.odometry.name, functools.partial(self._on_pose, rig.odometry)
            self._topics[name] = self._subscribe(
                name,
                "nav_msgs/msg/Odometry",
                framing.topic(name),
                on_pose,
                depth=_POSES,
                raw=True,
                at_once=_POSES,  # A turn of the wait set costs more than a pose.
            )

    def _subscribe(
        self,
        sensor: str,
        kind: str,
        topic: str,
        callback: Callable[[Any], None],
        *,
        depth: int = _MESSAGES,
        raw: bool = False,
        at_once: int = 1,
    ) -> _Topic:
        profile, name = _sensor_data(depth), resolved(self._node, topic, sensor=sensor)
        try:
            subscription = self._node.create_subscription(
                ros_packages.message_class(kind),
                topic,
                callback,
                profile,
                callback_group=self._receiver.group,
                qos_overriding_options=qos_overrides.overriding(),
                # Each event that is watched costs every turn of the executor.
                event_callbacks=SubscriptionEventCallbacks(
                    incompatible_qos=functools.partial(self._on_incompatible, sensor, name),
                    use_default_callbacks=False,
                ),
            )
        except (
            *(RuntimeError, KeyError, ValueError),
            *(InvalidParameterTypeException, InvalidParameterValueException),
        ) as error:
            raise ParameterError(
                f"{sensor}: cannot subscribe to {name}: {error}; look at qos_overrides.{name}."
                "subscription.*"
            ) from error
        self._subscriptions.append(subscription)
        self._receiver.add(subscription, callback, raw=raw, at_once=at_once)
        return _Topic(topic, kind, profile)

    def _on_info(self, camera: Camera, data: bytes) -> None:
        """A CameraInfo, serialised: nearly all are the one before with another stamp."""
        content = data[_INFO_CONTENT:]
        self._informed.add(camera.name)
        if camera.model is not None and self._infos.get(camera.name) == content:
            camera.health.info_received()
            return
        with self._safely(camera, "no CameraInfo"):
            camera.on_info(deserialize_message(data, self._info))
            self._infos[camera.name] = content

    def _on_item(self, sensor: Camera | Radar, message: Any) -> None:
        """An image or a cloud."""
        with self._safely(sensor):
            arrival = self._arrived(sensor, message)
            if self._worker.wanted():
                self._worker.add(sensor.name, arrival, sensor.item(message))

    def _on_pose(self, odometry: Odometry, data: bytes) -> None:
        """Odometry, serialised."""
        with self._safely(odometry):
            message = cdr.odometry(data)
            arrival = self._arrived(odometry, message)
            if odometry.on_pose(message):
                self._worker.add_pose(arrival.stamp_ns)

    def _arrived(self, sensor: Camera | Radar | Odometry, message: Any) -> Arrival:
        arrival = Arrival(arrays.stamp_ns(message.header.stamp), time.monotonic())
        sensor.health.received(arrival, clock_ns=self._node.get_clock().now().nanoseconds)
        return arrival

    @contextlib.contextmanager
    def _safely(
        self, sensor: Camera | Radar | Odometry, lacks: Trouble = "unusable"
    ) -> Iterator[None]:
        """A message that cannot be used must not end the node, whatever is wrong with it."""
        kind = f"{sensor.name.lower()} message"
        try:
            yield
            return
        except NoIntrinsics as error:
            text, lacks, kind = str(error), "no CameraInfo", "intrinsics"
            if sensor.name not in self._informed:
                text += f"; {self._why_uninformed(sensor.name)}"
        except arrays.ConvertError as error:
            text = str(error)
        except Exception as error:
            text = f"{sensor.name}: {type(error).__name__}: {error}"
        sensor.health.trouble(lacks, text)
        self._reporter.problem(kind, text)

    def _why_uninformed(self, camera: str) -> str:
        """Why no CameraInfo ever came. The graph is asked seldom: each image wants to know."""
        now = time.monotonic()
        at, why = self._looked.get(camera, (-_EVERY, ""))
        if now - at >= _EVERY:
            topic, kind, profile = self._info_topics[camera]
            status = topic_status(self._node, topic=topic, type_name=kind, profile=profile)
            name = resolved(self._node, topic, sensor=camera)
            why = silence(name, status)
            if status.latched:
                why = (
                    f"{name} may have been published once, before this node came: set "
                    f"qos_overrides.{name}.subscription.durability to transient_local and "
                    ".reliability to reliable"
                )
            self._looked[camera] = now, why
        return why

    def _on_incompatible(self, sensor: str, topic: str, event: Any) -> None:
        try:
            policy = qos_policy_name_from_kind(event.last_policy_kind)
        except ValueError:  # One that this rclpy has no name for.
            policy = f"policy {event.last_policy_kind}"
        self._reporter.problem(
            f"{sensor.lower()} QoS",
            f"{sensor}: a publisher of {topic} offers an incompatible QoS ({policy}); set "
            f"qos_overrides.{topic}.subscription.* to what it offers",
        )


def resolved(node: Node, topic: str, *, sensor: str) -> str:
    """The name of a sensor's topic after remapping.

    Raises:
        ParameterError: it is no name of a topic.
    """
    try:
        return str(node.resolve_topic_name(topic))
    except (RuntimeError, InvalidTopicNameException) as error:
        raise ParameterError(
            f"{sensor}: expected the name of a topic, got {topic!r}: {error}; look at topics.*"
        ) from error


class _Topic(NamedTuple):
    """A sensor's topic before remapping, its message type, and the QoS asked for."""

    asked: str
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
