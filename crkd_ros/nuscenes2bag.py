"""A nuScenes scene as a rosbag2, without ROS. Command `crkd-bag`, ROS executable `nuscenes2bag`.

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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from crkd_core import geometry
from crkd_core.boxes import Truth
from crkd_core.command import check_output, run_function
from crkd_core.data import lidar, radar
from crkd_core.data.nuscenes import CHANNELS, LIDAR, NuScenes, Record
from crkd_core.frame import CAMERAS, RADARS
from crkd_ros import publish
from crkd_ros.bag_files import BagWriter, Storage, qos
from crkd_ros.bag_messages import BagError, make

#: Distance in time on either side of a pose over which its velocity is taken: poses of different
#: sensors lie milliseconds apart, and their rounding would make such differences useless.
TWIST_WINDOW_NS = 50_000_000

_CLOUD = "sensor_msgs/msg/PointCloud2"
#: PointField codes of the numpy types that our clouds hold.
_POINT_FIELD = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}
_LIDAR_DTYPE = np.dtype([(name, "<f4") for name in lidar.LIDAR_FIELDS])


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

    Args:
        tables: an opened nuScenes data set.
        scene: its name, e.g. "scene-0103".
        out: folder of the new bag; must not exist. It appears only when it is whole.
        storage: "mcap" or "sqlite3".
        with_lidar: False leaves the LiDAR clouds out (most of a bag's size); its poses stay.
        progress: a bar on stderr.

    Raises:
        BagError: the bag exists, or a file of the scene is missing or damaged.
    """
    records = sorted(
        (record for channel in CHANNELS for record in tables.records(scene, channel)),
        key=lambda record: record.stamp_ns,
    )
    if not records:
        raise BagError(f"{scene} has no sensor data in {tables.root}")
    poses = {record.stamp_ns: record.global_T_ego for record in records}
    twists = _twists(poses)
    truths = []
    if tables.annotated:
        truths = [(tables.stamp_ns(token), token) for token in tables.samples_of_scene(scene)]
    counts: dict[str, int] = {}
    calibration: dict[str, NDArray[np.float64]] = {}
    with BagWriter(out, storage=storage) as bag:
        for topic, type_name in _topics(records, with_lidar):
            bag.add_topic(topic, type_name, profile=qos(latched=topic == "/tf_static", depth=10))

        def write(topic: str, message: Any, stamp_ns: int) -> None:
            bag.write(topic, message, stamp_ns)
            counts[topic] = counts.get(topic, 0) + 1

        first = {record.channel: record.ego_T_sensor for record in reversed(records)}
        write("/tf_static", _static(records[0].stamp_ns, first), records[0].stamp_ns)
        calibration.update(first)
        last_pose = -1
        for record in track(
            records,
            description=f"writing {out.name}",
            console=Console(stderr=True),
            disable=not progress,
            transient=True,
        ):
            now = record.stamp_ns
            while truths and truths[0][0] <= now:
                at, token = truths.pop(0)
                write("/markers/annotations", _annotations(at, tables.truth_global(token)), at)
            if not np.array_equal(calibration[record.channel], record.ego_T_sensor):
                calibration[record.channel] = record.ego_T_sensor
                write("/tf_static", _static(now, {record.channel: record.ego_T_sensor}), now)
            if now != last_pose:
                last_pose = now
                write("/tf", _tf(now, poses[now]), now)
                write("/odom", _odometry(now, poses[now], *twists[now]), now)
            if record.channel == LIDAR and not with_lidar:
                continue
            for topic, message in _sensor_messages(record):
                write(topic, message, now)
        for at, token in truths:
            write("/markers/annotations", _annotations(at, tables.truth_global(token)), at)
    return BagSummary(
        path=out, messages=counts, start_ns=records[0].stamp_ns, end_ns=records[-1].stamp_ns
    )


def _topics(records: Sequence[Record], with_lidar: bool) -> list[tuple[str, str]]:
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


def _sensor_messages(record: Record) -> Iterator[tuple[str, Any]]:
    name = record.channel.lower()
    head = publish.header(record.stamp_ns, name, make)
    path, k = record.path, record.intrinsics
    if record.channel in CAMERAS:
        if not k[0, 0] > 0:
            raise BagError(f"{path}: its calibration has no camera_intrinsic")
        yield (
            f"/{name}/camera_info",
            make(
                "sensor_msgs/msg/CameraInfo",
                header=head,
                height=record.height,
                width=record.width,
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
                data=_jpeg(path),
            ),
        )
    elif record.channel in RADARS:
        yield f"/{name}", cloud(head, radar.to_records(radar.read_pcd(path)))
    else:
        points = np.ascontiguousarray(lidar.read_bin(path))
        yield f"/{name}", cloud(head, points.view(_LIDAR_DTYPE)[:, 0])


def _jpeg(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BagError(f"{path}: cannot read image: {error.strerror}") from error
    # Not decoded (that would be most of the time of a bag), but a torn file is noticed.
    if data[:2] != b"\xff\xd8" or b"\xff\xd9" not in data[-64:]:
        raise BagError(f"{path}: truncated or not a JPEG ({len(data)} bytes)")
    return data


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


def _transform(stamp_ns: int, parent: str, child: str, parent_T_child: NDArray) -> Any:
    x, y, z, w = geometry.quat_wxyz_to_xyzw(geometry.matrix_to_quat_wxyz(parent_T_child[:3, :3]))
    tx, ty, tz = parent_T_child[:3, 3]
    return make(
        "geometry_msgs/msg/TransformStamped",
        header=publish.header(stamp_ns, parent, make),
        child_frame_id=child,
        transform=make(
            "geometry_msgs/msg/Transform",
            translation=make("geometry_msgs/msg/Vector3", x=tx, y=ty, z=tz),
            rotation=make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w),
        ),
    )


def _static(stamp_ns: int, ego_T_sensor: dict[str, NDArray[np.float64]]) -> Any:
    transforms = [
        _transform(stamp_ns, "base_link", channel.lower(), pose)
        for channel, pose in sorted(ego_T_sensor.items())
    ]
    return make("tf2_msgs/msg/TFMessage", transforms=transforms)


def _tf(stamp_ns: int, global_T_ego: NDArray[np.float64]) -> Any:
    return make(
        "tf2_msgs/msg/TFMessage",
        transforms=[_transform(stamp_ns, "map", "base_link", global_T_ego)],
    )


def _twists(
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


def _odometry(
    stamp_ns: int, global_T_ego: NDArray[np.float64], linear: NDArray[np.float64], yaw_rate: float
) -> Any:
    message = make(
        "nav_msgs/msg/Odometry",
        header=publish.header(stamp_ns, "map", make),
        child_frame_id="base_link",
    )
    _set_pose(message.pose.pose, global_T_ego)
    twist = message.twist.twist
    twist.linear.x, twist.linear.y, twist.linear.z = (float(v) for v in linear)
    twist.angular.z = yaw_rate
    return message


def _set_pose(pose: Any, matrix: NDArray[np.float64]) -> None:
    pose.position.x, pose.position.y, pose.position.z = (float(v) for v in matrix[:3, 3])
    quat = geometry.quat_wxyz_to_xyzw(geometry.matrix_to_quat_wxyz(matrix[:3, :3]))
    q = pose.orientation
    q.x, q.y, q.z, q.w = (float(v) for v in quat)


def _annotations(stamp_ns: int, truth: Truth) -> Any:
    """Truth boxes, in global axes."""
    return publish.marker_array(
        truth,
        stamp_ns=stamp_ns,
        make=make,
        frame_id="map",
        namespaces=("truth", "truth_labels", "truth_velocity"),
    )


def command(
    data: Annotated[Path, typer.Option(help="Root folder of a nuScenes data set.")],
    scene: Annotated[str, typer.Option(help="Name of the scene, e.g. scene-0103.")],
    out: Annotated[Path, typer.Option(help="Folder of the new bag; must not exist.")],
    storage: Annotated[str, typer.Option(help="mcap or sqlite3.")] = "mcap",
    version: Annotated[
        str | None, typer.Option(help="Version folder; needed only if there are several.")
    ] = None,
    lidar: Annotated[bool, typer.Option(help="Write the LiDAR clouds.")] = True,
) -> None:
    """Write a nuScenes scene as a rosbag2 that the node, Foxglove and RViz play."""
    if storage not in ("mcap", "sqlite3"):
        raise BagError(f"--storage: expected mcap or sqlite3, got {storage!r}")
    if out.exists():
        raise BagError(f"{out} exists already; remove it or choose another --out")
    check_output(out)
    summary = write_bag(
        NuScenes(data, version=version),
        scene,
        out,
        storage=storage,  # type: ignore[arg-type]
        with_lidar=lidar,
    )
    seconds = (summary.end_ns - summary.start_ns) * 1e-9
    total = sum(summary.messages.values())
    print(f"{out}: {total} messages of {len(summary.messages)} topics, {seconds:.1f} s")


def main() -> None:
    """Entry point of `crkd-bag` and of `ros2 run crkd_ros nuscenes2bag`."""
    run_function(command)


if __name__ == "__main__":
    main()
