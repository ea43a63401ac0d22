"""A nuScenes scene as a rosbag2, without ROS. Command `crkd bag nuscenes`.

Frames are lower-case channel names, header stamps are the sensors' own, record time = header time,
and the pose of an instant is written before the sensor messages of that instant. Topics:

* ``/cam_front/image_rect_compressed`` sensor_msgs/CompressedImage, the file's bytes as they are
* ``/cam_front/camera_info`` sensor_msgs/CameraInfo, k, p = [k|0], r = identity, d empty
* ``/radar_front`` sensor_msgs/PointCloud2, the 18 native fields, 43 bytes a point
* ``/lidar_top`` sensor_msgs/PointCloud2, x y z intensity ring, 20 bytes a point
* ``/tf_static`` base_link -> sensors, ``/tf`` map -> base_link at every ego pose
* ``/odom`` nav_msgs/Odometry likewise, with the twist in base_link
* ``/markers/annotations`` visualization_msgs/MarkerArray, the truth of each key frame in map
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.data.nuscenes.reader import CHANNELS, NuScenes
from crkd_core.progress import counted
from crkd_core.sensors import LIDAR
from crkd_ros.bags import scene_messages
from crkd_ros.bags.message_types import BagError
from crkd_ros.bags.writer import BagWriter, Storage, qos

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BagSummary:
    """What was written: path, messages per topic, first and last stamp in nanoseconds."""

    path: Path
    messages: dict[str, int]
    start_ns: int
    end_ns: int


def write_bag(
    tables: NuScenes,
    scene: str,
    out: Path,
    *,
    storage: Storage = "mcap",
    with_lidar: bool = True,
    progress: bool = True,
) -> BagSummary:
    """Write one scene, key frames and sweeps of every sensor, in time order.

    Sweeps whose files are not there, as with key frames downloaded alone, are left out with a
    warning; their poses stay.

    Args:
        tables: an opened nuScenes data set.
        scene: its name, e.g. "scene-0103".
        out: folder of the new bag; must not exist. It appears only when it is whole.
        storage: "mcap" or "sqlite3".
        with_lidar: False leaves the LiDAR clouds out (most of a bag's size); its poses stay.
        progress: a bar on stderr.

    Raises:
        BagError: the bag exists, a key-frame file is missing, or a file is damaged.
    """
    records = sorted(
        (record for channel in CHANNELS for record in tables.records(scene, channel)),
        key=lambda record: record.stamp_ns,
    )
    if not records:
        raise BagError(f"{scene} has no sensor data in {tables.root}")
    gone = {
        record.path
        for record in records
        if not record.is_key_frame
        and (with_lidar or record.channel != LIDAR)
        and not record.path.exists()
    }
    if gone:
        logger.warning(
            "%s: %d of %d files that sample_data.json lists are not there, first %s; the bag "
            "holds those that are",
            scene,
            len(gone),
            len(records),
            min(gone),
        )
    poses = {record.stamp_ns: record.global_T_ego for record in records}
    twists = scene_messages.twists(poses)
    truths = []
    if tables.annotated:
        truths = [(tables.stamp_ns(token), token) for token in tables.samples_of_scene(scene)]
    counts: dict[str, int] = {}
    calibration: dict[str, NDArray[np.float64]] = {}
    with BagWriter(out, storage=storage) as bag:
        for topic, type_name in scene_messages.topics(records, with_lidar):
            bag.add_topic(topic, type_name, profile=qos(latched=topic == "/tf_static", depth=10))

        def write(topic: str, message: Any, stamp_ns: int) -> None:
            bag.write(topic, message, stamp_ns)
            counts[topic] = counts.get(topic, 0) + 1

        def write_truth(until: float) -> None:
            while truths and truths[0][0] <= until:
                at, token = truths.pop(0)
                markers = scene_messages.truth_markers(at, tables.truth_global(token))
                write("/markers/annotations", markers, at)

        first = {record.channel: record.ego_T_sensor for record in reversed(records)}
        write("/tf_static", scene_messages.static(records[0].stamp_ns, first), records[0].stamp_ns)
        calibration.update(first)
        last_pose = -1
        for record in counted(records, f"writing {out.name}", shown=progress):
            now = record.stamp_ns
            write_truth(now)
            if not np.array_equal(calibration[record.channel], record.ego_T_sensor):
                calibration[record.channel] = record.ego_T_sensor
                write(
                    "/tf_static",
                    scene_messages.static(now, {record.channel: record.ego_T_sensor}),
                    now,
                )
            if now != last_pose:
                last_pose = now
                write("/tf", scene_messages.tf(now, poses[now]), now)
                write("/odom", scene_messages.odometry(now, poses[now], *twists[now]), now)
            if record.path in gone or (record.channel == LIDAR and not with_lidar):
                continue
            for topic, message in scene_messages.sensor_messages(record):
                write(topic, message, now)
        write_truth(math.inf)
    return BagSummary(
        path=out, messages=counts, start_ns=records[0].stamp_ns, end_ns=records[-1].stamp_ns
    )
