"""What the ROS graph says of a topic that nothing arrives on."""

from __future__ import annotations

import contextlib
from typing import Any

from rclpy.exceptions import InvalidTopicNameException
from rclpy.qos import (
    QoSCompatibility,
    QoSDurabilityPolicy,
    QoSProfile,
    QoSReliabilityPolicy,
    qos_check_compatible,
)

from crkd_ros.sensors.health import TopicStatus

_KEPT = QoSDurabilityPolicy.TRANSIENT_LOCAL
_IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
#: A rig may have cameras of either kind, and the parameter is one.
_TRANSPORT = (
    "image_transport is one for all cameras: change it if all send these, else republish this "
    "camera's (ros2 run image_transport republish)"
)


def topic_status(
    node: Any, *, topic: str, type_name: str, profile: QoSProfile, other: str = ""
) -> TopicStatus:
    """The publishers of a topic, and what keeps all of them from a subscription.

    Args:
        node: an rclpy node.
        topic: as the subscription was asked for; rclpy remaps what it looks up, and a name that is
            remapped twice is another one where two sensors exchange theirs.
        type_name: of the subscription, e.g. "sensor_msgs/msg/Image".
        profile: of the subscription, overrides included.
        other: of a camera, where its images would be with the other ``image_transport``.
    """
    obstacles, name = [], node.resolve_topic_name(topic)
    found = node.get_publishers_info_by_topic(topic)
    for publisher in found:
        if publisher.topic_type != type_name:
            advice = f"; {_TRANSPORT}" if other and publisher.topic_type in _IMAGES else ""
            obstacles.append(f"published as {publisher.topic_type}, not {type_name}{advice}")
            continue
        verdict, reason = qos_check_compatible(publisher.qos_profile, profile)
        if verdict != QoSCompatibility.ERROR:
            kept = publisher.qos_profile.durability == _KEPT
            return TopicStatus(publishers=len(found), latched=kept and not _asks(profile))
        obstacles.append(
            f"QoS mismatch: {_policies(reason)}; set qos_overrides.{name}.subscription.* to what "
            f"{publisher.node_name} offers"
        )
    if other and not found:
        # It is not in use, and may be no name of a topic.
        with contextlib.suppress(RuntimeError, InvalidTopicNameException):
            there = f"{node.resolve_topic_name(other)} is published, as"
            obstacles = [
                f"{there} {publisher.topic_type}; {_TRANSPORT}"
                for publisher in node.get_publishers_info_by_topic(other)
                if publisher.topic_type in _IMAGES
            ]
    return TopicStatus(publishers=len(found), obstacle=obstacles[0] if obstacles else "")


def _asks(profile: QoSProfile) -> bool:
    """Whether a subscription is given what was sent before it: the best-effort ones are not."""
    reliable = profile.reliability != QoSReliabilityPolicy.BEST_EFFORT
    return reliable and profile.durability == _KEPT


def _policies(reason: str) -> str:
    """The errors among rmw's own words ("ERROR: Best effort publisher and reliable ...;")."""
    parts = [part.strip() for part in reason.split(";")]
    errors = [part.removeprefix("ERROR: ") for part in parts if part.startswith("ERROR")]
    return ", ".join(errors) or reason
