"""A made-up vehicle and its messages, for the tests of the ROS side."""

from __future__ import annotations

import cv2
import numpy as np

from crkd_core import geometry
from crkd_core.data.radar import RADAR_DTYPE, to_records
from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.convert import box_messages
from crkd_ros.convert.standins.point_cloud2 import DATATYPES
from crkd_ros.motion.calibration_file import Calibration

#: When each camera fires after the first one, seconds (docs/nuscenes.md, "Sensors").
PHASES = {
    "CAM_FRONT_LEFT": 0.0,
    "CAM_FRONT": 0.008,
    "CAM_FRONT_RIGHT": 0.015,
    "CAM_BACK_RIGHT": 0.024,
    "CAM_BACK": 0.033,
    "CAM_BACK_LEFT": 0.042,
}

WIDTH, HEIGHT = 320, 180
INTRINSICS = np.array([[250.0, 0, 160], [0, 250.0, 90], [0, 0, 1]])

#: Straight ahead of a camera, seen from the vehicle: z forward, x right, y down.
_OPTICAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])


def extrinsics() -> dict[str, np.ndarray]:
    """Sensor -> base_T_sensor: cameras all around, radars at the corners."""
    poses = {}
    for index, camera in enumerate(CAMERAS):
        turn = geometry.pose([1.0, 0.0, 1.5], geometry.yaw_to_quat_wxyz(index * np.pi / 3))
        turn[:3, :3] = turn[:3, :3] @ _OPTICAL
        poses[camera] = turn
    for index, radar in enumerate(RADARS):
        yaw = index * 2 * np.pi / 5
        poses[radar] = geometry.pose(
            [2 * np.cos(yaw), np.sin(yaw), 0.5], geometry.yaw_to_quat_wxyz(yaw)
        )
    return poses


def calibration() -> Calibration:
    """The same, as the node has it; frames are lower-case channel names."""
    out = Calibration()
    for sensor, matrix in extrinsics().items():
        out.add("base_link", sensor.lower(), matrix)
    return out


def map_T_base(stamp_ns: int) -> np.ndarray:
    """A curve at 8 m/s, far from the origin of the map."""
    t = stamp_ns * 1e-9 % 1000
    return geometry.pose([600 + 8 * t, 1200 + 0.4 * t**2, 0], geometry.yaw_to_quat_wxyz(0.1 * t))


def pixels(seed: int) -> np.ndarray:
    """A smooth random picture, uint8 [H, W, 3] RGB."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def radar_points(seed: int, count: int = 40) -> np.ndarray:
    """Random returns, float32 [N, 18], that survive the native record format."""
    rng = np.random.default_rng(seed)
    points = np.zeros((count, 18), np.float32)
    points[:, :2] = rng.uniform([2, -15], [40, 15], (count, 2))
    points[:, 3] = rng.integers(0, 8, count)
    points[:, 5] = rng.uniform(-5, 30, count)
    points[:, 6:10] = rng.normal(0, 3, (count, 4))
    points[:, 11] = 3
    points[:, 15] = 1
    return points


def header(make, stamp_ns: int, frame_id: str):
    return box_messages.header(stamp_ns, frame_id, make)


def compressed_image(make, camera: str, stamp_ns: int, *, seed: int = 0, data=None):
    if data is None:
        done, encoded = cv2.imencode(".jpg", pixels(seed)[..., ::-1])
        assert done
        data = encoded.ravel()
    return make(
        "sensor_msgs/msg/CompressedImage",
        header=header(make, stamp_ns, camera.lower()),
        format="jpeg",
        data=np.asarray(data, np.uint8),
    )


def camera_info(make, camera: str, stamp_ns: int, *, k=INTRINSICS):
    return make(
        "sensor_msgs/msg/CameraInfo",
        header=header(make, stamp_ns, camera.lower()),
        width=WIDTH,
        height=HEIGHT,
        k=np.asarray(k, np.float64).ravel(),
    )


def cloud(make, frame_id: str, stamp_ns: int, records: np.ndarray, *, point_step=None):
    """A PointCloud2 of structured records as they lie in memory."""
    codes = {kind: code for code, kind in DATATYPES.items()}
    fields = [
        make(
            "sensor_msgs/msg/PointField",
            name=name,
            offset=records.dtype.fields[name][1],
            datatype=codes[records.dtype[name].str[1:]],
            count=1,
        )
        for name in records.dtype.names
    ]
    step = point_step or records.dtype.itemsize
    return make(
        "sensor_msgs/msg/PointCloud2",
        header=header(make, stamp_ns, frame_id),
        height=1,
        width=len(records),
        fields=fields,
        is_bigendian=any(records.dtype[name].str[0] == ">" for name in records.dtype.names),
        point_step=step,
        row_step=step * len(records),
        data=np.frombuffer(records.tobytes(), np.uint8),
        is_dense=True,
    )


def radar_cloud(make, radar: str, stamp_ns: int, *, seed: int = 0):
    records = to_records(radar_points(seed)).astype(RADAR_DTYPE)
    return cloud(make, radar.lower(), stamp_ns, records)


def odometry(make, stamp_ns: int):
    return make(
        "nav_msgs/msg/Odometry",
        header=header(make, stamp_ns, "map"),
        child_frame_id="base_link",
        pose=make(
            "geometry_msgs/msg/PoseWithCovariance",
            pose=box_messages.pose_of(map_T_base(stamp_ns), make),
        ),
    )


def drive(make, start_ns: int, seconds: float):
    """(topic, message) of every sensor and of /odom in time order: 12 Hz cameras, 13 Hz radars."""
    end_ns, events = start_ns + round(seconds * 1e9), []
    for camera, phase in PHASES.items():
        for index, stamp in enumerate(range(start_ns + round(phase * 1e9), end_ns, 83_333_333)):
            name = camera.lower()
            info = camera_info(make, camera, stamp)
            image = compressed_image(make, camera, stamp, seed=index)
            events.append((stamp, f"/{name}/camera_info", info))
            events.append((stamp, f"/{name}/image_rect_compressed", image))
    for number, radar in enumerate(RADARS):
        first = start_ns + number * 11_000_000
        for index, stamp in enumerate(range(first, end_ns, 76_923_077)):
            events.append(
                (stamp, f"/{radar.lower()}", radar_cloud(make, radar, stamp, seed=index))
            )
    stamps = sorted({stamp for stamp, _, _ in events})
    events = [(stamp, "/odom", odometry(make, stamp)) for stamp in stamps] + events
    # Stable: poses stay before the sensors of the same stamp.
    return [(topic, message) for _, topic, message in sorted(events, key=lambda event: event[0])]
