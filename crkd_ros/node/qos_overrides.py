"""``qos_overrides.<topic>.subscription.*``: the QoS of the inputs, as the user wants it."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator
from typing import Any

from rclpy.exceptions import InvalidTopicNameException
from rclpy.node import Node
from rclpy.qos import QoSPolicyKind, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions

from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.convert import ros_packages
from crkd_ros.parameters.configuration import QOS_OVERRIDES
from crkd_ros.parameters.framing import FramingConfig

#: What may be changed; durability for latched CameraInfo.
_OVERRIDABLE = (
    QoSPolicyKind.HISTORY,
    QoSPolicyKind.DEPTH,
    QoSPolicyKind.RELIABILITY,
    QoSPolicyKind.DURABILITY,
)


def overriding() -> QoSOverridingOptions:
    """What a subscription lets the user override."""
    return QoSOverridingOptions(_OVERRIDABLE, callback=_usable)


def without_effect(node: Node, framing: FramingConfig) -> str:
    """What to say of the overrides that the node was started with and no input takes; "": none.

    They are said, not refused: topics may have had these names when the file was written, and a
    node that runs cannot lose what it was started with.
    """
    known = [
        f"{QOS_OVERRIDES}{topic}.subscription.{policy.name.lower()}"
        for topic in _topics(node, framing)
        for policy in _OVERRIDABLE
    ]
    strays = [
        name
        for name in getattr(node, "_parameter_overrides", {})
        # rclpy has declared those that somebody has asked for.
        if name.startswith(QOS_OVERRIDES) and name not in known and not node.has_parameter(name)
    ]
    if not strays:
        return ""
    (near,) = difflib.get_close_matches(strays[0], known, n=1, cutoff=0.0)
    more = f" (and {len(strays) - 1} more)" if len(strays) > 1 else ""
    return f"{strays[0]}{more} has no effect, for no input takes it; did you mean {near!r}?"


def _topics(node: Node, framing: FramingConfig) -> Iterator[str]:
    """Of all sensors: a file for the whole vehicle serves a node that uses some of them."""
    topics = [framing.topic(sensor) for sensor in (*CAMERAS, *RADARS, "odometry")]
    for topic in (*topics, *(framing.info_topic(camera) for camera in CAMERAS)):
        # Names of sensors that are not in use may be no names of topics.
        with contextlib.suppress(RuntimeError, InvalidTopicNameException):
            yield str(node.resolve_topic_name(topic))


def _usable(profile: QoSProfile) -> Any:
    """Whether overrides can be used; what rcl says of a negative depth helps nobody."""
    return ros_packages.make(
        "rcl_interfaces/msg/SetParametersResult",
        successful=profile.depth >= 0,
        reason=f"expected a depth of 0 or more, got {profile.depth}" if profile.depth < 0 else "",
    )
