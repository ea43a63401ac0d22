"""What must be known of a foreign bag before its sensors are converted: poses and calibration.

Other converters write poses late, at the wrong record time or only at key frames, so they are all
read first. The bag's images are not touched here but for the first of each camera.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.progress import counted
from crkd_ros.bags.container import Bag, Topic
from crkd_ros.bags.foreign import contents
from crkd_ros.bags.foreign.kinds import ForeignLayout, Kind
from crkd_ros.bags.foreign.pose_table import PoseTable
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
    """

    poses: PoseTable
    pose_source: str
    extrinsics: dict[str, Array]
    cameras: dict[str, CameraEntry]
    frames: dict[str, str]
    record_times: bool


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
    """Read poses, transforms and the first message of every sensor.

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
    # These have no message of their own to look at, so the first one tells.
    heads = {
        channel: _first(bag, topic.name)
        for group in (layout.images, layout.radars)
        for channel, topic in group.items()
    }
    if layout.lidar is not None:
        heads["LIDAR_TOP"] = _first(bag, layout.lidar.name)
    record_times = _record_times(heads, path=bag.path, kind=kind, stamps=stamps)
    found, tf_poses = _transforms(bag, layout, progress)
    poses, source = _poses(bag, layout, tf_poses, progress)
    frames = {channel: contents.frame_of(one) for channel, one in heads.items()}
    extrinsics: dict[str, Array] = {}
    for channel, frame in frames.items():
        names = (frame, channel, f"{channel}_link")
        matrix = _base_T(given, names)
        matrix = _base_T(found, names) if matrix is None else matrix
        if matrix is not None:
            extrinsics[channel] = matrix
    cameras: dict[str, CameraEntry] = {}
    for camera in layout.images:
        entry = _camera(given, (frames[camera], camera, f"{camera}_link"))
        if entry is not None:
            size = contents.image_size(heads[camera])
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
    return Survey(
        poses=poses,
        pose_source=source,
        extrinsics=extrinsics,
        cameras=cameras,
        frames=frames,
        record_times=record_times,
    )


def _first(bag: Bag, topic: str) -> Any:
    for _, _, message in bag.messages([topic]):
        return message
    raise BagError(f"{topic} has no message")


def _record_times(heads: dict[str, Any], *, path: Path, kind: Kind, stamps: str) -> bool:
    if stamps != "auto":
        return stamps == "record"
    empty = sorted(c for c, message in heads.items() if not stamp_ns(message.header.stamp))
    if not empty:
        return False
    if kind is not Kind.NUSCENES2BAG_ROS2:
        raise BagError(
            f"{path}: headers of {', '.join(c.lower() for c in empty)} have no stamp; if the "
            "record times are the sensors' own times, pass --stamps record"
        )
    return True


def _transforms(bag: Bag, layout: ForeignLayout, progress: bool) -> tuple[Calibration, PoseTable]:
    """The tree of sensor frames, and map_T_base of every transform whose child is the base.

    A frame between (map -> odom -> base_link) counts with its latest transform; without one, the
    base's own parent is the map.
    """
    tree, above, poses = Calibration(base=BASE), dict[str, Array](), PoseTable()
    for message in _read(bag, layout.transforms, progress):
        bases = []
        for transform in message.transforms:
            child = transform.child_frame_id.lstrip("/")
            try:
                matrix = transform_matrix(transform)
            except ConvertError as error:
                raise BagError(f"transform of {child}: {error}") from error
            if child.lower() == BASE:
                bases.append((transform, matrix))
            elif child.lower() == "odom":
                above[child] = matrix
            else:
                tree.add(transform.header.frame_id, child, matrix)
        for transform, matrix in bases:
            parent = above.get(transform.header.frame_id.lstrip("/"))
            stamp = stamp_ns(transform.header.stamp)
            poses.add(stamp, matrix if parent is None else parent @ matrix)
    return tree, poses


def _poses(
    bag: Bag, layout: ForeignLayout, tf_poses: PoseTable, progress: bool
) -> tuple[PoseTable, str]:
    """The poses of /tf, whose exactness is known; of odometry where /tf has none.

    The odometry of the WATonomous lineage is the vehicle's own estimate, not the ego pose.
    """
    if len(tf_poses):
        return tf_poses, ", ".join(topic.name for topic in layout.transforms)
    poses = PoseTable()
    if layout.odometry is None:
        return poses, ""
    try:
        for message in _read(bag, [layout.odometry], progress):
            poses.add(stamp_ns(message.header.stamp), odometry_pose(message))
    except ConvertError as error:
        raise BagError(f"{layout.odometry.name}: {error}") from error
    return poses, layout.odometry.name


def _read(bag: Bag, topics: Sequence[Topic], progress: bool) -> Iterator[Any]:
    for _, _, message in counted(
        bag.messages([topic.name for topic in topics]),
        "reading poses",
        total=sum(topic.count for topic in topics),
        shown=progress,
    ):
        yield message


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
