"""What one reading of a bag tells before its sensors are used.

Poses and transforms may come late, at the wrong record time or only at key frames, so they are all
read first. Of images and clouds the stamps are noted, and the first message of each sensor. Memory
does not grow with a bag but for 64 bytes a pose and 32 a message.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crkd_core.progress import counted
from crkd_core.sensors import LIDAR
from crkd_ros.bags.container import Bag, Record
from crkd_ros.bags.foreign.contents import is_calibrated, same_camera, tells
from crkd_ros.bags.layout import Layout
from crkd_ros.bags.message_types import BagError
from crkd_ros.bags.strays import Strays, Times, find_strays
from crkd_ros.convert import arrays
from crkd_ros.convert.arrays import ConvertError, stamp_ns
from crkd_ros.motion.pose_table import PoseTable
from crkd_ros.motion.transform_tree import TransformTree

PoseTimes = Literal["header", "filled", "record"]

#: At most so many twists of an odometry are kept, to be compared with its poses.
_TWISTS = 5000


class Twists:
    """Twists of a whole drive, evenly: it may stand for long before it begins.

    Attributes:
        kept: stamp, ns, and linear and angular velocity [6].
    """

    def __init__(self) -> None:
        self.kept: list[tuple[int, NDArray[np.float64]]] = []
        self._count, self._every = 0, 1

    def add(self, stamp_ns: int, twist: NDArray[np.float64]) -> None:
        """Note one, or pass over it."""
        if self._count % self._every == 0:
            self.kept.append((stamp_ns, twist))
        self._count += 1
        if len(self.kept) == _TWISTS:
            del self.kept[1::2]
            self._every *= 2


class OdometryLog:
    """The messages of one odometry topic.

    Attributes:
        tables: (frame, child frame) -> poses of the child in the frame.
        twists: the same -> those of the messages that are filled in.
    """

    def __init__(self) -> None:
        self.tables: dict[tuple[str, str], PoseTable] = {}
        self.twists: dict[tuple[str, str], Twists] = {}

    def take(self, message: Any, topic: str, stamp: int) -> None:
        """Note one nav_msgs/Odometry and when it was measured, ns. Raises ConvertError."""
        pose = arrays.odometry_pose(message)
        if stamp <= 0:
            raise ConvertError("odometry without a stamp")
        frames = message.header.frame_id.lstrip("/"), message.child_frame_id.lstrip("/")
        self.tables.setdefault(frames, PoseTable(topic)).add(stamp, pose)
        twist, known = arrays.odometry_twist(message), self.twists.setdefault(frames, Twists())
        if twist is not None and twist.any():
            known.add(stamp, twist)

    def most(self) -> tuple[str, str] | None:
        """The frame and child frame that most messages have; None: there is none."""
        return max(self.tables, key=lambda one: len(self.tables[one]), default=None)


def no_stamps(path: Path, channels: Sequence[str], *, others: bool) -> str:
    """What to say of sensors without stamps; ``others``: there are some that have."""
    leave = f"; or leave out what has none: --topic {channels[0]}=" if others else ""
    return (
        f"headers of {', '.join(one.lower() for one in channels)} have no stamp; if the record "
        f"times are the sensors' own times: crkd bag convert {path} OUT --stamps record{leave}"
    )


class Survey:
    """One reading of a bag.

    Args:
        bag: an open bag.
        layout: its topics.
        base: the vehicle's frame.
        progress: a bar on stderr.
        heads_only: of images and clouds only the first messages are read, which is much faster.
        pose_times: when poses were measured: "header"; "filled": where a header has no stamp, when
            the message was recorded; "record": always that.

    Attributes:
        layout: as given.
        heads: channel -> the first of its messages that can be read and tells what it sends, or
            else the first that can be read; LIDAR_TOP too.
        infos: camera -> its first CameraInfo with numbers that can be read, or else the last one.
        changing: cameras of which other ones follow; told only with ``heads_only``.
        tree: all transforms.
        odometry: topic -> what it says.
        broken: topic -> (how many of its messages cannot be read, why not the first of them).

    Raises:
        BagError: the bag is damaged, or the messages of a sensor cannot be read at all.
    """

    def __init__(
        self,
        bag: Bag,
        layout: Layout,
        *,
        base: str = "base_link",
        progress: bool = False,
        heads_only: bool = False,
        pose_times: PoseTimes = "header",
    ) -> None:
        self.layout, self._pose_times = layout, pose_times
        self.heads: dict[str, Any] = {}
        self.infos: dict[str, Any] = {}
        self.changing: set[str] = set()
        self._heads_only = heads_only
        self.tree = TransformTree(base=base)
        self.odometry = {topic.name: OdometryLog() for topic in layout.odometry}
        self.broken: dict[str, tuple[int, str]] = {}
        self._sensors = {topic.name: channel for channel, topic in layout.sensors.items()}
        if layout.lidar is not None:
            self._sensors[layout.lidar.name] = LIDAR
        self._infos: dict[str, list[str]] = {}
        for camera, topic in layout.infos.items():
            self._infos.setdefault(topic.name, []).append(camera)
        self._tf = {topic.name for topic in layout.transforms}
        #: Topic -> the number of its last message, also of those that cannot be read.
        self._places = dict.fromkeys(self._sensors, -1)
        self._told: set[str] = set()
        self._topics: list[str] = []
        self._numbers, self._stamps, self._records = array("q"), array("q"), array("q")
        unreadable = bag.unreadable()
        for name in self._sensors:
            if name in unreadable:
                raise BagError(f"{bag.path}: {name}: {unreadable[name]}")
        motion, sensors = {*self._tf, *self.odometry}, {*self._sensors, *self._infos}
        if heads_only:
            self._read(bag, motion | set(self._infos), progress)
            self._read(bag, set(self._sensors), progress, until_heads=True)
        else:
            self._read(bag, motion | sensors, progress)

    @property
    def frames(self) -> dict[str, str]:
        """Channel -> frame that its first message names, without the slash of ROS 1; or ""."""
        return {name: str(one.header.frame_id).lstrip("/") for name, one in self.heads.items()}

    def unstamped(self) -> list[str]:
        """Channels whose messages can be read, and none of them has a stamp."""
        pairs = zip(self._topics, self._stamps, strict=True)
        stamped = {self._sensors[topic] for topic, stamp in pairs if stamp}
        return sorted(set(self.heads) - stamped)

    def in_order(self) -> Iterator[tuple[int, int, str]]:
        """Stamp and record time, ns, and channel of the messages, in the order of the file."""
        messages = zip(self._stamps, self._records, self._topics, strict=True)
        return ((stamp, record, self._sensors[topic]) for stamp, record, topic in messages)

    def unread_motion(self) -> Iterator[str]:
        """What poses and transforms cannot be read: no account of sensors counts them."""
        for topic in sorted(self.broken.keys() & {*self._tf, *self.odometry}):
            count, why = self.broken[topic]
            yield f"{topic}: {count} messages cannot be used: {why}"

    def times(self, *, record_times: bool = False) -> tuple[dict[str, Times], Strays]:
        """Stamps of every channel, ns, in the order of the file and without strays; the strays.

        Args:
            record_times: headers have no stamps: record times stand in for them.
        """
        records = np.array(self._records, np.int64)
        stamps = records if record_times else np.array(self._stamps, np.int64)
        strays = find_strays(self._topics, self._numbers, stamps, records)
        kept: dict[str, list[int]] = {channel: [] for channel in self._sensors.values()}
        for topic, number, stamp in zip(self._topics, self._numbers, stamps.tolist(), strict=True):
            if number not in strays.places.get(topic, ()):
                kept[self._sensors[topic]].append(stamp)
        return {name: np.array(own, np.int64) for name, own in kept.items()}, strays

    def _read(
        self, bag: Bag, topics: set[str], progress: bool, *, until_heads: bool = False
    ) -> None:
        total = sum(bag.topics[topic].count for topic in topics)
        records = bag.records(topics)
        for record in counted(records, f"reading {bag.path.name}", total=total, shown=progress):
            try:
                self._take(record)
            except (BagError, ConvertError) as error:
                count, first = self.broken.get(record.topic, (0, str(error)))
                self.broken[record.topic] = count + 1, first
            if until_heads and len(self.heads) == len(self._sensors):
                break

    def _take(self, record: Record) -> None:
        topic = record.topic
        if topic in self._sensors:
            self._places[topic] += 1
            message = record.message()
            stamp = stamp_ns(message.header.stamp)
            if topic not in self._told:
                told = tells(message)
                self._told |= {topic} if told else set()
                if told or self._sensors[topic] not in self.heads:
                    self.heads[self._sensors[topic]] = message
            self._topics.append(topic)
            self._numbers.append(self._places[topic])
            self._records.append(record.stamp_ns)
            self._stamps.append(stamp)
        elif topic in self._infos:
            self._take_info(record)
        elif topic in self._tf:
            self._take_transforms(record.message().transforms, topic, record.stamp_ns)
        else:
            message = record.message()
            stamp = self._pose_stamp(message.header, record.stamp_ns)
            self.odometry[topic].take(message, topic, stamp)

    def _take_info(self, record: Record) -> None:
        cameras = self._infos[record.topic]
        known = [one for one in cameras if one in self.infos and is_calibrated(self.infos[one])]
        if len(known) == len(cameras) and not self._heads_only:
            return
        message = record.message()
        for camera in cameras:
            if camera not in known:
                self.infos[camera] = message
            elif not same_camera(self.infos[camera], message):
                self.changing.add(camera)

    def _pose_stamp(self, header: Any, record_ns: int) -> int:
        stamp = stamp_ns(header.stamp)
        filled = self._pose_times == "filled" and stamp <= 0
        return record_ns if filled or self._pose_times == "record" else stamp

    def _take_transforms(self, transforms: Sequence[Any], topic: str, record_ns: int) -> None:
        problems = []
        for one in transforms:
            try:
                matrix = arrays.transform_matrix(one)
            except ConvertError as error:
                problems.append(f"transform of {one.child_frame_id}: {error}")
                continue
            stamp = self._pose_stamp(one.header, record_ns)
            frames, static = (one.header.frame_id, one.child_frame_id), "static" in topic
            self.tree.add(*frames, stamp, matrix, static=static, source=topic)
        if problems:
            raise ConvertError("; ".join(problems))
