"""The sensor messages of a foreign bag in our layout, in one stream.

Messages are put in the order of their own times by a short buffer, and each finds the vehicle's
pose of its time written before it.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from crkd_core.progress import counted
from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.bags import scene_messages
from crkd_ros.bags.container import Bag
from crkd_ros.bags.foreign import contents
from crkd_ros.bags.foreign.kinds import Kind
from crkd_ros.bags.known import BASE, Known
from crkd_ros.bags.layout import Layout
from crkd_ros.bags.message_types import CLOUD, IMAGES, INFO, ODOMETRY, TF, BagError, make
from crkd_ros.bags.strays import REORDER_NS
from crkd_ros.bags.writer import BagWriter, qos
from crkd_ros.convert import box_messages
from crkd_ros.convert.arrays import stamp_ns
from crkd_ros.convert.camera_info import STRAIGHT
from crkd_ros.convert.camera_model import CameraModel, CamerasConfig
from crkd_ros.motion.poses import MotionError, frame_key

ImageFormat = Literal["jpeg", "png"]

#: Places closer together than this are one: metres and sines of angles.
_SAME = 1e-3

#: (stamp, rank, number, what to write): the order of writing; intrinsics before the image.
_Waiting = tuple[int, int, int, list[tuple[str, Any]]]


@dataclass
class Conversion:
    """The second pass. ``counts``, ``span`` and the rest tell afterwards what happened.

    ``damaged``: topic -> (how many messages could not be used, why not the first); ``held``:
    camera -> CameraInfo that holds for its images to come; ``unplaced``: channel -> why the place
    of a message is not known.
    """

    bag: Bag
    kind: Kind
    layout: Layout
    known: Known
    cameras: CamerasConfig
    image_format: ImageFormat
    jpeg_quality: int
    with_lidar: bool
    counts: dict[str, int] = field(default_factory=dict)
    span: tuple[int, int] | None = None
    encoded: int = 0
    damaged: dict[str, tuple[int, str]] = field(default_factory=dict)
    held: dict[str, Any] = field(default_factory=dict)
    unplaced: dict[str, list[str]] = field(default_factory=dict)
    interpolated: int = 0
    without_pose: int = 0
    last_pose: int = -1
    last_info: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Until a later one comes, and for images before the first one, that holds.
        infos = self.known.survey.infos.items()
        self.held = {name: one for name, one in infos if name not in self.known.cameras}
        tree = self.known.survey.tree
        frames = self.known.survey.frames.items()
        #: Channel -> its frame in the bag, where it moves against the vehicle.
        self.moving: dict[str, str] = {}
        for channel, frame in frames:
            with contextlib.suppress(MotionError):
                if channel not in self.known.given and tree.moving(frame):
                    self.moving[channel] = frame

    def run(self, writer: BagWriter, description: str) -> None:
        """Write everything. Raises BagError."""
        roles = self._roles()
        for topic, type_name in self._out_topics():
            writer.add_topic(topic, type_name, profile=qos(latched=topic == "/tf_static"))
        next_pose = 0
        for stamp, _, _, messages in self._in_order(roles, description):
            if self.span is None:
                static = {
                    name: pose
                    for name, pose in self.known.extrinsics.items()
                    if name not in self.moving and (name != "LIDAR_TOP" or self.with_lidar)
                }
                self._write(writer, "/tf_static", scene_messages.static(stamp, static), stamp)
                # Poses from before the first sensor message serve nobody.
                next_pose = int((self.known.motion.table.stamps < stamp).sum())
            self.span = (self.span[0] if self.span else stamp, stamp)
            next_pose = self._poses(writer, next_pose, stamp)
            for topic, message in messages:
                channel = topic.split("/")[1].upper()
                if channel in self.moving and not topic.endswith("camera_info"):
                    self._place(writer, channel, stamp)
                self._write(writer, topic, message, stamp)
        if self.span is None:
            raise BagError("the bag holds no sensor message")

    def _poses(self, writer: BagWriter, place: int, stamp: int) -> int:
        """Write the poses until a sensor's stamp and that of the stamp itself."""
        table = self.known.motion.table
        while place < len(table) and table.stamps[place] <= stamp:
            self._pose(writer, int(table.stamps[place]))
            place += 1
        if place == 0 or table.stamps[place - 1] != stamp:
            if table.at(stamp) is None:
                self.without_pose += 1
            elif stamp != self.last_pose:
                self.interpolated += 1
                self._pose(writer, stamp)
        return place

    def _pose(self, writer: BagWriter, stamp: int) -> None:
        matrix = self.known.motion.table.at(stamp)
        assert matrix is not None
        self.last_pose = stamp
        self._write(writer, "/tf", scene_messages.tf(stamp, matrix), stamp)
        twist = self.known.motion.table.twist(stamp)
        self._write(writer, "/odom", scene_messages.odometry(stamp, matrix, *twist), stamp)

    def _place(self, writer: BagWriter, channel: str, stamp: int) -> None:
        """Where a sensor sits that moves against the vehicle (a mast, a turning head)."""
        try:
            matrix = self.known.survey.tree.base_T(self.moving[channel], stamp)
        except MotionError as error:
            self.unplaced.setdefault(channel, []).append(str(error))
            return
        transform = box_messages.transform(matrix, BASE, channel.lower(), stamp, make)
        self._write(writer, "/tf", make(TF[0], transforms=[transform]), stamp)

    def _write(self, writer: BagWriter, topic: str, message: Any, stamp: int) -> None:
        writer.write(topic, message, stamp)
        self.counts[topic] = self.counts.get(topic, 0) + 1

    def _roles(self) -> dict[str, tuple[str, str]]:
        """Topic of the old bag -> (role, channel)."""
        layout = self.layout
        roles = {topic.name: ("image", name) for name, topic in layout.images.items()}
        roles |= {topic.name: ("radar", name) for name, topic in layout.radars.items()}
        roles |= {
            topic.name: ("info", name)
            for name, topic in layout.infos.items()
            if name not in self.known.cameras
        }
        if self.with_lidar and layout.lidar is not None:
            roles[layout.lidar.name] = ("lidar", "LIDAR_TOP")
        return roles

    def _out_topics(self) -> Iterator[tuple[str, str]]:
        yield from (("/tf_static", TF[0]), ("/tf", TF[0]), ("/odom", ODOMETRY))
        for camera in CAMERAS:
            if camera in self.layout.images:
                yield f"/{camera.lower()}/camera_info", INFO
                yield self._image_topic(camera), IMAGES[0]
        for radar in RADARS:
            if radar in self.layout.radars:
                yield f"/{radar.lower()}", CLOUD
        if self.with_lidar:
            yield "/lidar_top", CLOUD

    def _image_topic(self, camera: str) -> str:
        """Images that are not rectified must not be called so: the detector straightens them."""
        given = self.known.cameras.get(camera)
        if given is not None:
            model = CameraModel.of_entry(given, name=camera)
            rectified = model.distortion == STRAIGHT
        else:
            rectified = self.known.pictures.rectified(camera)
        base = "image_rect_compressed" if rectified else "image_raw/compressed"
        return f"/{camera.lower()}/{base}"

    def _in_order(self, roles: dict[str, tuple[str, str]], description: str) -> Iterator[_Waiting]:
        """(stamp, rank, number, [(topic, message)]) by stamp; intrinsics before the image."""
        waiting: list[_Waiting] = []
        newest, seen = 0, dict.fromkeys(roles, -1)
        strays = self.known.strays.places
        for number, record in enumerate(
            counted(
                self.bag.records(list(roles)),
                description,
                total=sum(self.bag.topics[topic].count for topic in roles),
                shown=bool(description),
            )
        ):
            topic = record.topic
            role, channel = roles[topic]
            seen[topic] += 1
            if seen[topic] in strays.get(topic, ()):
                continue
            try:
                message = record.message()
                stamp = record.stamp_ns
                if not self.known.record_times:
                    stamp = stamp_ns(message.header.stamp)
                if role != "info":
                    self._check_frame(channel, contents.frame_of(message))
                if role == "info" and abs(stamp - newest) > REORDER_NS:
                    # Latched long ago, or never stamped: it holds for the images that follow.
                    self.held[channel] = message
                    continue
                made = self._convert(role, channel, stamp, message)
                if role == "info":
                    if stamp == self.last_info.get(channel):
                        continue
                    self.held.pop(channel, None)
                    self.last_info[channel] = stamp
                elif role == "image" and channel in self.held:
                    made[:0] = self._convert("info", channel, stamp, self.held.pop(channel))
                    self.last_info[channel] = stamp
            except BagError as error:
                self._damaged(topic, error)
                continue
            if role != "info":
                newest = max(newest, stamp)
            heapq.heappush(waiting, (stamp, int(role != "info"), number, made))
            while waiting and waiting[0][0] < newest - REORDER_NS:
                yield heapq.heappop(waiting)
        while waiting:
            yield heapq.heappop(waiting)

    def _check_frame(self, channel: str, frame: str) -> None:
        """A sensor of the new bag has one place. Raises BagError: this message is of another."""
        first = self.known.survey.frames[channel]
        if not frame or frame_key(frame) == frame_key(first):
            return
        tree, here = self.known.survey.tree, self.known.extrinsics.get(channel)
        with contextlib.suppress(MotionError):
            there = tree.base_T(frame)
            if here is not None and np.abs(there - here).max() < _SAME and not tree.moving(frame):
                return
        raise BagError(
            f"it is in frame {frame!r}, the first one in {first!r}, and a sensor of the new bag "
            "has one place; a replay reads the bag as it is"
        )

    def _damaged(self, topic: str, error: BagError) -> None:
        """One damaged message costs itself; nothing but damaged ones is an error."""
        count, first = self.damaged.get(topic, (0, str(error)))
        self.damaged[topic] = count + 1, first
        usable = self.bag.topics[topic].count - len(self.known.strays.places.get(topic, ()))
        if count + 1 >= usable:
            raise BagError(f"{self.bag.path}: {topic}: none of its messages can be used: {first}")

    def _convert(self, role: str, channel: str, stamp: int, message: Any) -> list[tuple[str, Any]]:
        name = f"/{channel.lower()}"
        frame = channel.lower()
        if role == "radar":
            return [(name, contents.radar_cloud(message, stamp=stamp, channel=frame))]
        if role == "lidar":
            return [(name, contents.cloud(message, stamp=stamp, channel=frame))]
        if role == "info":
            if self.kind is Kind.ROS2 or not contents.is_plain(message):
                info = contents.whole_info(message, stamp=stamp, channel=frame)
            else:
                info = contents.camera_info(
                    stamp=stamp,
                    channel=frame,
                    k=contents.info_matrix(message),
                    size=(int(message.width), int(message.height)),
                )
            return [(f"{name}/camera_info", info)]
        self.encoded += hasattr(message, "encoding")
        image = contents.compressed_image(
            message,
            stamp=stamp,
            channel=frame,
            image_format=self.image_format,
            jpeg_quality=self.jpeg_quality,
            bits=self.cameras.of(channel).bits,
        )
        made = [(self._image_topic(channel), image)]
        if channel in self.known.cameras:
            entry = self.known.cameras[channel]
            assert entry.image_size is not None
            info = contents.camera_info(
                stamp=stamp,
                channel=frame,
                k=entry.intrinsics,
                size=entry.image_size,
                lens=(entry.distortion_model, entry.distortion),
                r=entry.rectification,
            )
            made.insert(0, (f"{name}/camera_info", info))
        return made
