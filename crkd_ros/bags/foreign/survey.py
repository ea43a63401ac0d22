"""What must be known of a foreign bag before its sensors are converted: poses and calibration.

Other converters write poses late, at the wrong record time or only at key frames, so they are all
read first. Of images and clouds the stamps are noted, and the first message of each sensor.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.progress import counted
from crkd_ros.bags.container import Bag, Record
from crkd_ros.bags.foreign import contents
from crkd_ros.bags.foreign.kinds import ForeignLayout, Kind
from crkd_ros.bags.foreign.pose_table import PoseTable
from crkd_ros.bags.foreign.strays import Strays, Times, find_strays
from crkd_ros.bags.message_types import BagError
from crkd_ros.convert.arrays import ConvertError, odometry_pose, stamp_ns, transform_matrix
from crkd_ros.motion.calibration_file import Calibration, CameraEntry
from crkd_ros.motion.poses import MotionError

Array = NDArray[np.float64]

BASE = "base_link"


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What the first pass found.

    Attributes:
        poses: of the vehicle, and ``pose_source``, the topics they are of.
        extrinsics: channel -> ``base_T_sensor`` [4, 4].
        cameras: camera -> what the calibration file says of it, with ``image_size``; the bag's
            CameraInfo is not taken for these.
        frames: channel -> frame name in the bag.
        record_times: True when headers have no stamps and record times stand in for them.
        stamps: channel -> stamps of its images or clouds, ns, in the order of the file, without
            strays.
        strays: sensor messages with wrong stamps; those of CameraInfo, which holds at any time,
            are none.
        broken: topic -> (how many messages cannot be decoded, why not the first of them).
    """

    poses: PoseTable
    pose_source: str
    extrinsics: dict[str, Array]
    cameras: dict[str, CameraEntry]
    frames: dict[str, str]
    record_times: bool
    stamps: dict[str, Times]
    strays: Strays
    broken: dict[str, tuple[int, str]]


def survey(
    bag: Bag,
    layout: ForeignLayout,
    *,
    kind: Kind,
    calibration: Path | None = None,
    stamps: str = "auto",
    progress: bool = True,
    strict: bool = True,
) -> Survey:
    """Read the bag once: poses, transforms, stamps and the first message of every sensor.

    Args:
        bag: an open bag.
        layout: its topics.
        kind: who wrote it.
        calibration: a calibration file. Where it lists a sensor, it overrules the bag.
        stamps: "header", "record" (for headers without stamps), or "auto": as the kind does it.
        progress: a bar on stderr.
        strict: False: what is missing is no error.

    Raises:
        BagError: something that a detector needs is neither in the bag nor in the file; the text
            names all of it and what to pass.
        MotionError: the calibration file cannot be used.
    """
    given = Calibration.load(calibration, base=BASE) if calibration else None
    heard = _Heard(bag, layout)
    heard.read(progress)
    record_times = _record_times(heard, path=bag.path, kind=kind, stamps=stamps)
    found, tf_poses = heard.transforms()
    poses, source = tf_poses, ", ".join(topic.name for topic in layout.transforms)
    # The odometry of the WATonomous lineage is the vehicle's own estimate, not the ego pose.
    if not len(poses) and layout.odometry is not None:
        poses, source = heard.odometry, layout.odometry.name
    frames = {channel: contents.frame_of(one) for channel, one in heard.heads.items()}
    extrinsics: dict[str, Array] = {}
    for channel, frame in frames.items():
        names = (frame, channel, f"{channel}_link")
        matrix = _base_T(given, names)
        matrix = _base_T(found, names) if matrix is None else matrix
        if matrix is not None:
            extrinsics[channel] = matrix
    cameras: dict[str, CameraEntry] = {}
    for camera in layout.images:
        entry = _camera(given, (frames.get(camera, ""), camera, f"{camera}_link"))
        if entry is not None and camera in heard.heads:
            size = contents.image_size(heard.heads[camera])
            if entry.image_size not in (None, size):
                raise BagError(
                    f"{calibration}: {camera.lower()} is for images of {entry.image_size} pixels, "
                    f"those of {bag.path} have {size}"
                )
            cameras[camera] = dataclasses.replace(entry, image_size=size)
    if strict:
        _refuse(
            path=bag.path,
            kind=kind,
            poses=poses,
            unplaced=[c for c in (*layout.images, *layout.radars) if c not in extrinsics],
            unknown=[c for c in layout.images if c not in layout.infos and c not in cameras],
            calibration=calibration,
        )
    times, strays = heard.times(record_times)
    return Survey(
        poses=poses,
        pose_source=source,
        extrinsics=extrinsics,
        cameras=cameras,
        frames=frames,
        record_times=record_times,
        stamps=times,
        strays=strays,
        broken=heard.broken,
    )


class _Heard:
    """What one reading of a bag tells."""

    def __init__(self, bag: Bag, layout: ForeignLayout) -> None:
        self._bag, self._layout = bag, layout
        self._sensors = {
            topic.name: channel
            for group in (layout.images, layout.radars)
            for channel, topic in group.items()
        }
        if layout.lidar is not None:
            self._sensors[layout.lidar.name] = "LIDAR_TOP"
        self._tf = {topic.name for topic in layout.transforms}
        self._tree, self._above = Calibration(base=BASE), dict[str, Array]()
        self._poses = PoseTable()
        #: Topic -> the number of its last message, also of those that cannot be read.
        self._places = dict.fromkeys(self._sensors, -1)
        self._topics: list[str] = []
        self._numbers = array("q")
        self._stamps, self._records = array("q"), array("q")
        self.odometry = PoseTable()
        self.heads: dict[str, Any] = {}
        self.broken: dict[str, tuple[int, str]] = {}

    def read(self, progress: bool) -> None:
        """Read it all. Raises BagError."""
        bag, unreadable = self._bag, self._bag.unreadable()
        odometry = self._layout.odometry
        topics = [*self._sensors, *self._tf, *([] if odometry is None else [odometry.name])]
        for topic in self._sensors:
            if topic in unreadable:
                raise BagError(f"{bag.path}: {topic}: {unreadable[topic]}")
        total = sum(bag.topics[topic].count for topic in topics)
        for record in counted(
            bag.records(topics), f"reading {bag.path.name}", total=total, shown=progress
        ):
            try:
                self._take(record)
            except (BagError, ConvertError) as error:
                count, first = self.broken.get(record.topic, (0, str(error)))
                self.broken[record.topic] = count + 1, first

    def _take(self, record: Record) -> None:
        channel = self._sensors.get(record.topic)
        if channel is not None:
            self._places[record.topic] += 1
            message = record.message()
            stamp = stamp_ns(message.header.stamp)
            self.heads.setdefault(channel, message)
            self._topics.append(record.topic)
            self._numbers.append(self._places[record.topic])
            self._records.append(record.stamp_ns)
            self._stamps.append(stamp)
        elif record.topic in self._tf:
            self._take_transforms(record.message().transforms)
        else:
            message = record.message()
            self.odometry.add(stamp_ns(message.header.stamp), odometry_pose(message))

    def _take_transforms(self, transforms: Sequence[Any]) -> None:
        """A frame between (map -> odom -> base_link) counts with its latest transform."""
        bases = []
        for transform in transforms:
            child = transform.child_frame_id.lstrip("/")
            try:
                matrix = transform_matrix(transform)
            except ConvertError as error:
                raise BagError(f"transform of {child}: {error}") from error
            if child.lower() == BASE:
                bases.append((transform, matrix))
            elif child.lower() == "odom":
                self._above[child] = matrix
            else:
                self._tree.add(transform.header.frame_id, child, matrix)
        for transform, matrix in bases:
            parent = self._above.get(transform.header.frame_id.lstrip("/"))
            stamp = stamp_ns(transform.header.stamp)
            self._poses.add(stamp, matrix if parent is None else parent @ matrix)

    def unstamped(self) -> list[str]:
        """Channels none of whose messages has a stamp."""
        stamped = {self._sensors[t] for t, s in zip(self._topics, self._stamps, strict=True) if s}
        return sorted(set(self._sensors.values()) - stamped)

    def times(self, record_times: bool) -> tuple[dict[str, Times], Strays]:
        """Stamps of every channel without strays, and the strays."""
        records = np.array(self._records, np.int64)
        stamps = records if record_times else np.array(self._stamps, np.int64)
        strays = find_strays(self._topics, self._numbers, stamps, records)
        kept: dict[str, list[int]] = {channel: [] for channel in self._sensors.values()}
        for topic, number, stamp in zip(self._topics, self._numbers, stamps.tolist(), strict=True):
            if number not in strays.places.get(topic, ()):
                kept[self._sensors[topic]].append(stamp)
        return {name: np.array(own, np.int64) for name, own in kept.items()}, strays

    def transforms(self) -> tuple[Calibration, PoseTable]:
        """The tree of sensor frames, and map_T_base of every transform whose child is the base."""
        return self._tree, self._poses


def _record_times(heard: _Heard, *, path: Path, kind: Kind, stamps: str) -> bool:
    empty = heard.unstamped()
    if stamps == "record" or not empty:
        return stamps == "record"
    if stamps == "header" or kind is not Kind.NUSCENES2BAG_ROS2:
        raise BagError(
            f"{path}: headers of {', '.join(c.lower() for c in empty)} have no stamp; if the "
            "record times are the sensors' own times, pass --stamps record"
        )
    return True


def _base_T(calibration: Calibration | None, names: Sequence[str]) -> Array | None:
    for name in names:
        if calibration is not None and name:
            try:
                return calibration.base_T(name)
            except MotionError:
                continue
    return None


def _camera(calibration: Calibration | None, names: Sequence[str]) -> CameraEntry | None:
    if calibration is None:
        return None
    found = (calibration.camera(name) for name in names if name)
    return next((entry for entry in found if entry is not None), None)


def _refuse(
    *,
    path: Path,
    kind: Kind,
    poses: PoseTable,
    unplaced: Sequence[str],
    unknown: Sequence[str],
    calibration: Path | None,
) -> None:
    missing = []
    if unknown:
        missing.append(f"the intrinsics of {', '.join(c.lower() for c in unknown)}")
    if unplaced:
        missing.append(f"the poses on the vehicle of {', '.join(c.lower() for c in unplaced)}")
    if missing:
        where = f"nor does {calibration} list them" if calibration else "no --calibration is given"
        raise BagError(
            f"{path} ({kind.converter}) does not hold {' and '.join(missing)}, and {where}; "
            "make one, crkd calibration write --data DIR --out FILE, and pass --calibration FILE"
        )
    if not len(poses):
        raise BagError(
            f"{path} ({kind.converter}) has no ego motion: neither a transform to {BASE} nor "
            "nav_msgs/Odometry with messages"
        )
