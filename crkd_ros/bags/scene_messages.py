"""Records of a nuScenes scene as ROS messages: sensors, transforms, odometry, truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.boxes import Truth
from crkd_core.data import lidar, radar
from crkd_core.data.cameras import CameraError, jpeg_size
from crkd_core.data.nuscenes.reader import Record
from crkd_core.data.radar_file import read_pcd
from crkd_core.files import read_file
from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.bags.message_types import BagError, make
from crkd_ros.convert import box_messages
from crkd_ros.convert.markers import marker_array

#: Distance in time on either side of a pose over which its velocity is taken: poses of different
#: sensors lie milliseconds apart, and their rounding would make such differences useless.
TWIST_WINDOW_NS = 50_000_000

_CLOUD = "sensor_msgs/msg/PointCloud2"
#: PointField codes of the numpy types that our clouds hold.
_POINT_FIELD = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}
_LIDAR_DTYPE = np.dtype([(name, "<f4") for name in lidar.LIDAR_FIELDS])


def topics(records: Sequence[Record], with_lidar: bool) -> list[tuple[str, str]]:
    """Topics in a fixed order, so that viewers list them alike."""
    topics = [
        ("/tf_static", "tf2_msgs/msg/TFMessage"),
        ("/tf", "tf2_msgs/msg/TFMessage"),
        ("/odom", "nav_msgs/msg/Odometry"),
        ("/markers/annotations", "visualization_msgs/msg/MarkerArray"),
    ]
    for channel in sorted({record.channel for record in records}):
        name = channel.lower()
        if channel in CAMERAS:
            topics.append((f"/{name}/camera_info", "sensor_msgs/msg/CameraInfo"))
            topics.append((f"/{name}/image_rect_compressed", "sensor_msgs/msg/CompressedImage"))
        elif with_lidar or channel in RADARS:
            topics.append((f"/{name}", _CLOUD))
    return topics


def sensor_messages(record: Record) -> Iterator[tuple[str, Any]]:
    """(topic, message) of one record. Raises BagError and the readers' errors, naming the file."""
    name = record.channel.lower()
    head = box_messages.header(record.stamp_ns, name, make)
    path, k = record.path, record.intrinsics
    if record.channel in CAMERAS:
        if not k[0, 0] > 0:
            raise BagError(f"{path}: its calibration has no camera_intrinsic")
        data, (width, height) = _jpeg(record)
        yield (
            f"/{name}/camera_info",
            make(
                "sensor_msgs/msg/CameraInfo",
                header=head,
                height=height,
                width=width,
                distortion_model="plumb_bob",
                k=k,
                r=np.eye(3),
                p=np.concatenate([k, np.zeros((3, 1))], 1),
            ),
        )
        yield (
            f"/{name}/image_rect_compressed",
            make(
                "sensor_msgs/msg/CompressedImage",
                header=head,
                format="jpeg",
                data=data,
            ),
        )
    elif record.channel in RADARS:
        points = read_pcd(path)
        try:
            records = radar.to_records(points)
        except radar.RadarError as error:  # A file may have wider fields than a bag.
            raise BagError(f"{path}: {error}") from error
        yield f"/{name}", cloud(head, records)
    else:
        points = np.ascontiguousarray(lidar.read_bin(path))
        yield f"/{name}", cloud(head, points.view(_LIDAR_DTYPE)[:, 0])


def _jpeg(record: Record) -> tuple[bytes, tuple[int, int]]:
    """The file of an image and its width and height, which the tables need not say."""
    # Not decoded (that would be most of the time of a bag), but a torn file is noticed, and one
    # that the intrinsics are not for.
    path = record.path
    try:
        data = read_file(path)
        size = jpeg_size(data, source=str(path))
    except OSError as error:
        raise BagError(f"{path}: cannot read image: {error.strerror}") from error
    except CameraError as error:
        raise BagError(str(error)) from error
    if record.size not in (None, size):
        raise BagError(
            f"{path}: expected {record.width} x {record.height} pixels as sample_data.json says, "
            f"got {size[0]} x {size[1]}"
        )
    return data, size


def cloud(head: Any, records: NDArray[np.void]) -> Any:
    """PointCloud2 of one row from structured records [N], field by field as they are packed."""
    kinds = records.dtype.fields
    assert kinds is not None
    fields = [
        make(
            "sensor_msgs/msg/PointField",
            name=name,
            offset=kinds[name][1],
            datatype=_POINT_FIELD[kinds[name][0].str[1:]],
            count=1,
        )
        for name in records.dtype.names or ()
    ]
    return make(
        _CLOUD,
        header=head,
        height=1,
        width=len(records),
        fields=fields,
        point_step=records.dtype.itemsize,
        row_step=records.nbytes,
        data=records.tobytes(),
        is_dense=True,
    )


def static(stamp_ns: int, ego_T_sensor: dict[str, NDArray[np.float64]]) -> Any:
    """base_link -> sensor frames, as the TFMessage of /tf_static."""
    transforms = [
        box_messages.transform(pose, "base_link", channel.lower(), stamp_ns, make)
        for channel, pose in sorted(ego_T_sensor.items())
    ]
    return make("tf2_msgs/msg/TFMessage", transforms=transforms)


def tf(stamp_ns: int, global_T_ego: NDArray[np.float64]) -> Any:
    """map -> base_link, as the TFMessage of /tf."""
    return make(
        "tf2_msgs/msg/TFMessage",
        transforms=[box_messages.transform(global_T_ego, "map", "base_link", stamp_ns, make)],
    )


def twists(
    poses: dict[int, NDArray[np.float64]],
) -> dict[int, tuple[NDArray[np.float64], float]]:
    """Stamp -> linear velocity [3] in base_link, m/s, and yaw rate, rad/s; central differences."""
    stamps = np.array(sorted(poses))
    found = {}
    for now in stamps:
        a = stamps[max(np.searchsorted(stamps, now - TWIST_WINDOW_NS, "right") - 1, 0)]
        b = stamps[min(np.searchsorted(stamps, now + TWIST_WINDOW_NS), len(stamps) - 1)]
        dt = max(b - a, 1) * 1e-9
        moved = poses[b][:3, 3] - poses[a][:3, 3]
        turned = geometry.yaw_of(poses[b]) - geometry.yaw_of(poses[a])
        linear = poses[now][:3, :3].T @ moved / dt
        found[int(now)] = (linear, float(geometry.wrap_angle(turned)) / dt)
    return found


def odometry(
    stamp_ns: int, global_T_ego: NDArray[np.float64], linear: NDArray[np.float64], yaw_rate: float
) -> Any:
    """Pose in map and twist in base_link, as nav_msgs/Odometry; see ``twists``."""
    message = make(
        "nav_msgs/msg/Odometry",
        header=box_messages.header(stamp_ns, "map", make),
        child_frame_id="base_link",
    )
    message.pose.pose = box_messages.pose_of(global_T_ego, make)
    twist = message.twist.twist
    twist.linear.x, twist.linear.y, twist.linear.z = (float(v) for v in linear)
    twist.angular.z = yaw_rate
    return message


def truth_markers(stamp_ns: int, truth: Truth) -> Any:
    """Truth boxes, in global axes."""
    return marker_array(
        truth,
        stamp_ns=stamp_ns,
        make=make,
        frame_id="map",
        namespaces=("truth", "truth_labels", "truth_velocity"),
    )
