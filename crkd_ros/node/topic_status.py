"""What the ROS graph says of a topic that nothing arrives on."""

from __future__ import annotations

from typing import Any

from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible

from crkd_ros.sensors.health import TopicStatus


def topic_status(node: Any, *, topic: str, type_name: str, profile: QoSProfile) -> TopicStatus:
    """The publishers of a topic, and what keeps all of them from a subscription.

    Args:
        node: an rclpy node.
        topic: as the subscription was asked for; rclpy remaps what it looks up, and a name that is
            remapped twice is another one where two sensors exchange theirs.
        type_name: of the subscription, e.g. "sensor_msgs/msg/Image".
        profile: of the subscription, overrides included.
    """
    obstacles, name = [], node.resolve_topic_name(topic)
    found = node.get_publishers_info_by_topic(topic)
    for publisher in found:
        if publisher.topic_type != type_name:
            obstacles.append(f"published as {publisher.topic_type}, not {type_name}")
            continue
        verdict, reason = qos_check_compatible(publisher.qos_profile, profile)
        if verdict != QoSCompatibility.ERROR:
            return TopicStatus(publishers=len(found))
        obstacles.append(
            f"QoS mismatch: {_policies(reason)}; set qos_overrides.{name}.subscription.* to what "
            f"{publisher.node_name} offers"
        )
    return TopicStatus(publishers=len(found), obstacle=obstacles[0] if obstacles else "")


def _policies(reason: str) -> str:
    """The errors among rmw's own words ("ERROR: Best effort publisher and reliable ...;")."""
    parts = [part.strip() for part in reason.split(";")]
    errors = [part.removeprefix("ERROR: ") for part in parts if part.startswith("ERROR")]
    return ", ".join(errors) or reason
