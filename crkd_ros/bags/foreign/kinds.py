"""Bags of other nuScenes converters: which one wrote a bag.

Facts about each converter are in docs/ros.md, "Bags of others". A bag of a converter that is not
listed but uses standard ROS 2 types is read too (``Kind.ROS2``).
"""

from __future__ import annotations

import enum

from crkd_core.data.nuscenes.reader import CHANNELS
from crkd_ros.bags.container import CONTAINERS, Bag, Container
from crkd_ros.bags.definitions import is_radar_objects
from crkd_ros.bags.layout import Layout
from crkd_ros.bags.message_types import IMAGES, ODOMETRY, BagError
from crkd_ros.parameters.framing import FramingConfig


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


def recognise(bag: Bag, layout: Layout) -> Kind:
    """Which converter wrote this bag, from its container, topics and types.

    Raises:
        BagError: neither a camera nor a radar of nuScenes is in it; the text lists the topics.
    """
    if not layout.images and not layout.radars:
        raise BagError(
            f"{bag.path}: no camera image and no radar message in a topic named after "
            f"{', '.join(name.lower() for name in CHANNELS[:2])}, ... (if they have other names, "
            "say which is which: --topic CAM_FRONT=/camera/image_raw); its topics: "
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
    return Kind.OURS if _ours(bag, layout) else Kind.ROS2


def _ours(bag: Bag, layout: Layout) -> bool:
    """Whether every topic has the name and the type that ``crkd bag`` gives it."""
    names = FramingConfig()
    pictures = all(
        topic.name == f"/{names.topic(camera)}" and topic.type_name == IMAGES[0]
        for camera, topic in layout.images.items()
    )
    clouds = all(topic.name == f"/{names.topic(radar)}" for radar, topic in layout.radars.items())
    infos = all(
        topic.name == f"/{names.info_topic(camera)}" for camera, topic in layout.infos.items()
    )
    static = any(topic.name == "/tf_static" for topic in layout.transforms)
    # Converted without ego motion, it has the topic all the same.
    odometry = bag.topics.get(f"/{names.topics.odometry}")
    moves = odometry is not None and odometry.type_name == ODOMETRY
    return pictures and clouds and infos and static and moves


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
