"""Bags of other nuScenes converters: which one wrote a bag, and which topic carries what.

Facts about each converter are in docs/ros.md, "Bags of others". A bag of a converter that is not
listed but uses standard ROS 2 types is read too (``Kind.ROS2``).
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from crkd_core.data.nuscenes.reader import CHANNELS
from crkd_core.sensors import CAMERAS, LIDAR, RADARS
from crkd_ros.bags.container import CONTAINERS, Bag, Container, Topic
from crkd_ros.bags.definitions import is_radar_objects
from crkd_ros.bags.message_types import CLOUD, IMAGES, INFO, ODOMETRY, TF, BagError


class Kind(enum.Enum):
    """Who wrote a bag. The values are those of ``crkd bag convert --kind``."""

    NUSCENES2BAG = "nuscenes2bag"
    NUSCENES2BAG_ROS2 = "nuscenes2bag-ros2"
    CHRIS7462 = "chris7462"
    WATONOMOUS = "watonomous"
    FOXGLOVE_ROS1 = "foxglove-ros1"
    FOXGLOVE_MCAP = "foxglove-mcap"
    ROS2 = "ros2"
    OURS = "crkd"

    @property
    def converter(self) -> str:
        """The converter's name as its users know it."""
        return _CONVERTERS[self]


_CONVERTERS = {
    Kind.NUSCENES2BAG: "clynamen/nuscenes2bag, ROS 1",
    Kind.NUSCENES2BAG_ROS2: "Wj-costumer/NuScenes2Bag_ROS2",
    Kind.CHRIS7462: "Chris7462/nuscenes_to_ros2bag",
    Kind.WATONOMOUS: "WATonomous/nuscenes_to_ros2bag",
    Kind.FOXGLOVE_ROS1: "foxglove/nuscenes2bag and scepter914/nuscenes_rosbag, ROS 1",
    Kind.FOXGLOVE_MCAP: "foxglove/nuscenes2mcap, Foxglove's own messages",
    Kind.ROS2: "a rosbag2 of standard messages",
    Kind.OURS: "the layout of crkd bag",
}


@dataclass(frozen=True, kw_only=True)
class ForeignLayout:
    """Which topic carries what. Channels are those of nuScenes, in capitals.

    Attributes:
        images, infos, radars: channel -> topic.
        lidar: the cloud of LIDAR_TOP.
        transforms: topics of tf messages, static ones included.
        odometry: the topic with poses, if any.
    """

    images: Mapping[str, Topic]
    infos: Mapping[str, Topic]
    radars: Mapping[str, Topic]
    lidar: Topic | None
    transforms: tuple[Topic, ...]
    odometry: Topic | None


def foreign_layout(bag: Bag) -> ForeignLayout:
    """Find the sensors by topic type and by the channel in the topic's name, any case.

    A topic whose messages cannot be decoded is taken only where there is no other.
    """
    topics = sorted((t for t in bag.topics.values() if t.count), key=lambda t: t.name)
    unreadable = bag.unreadable()

    def of(channel: str, *kinds: str) -> Topic | None:
        found = [
            topic
            for topic in topics
            if channel.lower() in topic.name.lower().split("/")
            and (
                topic.type_name in kinds
                or ("RadarObjects" in kinds and is_radar_objects(topic.type_name))
            )
        ]
        # A compressed image is preferred to the same image raw.
        return min(
            found,
            key=lambda t: (t.name in unreadable, t.type_name not in kinds[:1], t.name),
            default=None,
        )

    def all_of(channels: Collection[str], *kinds: str) -> dict[str, Topic]:
        return {name: topic for name in channels if (topic := of(name, *kinds)) is not None}

    odometry = [topic for topic in topics if topic.type_name == ODOMETRY]
    return ForeignLayout(
        images=all_of(CAMERAS, *IMAGES),
        infos=all_of(CAMERAS, INFO),
        radars=all_of(RADARS, CLOUD, "RadarObjects"),
        lidar=of(LIDAR, CLOUD),
        transforms=tuple(topic for topic in topics if topic.type_name in TF),
        odometry=min(odometry, key=lambda t: (t.name.strip("/") != "odom", t.name), default=None),
    )


def recognise(bag: Bag) -> Kind:
    """Which converter wrote this bag, from its container, topics and types.

    Raises:
        BagError: neither a camera nor a radar of nuScenes is in it; the text lists the topics.
    """
    layout = foreign_layout(bag)
    if not layout.images and not layout.radars:
        raise BagError(
            f"{bag.path}: no camera image and no radar message in a topic named after "
            f"{', '.join(name.lower() for name in CHANNELS[:2])}, ...; its topics: "
            f"{', '.join(f'{t.name} ({t.type_name})' for t in bag.topics.values()) or 'none'}"
        )
    objects = [topic for topic in layout.radars.values() if is_radar_objects(topic.type_name)]
    capitals = any(
        channel in topic.name
        for channel, topic in (*layout.images.items(), *layout.radars.items())
    )
    if bag.container == "foxglove":
        return Kind.FOXGLOVE_MCAP
    if bag.container == "ros1":
        return Kind.FOXGLOVE_ROS1 if capitals else Kind.NUSCENES2BAG
    if objects or any(t.name.endswith("/raw") for t in layout.images.values()):
        prefixed = any(t.name.startswith("/nuscenes/") for t in bag.topics.values())
        return Kind.CHRIS7462 if prefixed else Kind.NUSCENES2BAG_ROS2
    if any(t.name.startswith("/nuscenes/") for t in layout.images.values()):
        return Kind.CHRIS7462
    if capitals:
        return Kind.WATONOMOUS
    compressed = all(t.type_name == IMAGES[0] for t in layout.images.values())
    static = any(t.name == "/tf_static" for t in layout.transforms)
    return Kind.OURS if compressed and static and layout.odometry else Kind.ROS2


def check_container(bag: Bag, kind: Kind) -> None:
    """A kind that was chosen by hand must at least fit the file. Raises BagError."""
    of_kind: dict[Kind, Container] = {
        Kind.NUSCENES2BAG: "ros1",
        Kind.FOXGLOVE_ROS1: "ros1",
        Kind.FOXGLOVE_MCAP: "foxglove",
    }
    wanted = of_kind.get(kind, "ros2")
    if bag.container != wanted:
        raise BagError(
            f"{bag.path} is {CONTAINERS[bag.container]}, so it cannot be {kind.value} "
            f"({kind.converter}), which is {CONTAINERS[wanted]}; leave --kind out"
        )
