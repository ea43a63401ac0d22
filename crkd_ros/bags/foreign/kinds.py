"""Bags of other nuScenes converters: which one wrote a bag, and reading its messages in order.

Facts about each converter are in docs/ros.md, "Bags of others". A bag of a converter that is not
listed but uses standard ROS 2 types is read too (``Kind.ROS2``).
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from rosbags.interfaces import Connection
from rosbags.rosbag1 import Reader as Reader1
from rosbags.rosbag2 import Reader as Reader2

from crkd_core.data.nuscenes.reader import CHANNELS, LIDAR
from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.bags.foreign import contents as foreign_messages
from crkd_ros.bags.message_types import BagError

IMAGES = ("sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image")
INFO = "sensor_msgs/msg/CameraInfo"
CLOUD = "sensor_msgs/msg/PointCloud2"
ODOMETRY = "nav_msgs/msg/Odometry"
#: ROS 1 has the older name too.
TF = ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage")
_MCAP = b"\x89MCAP0\r\n"


class Kind(enum.Enum):
    """Who wrote a bag. The values are those of ``crkd-bag convert --kind``."""

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
    Kind.OURS: "crkd-bag's own layout",
}


@dataclass(frozen=True, kw_only=True)
class ForeignTopic:
    """One topic: name as in the bag, type in ROS 2 spelling, number of messages."""

    name: str
    type_name: str
    count: int


Container = Literal["ros1", "ros2", "foxglove"]


class ForeignBag(Protocol):
    """An open bag of any container; a context that closes it."""

    @property
    def container(self) -> Container:
        """What the file is."""

    @property
    def topics(self) -> Mapping[str, ForeignTopic]:
        """By name."""

    def messages(self, names: Collection[str]) -> Iterator[tuple[str, int, Any]]:
        """(topic, record time in ns, message) in record order. Raises BagError when damaged."""

    def close(self) -> None:
        """Close the files."""


class RosBag:
    """A ROS 1 ``.bag`` or a rosbag2, through rosbags."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # The ROS 2 port of nuscenes2bag calls its folders so too.
        self._ros1 = path.suffix == ".bag" and path.is_file()
        self.container: Container = "ros1" if self._ros1 else "ros2"
        try:
            self._reader = Reader1(path) if self._ros1 else Reader2(path)
            self._reader.open()
        except Exception as error:  # rosbags raises ReaderError, struct.error, OSError, ...
            wanted = "ROS 1 bag" if self._ros1 else "rosbag2 (folder, .mcap or .db3)"
            raise BagError(f"{path}: not a readable {wanted}: {error}") from error
        self._connections: list[Connection] = list(self._reader.connections)
        self._store = foreign_messages.typestore(self._connections, ros1=self._ros1)
        self.topics: dict[str, ForeignTopic] = {}
        for connection in self._connections:
            before = self.topics.get(connection.topic)
            self.topics[connection.topic] = ForeignTopic(
                name=connection.topic,
                type_name=connection.msgtype,
                count=connection.msgcount + (before.count if before else 0),
            )

    def messages(self, names: Collection[str]) -> Iterator[tuple[str, int, Any]]:
        """See ForeignBag."""
        wanted = [c for c in self._connections if c.topic in names]
        if not wanted:
            return
        read = self._store.deserialize_ros1 if self._ros1 else self._store.deserialize_cdr
        try:
            for connection, stamp, data in self._reader.messages(connections=wanted):
                yield connection.topic, stamp, read(data, connection.msgtype)
        except GeneratorExit:
            raise
        except Exception as error:  # apsw, struct, zstd, lz4, SerdeError, AssertionError, ...
            raise BagError(f"{self.path}: the bag is damaged: {error!r}") from error

    def close(self) -> None:
        """See ForeignBag."""
        self._reader.close()


def open_foreign(path: Path) -> ForeignBag:
    """Open a bag by its container.

    Raises:
        BagError: no such bag, or none that can be read.
    """
    if not path.exists():
        raise BagError(
            f"{path}: no such bag; expected a rosbag2 (folder, .mcap, .db3) or a ROS 1 .bag"
        )
    profile = _mcap_profile(path)
    if profile is not None and profile != "ros2":
        if profile == "ros1":
            raise BagError(
                f"{path}: mcap with ROS 1 messages (nuscenes2mcap before August 2022); "
                "make the file anew with a later version"
            )
        from crkd_ros.bags.foreign.foxglove import FoxgloveFile

        return FoxgloveFile(path)
    return RosBag(path)


def _mcap_profile(path: Path) -> str | None:
    """The profile in an mcap file's header; None where ``path`` is no mcap file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(len(_MCAP) + 13)
        if not head.startswith(_MCAP) or len(head) < len(_MCAP) + 13:
            return None
        return file.read(int.from_bytes(head[-4:], "little")).decode("utf-8", "replace")


@dataclass(frozen=True, kw_only=True)
class ForeignLayout:
    """Which topic carries what. Channels are those of nuScenes, in capitals.

    Attributes:
        images, infos, radars: channel -> topic.
        lidar: the cloud of LIDAR_TOP.
        transforms: topics of tf messages, static ones included.
        odometry: the topic with poses, if any.
    """

    images: Mapping[str, ForeignTopic]
    infos: Mapping[str, ForeignTopic]
    radars: Mapping[str, ForeignTopic]
    lidar: ForeignTopic | None
    transforms: tuple[ForeignTopic, ...]
    odometry: ForeignTopic | None


def layout_of(bag: ForeignBag) -> ForeignLayout:
    """Find the sensors by topic type and by the channel in the topic's name, any case."""
    topics = sorted((t for t in bag.topics.values() if t.count), key=lambda t: t.name)

    def of(channel: str, *kinds: str) -> ForeignTopic | None:
        found = [
            topic
            for topic in topics
            if channel.lower() in topic.name.lower().split("/")
            and (topic.type_name in kinds or ("RadarObjects" in kinds and _radar(topic)))
        ]
        # A compressed image is preferred to the same image raw.
        return min(found, key=lambda t: (t.type_name not in kinds[:1], t.name), default=None)

    def all_of(channels: Collection[str], *kinds: str) -> dict[str, ForeignTopic]:
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


def _radar(topic: ForeignTopic) -> bool:
    return foreign_messages.is_radar_objects(topic.type_name)


def recognise(bag: ForeignBag, path: Path) -> Kind:
    """Which converter wrote this bag, from its container, topics and types.

    Raises:
        BagError: neither a camera nor a radar of nuScenes is in it; the text lists the topics.
    """
    layout = layout_of(bag)
    if not layout.images and not layout.radars:
        raise BagError(
            f"{path}: no camera image and no radar message in a topic named after "
            f"{', '.join(name.lower() for name in CHANNELS[:2])}, ...; its topics: "
            f"{', '.join(f'{t.name} ({t.type_name})' for t in bag.topics.values()) or 'none'}"
        )
    objects = [topic for topic in layout.radars.values() if _radar(topic)]
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


def check_container(bag: ForeignBag, path: Path, kind: Kind) -> None:
    """A kind that was chosen by hand must at least fit the file. Raises BagError."""
    wanted = {
        Kind.NUSCENES2BAG: "ros1",
        Kind.FOXGLOVE_ROS1: "ros1",
        Kind.FOXGLOVE_MCAP: "foxglove",
    }.get(kind, "ros2")
    names = {
        "ros1": "a ROS 1 bag",
        "ros2": "a rosbag2",
        "foxglove": "an mcap file of Foxglove messages",
    }
    if bag.container != wanted:
        raise BagError(
            f"{path} is {names[bag.container]}, so it cannot be {kind.value} ({kind.converter}), "
            f"which is {names[wanted]}; leave --kind out"
        )
