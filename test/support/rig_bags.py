"""Bags of the made-up vehicle (ros_rig.py), written in a moment and changed at will."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import ros_rig

from crkd_core.config import ImageConfig
from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.bags.foreign.kinds import Kind
from crkd_ros.bags.message_types import make
from crkd_ros.bags.writer import BagWriter, qos
from crkd_ros.convert import box_messages
from crkd_ros.convert.arrays import stamp_ns

#: When the vehicle heads far from the axes of its map.
START = 1_700_000_015_000_000_000
SECOND = 1_000_000_000
#: Bags of this vehicle look like ours to whoever asks their topics.
ROS2 = Kind.ROS2
IMAGE = ImageConfig(height=32, width=64, zoom=1.1)

#: Takes a topic, a message and its number among those of its topic; answers what is written
#: instead, with times of recording where they are not the stamps.
Change = Callable[[str, Any, int], Iterable[tuple[str, Any]]]


def static_tf(extrinsics=None, *, stamp: int = START, base: str = "base_link") -> Any:
    """The sensors' places as one TFMessage."""
    places = ros_rig.extrinsics() if extrinsics is None else extrinsics
    return tf_message(base, {name.lower(): pose for name, pose in places.items()}, stamp)


def tf_message(parent: str, places: dict[str, Any], stamp: int) -> Any:
    transforms = [
        box_messages.transform(pose, parent, child, stamp, make) for child, pose in places.items()
    ]
    return make("tf2_msgs/msg/TFMessage", transforms=transforms)


def based_on(name: str) -> Change:
    """The vehicle's frame has another name than base_link."""

    def change(topic: str, message: Any, number: int) -> Iterator[tuple[str, Any]]:
        for one in getattr(message, "transforms", ()):
            one.header.frame_id = name
        if topic == "/odom":
            message.child_frame_id = name
        yield topic, message

    return change


def messages(seconds: float = 1.0) -> Iterator[tuple[str, Any]]:
    """(topic, message): /tf_static, then the drive."""
    yield "/tf_static", static_tf()
    yield from ros_rig.drive(make, START, seconds)


def write(path: Path, change: Change | None = None, *, seconds: float = 1.0, source=None) -> Path:
    """A bag of the drive, in the order of its messages; record times are the drive's own."""
    numbers: dict[str, int] = {}
    with BagWriter(path) as bag:
        bag.add_topic("/tf_static", "tf2_msgs/msg/TFMessage", profile=qos(latched=True))
        for topic, message in messages(seconds) if source is None else source:
            at = recorded_at(topic, message)
            number = numbers[topic] = numbers.get(topic, -1) + 1
            for name, one in (
                [(topic, message)] if change is None else change(topic, message, number)
            ):
                bag.write(name, one, at)
    return path


def recorded_at(topic: str, message: Any) -> int:
    """When a message of the drive is recorded, ns: at its stamp."""
    if "static" in topic:
        return START
    head = message.transforms[0].header if hasattr(message, "transforms") else message.header
    return stamp_ns(head.stamp)


def image_topics() -> list[str]:
    return [f"/{name.lower()}/image_rect_compressed" for name in CAMERAS]


def radar_topics() -> list[str]:
    return [f"/{name.lower()}" for name in RADARS]
