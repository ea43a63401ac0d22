"""Bags as other nuScenes converters write them, made of the records of a data set.

Topics, types, frames, stamps and what is missing follow the converters' sources (docs/ros.md,
"Bags of others").
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from crkd_core import geometry
from crkd_core.data import lidar, radar
from crkd_core.data.nuscenes.reader import CHANNELS, NuScenes, Record
from crkd_core.data.radar_file import read_pcd
from crkd_core.sensors import CAMERAS, RADARS

RADAR_OBJECT = """geometry_msgs/Vector3 pose
uint8 dyn_prop
uint16 id
float32 rcs
float32 vx
float32 vy
float32 vx_comp
float32 vy_comp
uint8 is_quality_valid
uint8 ambig_state
uint8 x_rms
uint8 y_rms
uint8 invalid_state
uint8 pdh0
uint8 vx_rms
uint8 vy_rms"""
RADAR_OBJECTS = "std_msgs/Header header\nRadarObject[] objects"
_POINT_FIELD = {"i1": 1, "i2": 3, "f4": 7}


class Foreign:
    """Writes one bag with message classes of its own type store."""

    def __init__(self, path: Path, *, ros1: bool = False, storage: str = "mcap") -> None:
        self.ros1 = ros1
        self.store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_JAZZY)
        self.storage = storage
        self.writer: Any = (
            Writer1(path)
            if ros1
            else Writer2(path, version=8, storage_plugin=StoragePlugin[storage.upper()])
        )
        self.connections: dict[str, Any] = {}

    def register(self, name: str, text: str) -> None:
        self.store.register(get_types_from_msg(text, name))

    def register_radar(self, package: str) -> None:
        self.register(f"{package}/msg/RadarObject", RADAR_OBJECT)
        self.register(f"{package}/msg/RadarObjects", RADAR_OBJECTS)

    def new(self, name: str, /, **fields: Any) -> Any:
        definition = self.store.get_msgdef(name).fields
        assert set(fields) <= {field for field, _ in definition}, (name, definition)
        return self.store.types[name](
            **{f: fields[f] if f in fields else self._default(kind) for f, kind in definition}
        )

    def _default(self, kind: Any) -> Any:
        node, detail = kind
        if node == Nodetype.NAME:
            return self.new(detail)
        if node == Nodetype.BASE:
            return {"string": "", "bool": False}.get(detail[0], 0)
        inner, length = detail
        count = length if node == Nodetype.ARRAY else 0
        if inner[0] == Nodetype.BASE and inner[1][0] != "string":
            return np.zeros(count, inner[1][0].replace("char", "uint8"))
        return []

    def write(self, topic: str, message: Any, record_ns: int) -> None:
        name = message.__msgtype__
        if topic not in self.connections:
            self.connections[topic] = self.writer.add_connection(topic, name, typestore=self.store)
        serialize = self.store.serialize_ros1 if self.ros1 else self.store.serialize_cdr
        self.writer.write(self.connections[topic], record_ns, serialize(message, name))

    def header(self, stamp_ns: int, frame: str) -> Any:
        time = self.new(
            "builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9
        )
        return self.new("std_msgs/msg/Header", stamp=time, frame_id=frame)

    def raw_image(self, record: Record, stamp_ns: int, frame: str) -> Any:
        image = cv2.imread(str(record.path), cv2.IMREAD_COLOR)
        return self.new(
            "sensor_msgs/msg/Image",
            header=self.header(stamp_ns, frame),
            height=image.shape[0],
            width=image.shape[1],
            encoding="bgr8",
            step=image.shape[1] * 3,
            data=image.ravel(),
        )

    def jpeg(self, record: Record, frame: str) -> Any:
        return self.new(
            "sensor_msgs/msg/CompressedImage",
            header=self.header(record.stamp_ns, frame),
            format="jpeg",
            data=np.frombuffer(record.path.read_bytes(), np.uint8),
        )

    def info(self, record: Record, frame: str, r: np.ndarray) -> Any:
        k = record.intrinsics.ravel()
        p = np.concatenate([record.intrinsics, np.zeros((3, 1))], 1).ravel()
        values = {"k": k, "r": r.ravel(), "p": p}
        return self.new(
            "sensor_msgs/msg/CameraInfo",
            header=self.header(record.stamp_ns, frame),
            width=record.width,
            height=record.height,
            **{(name.upper() if self.ros1 else name): v for name, v in values.items()},
        )

    def objects(self, record: Record, package: str, stamp_ns: int, frame: str, ids: bool) -> Any:
        objects = []
        for row in radar.to_records(read_pcd(record.path)):
            fields: dict[str, Any] = {}
            for name in radar.RADAR_FIELDS[3:]:
                value = row[name]
                if value.dtype.kind == "i":  # what a C++ assignment to the unsigned type does
                    value = value.view(value.dtype.str.replace("i", "u"))
                fields[name] = value.item()
            if not ids:
                fields["id"] = 0
            x, y, z = (float(row[name]) for name in "xyz")
            pose = self.new("geometry_msgs/msg/Vector3", x=x, y=y, z=z)
            objects.append(self.new(f"{package}/msg/RadarObject", pose=pose, **fields))
        return self.new(
            f"{package}/msg/RadarObjects", header=self.header(stamp_ns, frame), objects=objects
        )

    def cloud(self, records: np.ndarray, stamp_ns: int, frame: str) -> Any:
        kinds = records.dtype.fields
        return self.new(
            "sensor_msgs/msg/PointCloud2",
            header=self.header(stamp_ns, frame),
            height=1,
            width=len(records),
            fields=[
                self.new(
                    "sensor_msgs/msg/PointField",
                    name=name,
                    offset=kinds[name][1],
                    datatype=_POINT_FIELD[kinds[name][0].str[1:]],
                    count=1,
                )
                for name in records.dtype.names
            ],
            point_step=records.dtype.itemsize,
            row_step=records.nbytes,
            data=np.frombuffer(records.tobytes(), np.uint8),
        )

    def lidar(self, record: Record, stamp_ns: int, frame: str, names: str, step: int) -> Any:
        offsets = [4 * i for i in range(5)] if step == 20 else [0, 4, 8, 16, 20]
        if step == 16:
            offsets = [0, 4, 8, 12]
        columns = names.split()
        dtype = np.dtype(
            {
                "names": columns,
                "formats": ["<f4"] * len(columns),
                "offsets": offsets[: len(columns)],
                "itemsize": step,
            }
        )
        points = lidar.read_bin(record.path)
        records = np.zeros(len(points), dtype)
        for index, name in enumerate(columns):
            records[name] = points[:, index]
        return self.cloud(records, stamp_ns, frame)

    def transform(self, stamp_ns: int, parent: str, child: str, matrix: np.ndarray) -> Any:
        w, x, y, z = geometry.matrix_to_quat_wxyz(matrix[:3, :3])
        tx, ty, tz = matrix[:3, 3]
        return self.new(
            "geometry_msgs/msg/TransformStamped",
            header=self.header(stamp_ns, parent),
            child_frame_id=child,
            transform=self.new(
                "geometry_msgs/msg/Transform",
                translation=self.new("geometry_msgs/msg/Vector3", x=tx, y=ty, z=tz),
                rotation=self.new("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w),
            ),
        )

    def odometry(self, stamp_ns: int, parent: str, matrix: np.ndarray) -> Any:
        message = self.new(
            "nav_msgs/msg/Odometry",
            header=self.header(stamp_ns, parent),
            child_frame_id="base_link",
        )
        pose = message.pose.pose
        pose.position.x, pose.position.y, pose.position.z = matrix[:3, 3]
        q = pose.orientation
        q.w, q.x, q.y, q.z = geometry.matrix_to_quat_wxyz(matrix[:3, :3])
        return message

    def __enter__(self) -> Foreign:
        self.writer.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()


def records_of(tables: NuScenes, scene: str) -> list[Record]:
    found = [r for channel in CHANNELS for r in tables.records(scene, channel)]
    return sorted(found, key=lambda record: record.stamp_ns)


def nuscenes2bag(tables: NuScenes, scene: str, path: Path, *, ros1: bool) -> Path:
    """clynamen's (ROS 1), or its ROS 2 port, whose sensor headers are empty."""
    package = "nuscenes2bag" if ros1 else "message_interfaces"
    tf = "tf/msg/tfMessage" if ros1 else "tf2_msgs/msg/TFMessage"
    records = records_of(tables, scene)
    with Foreign(path, ros1=ros1, storage="sqlite3") as bag:
        bag.register_radar(package)
        if ros1:
            bag.register(tf, "geometry_msgs/TransformStamped[] transforms")
        sensors = {r.channel.lower(): r.ego_T_sensor for r in records}
        for record in records:  # all poses are written before the first sensor message
            now = record.stamp_ns
            bag.write("/odom", bag.odometry(now, "odom", record.global_T_ego), now)
            transforms = [bag.transform(now, "odom", "base_link", record.global_T_ego)]
            for name, matrix in sensors.items():
                transforms.append(bag.transform(now, "base_link", name, matrix))
            transforms.append(bag.transform(now, "map", "odom", np.eye(4)))
            bag.write("/tf", bag.new(tf, transforms=transforms), now)
        for record in sorted(records, key=lambda r: r.channel):
            name, now = record.channel.lower(), record.stamp_ns
            stamp, frame = (now, name) if ros1 else (0, "")
            if record.channel in CAMERAS:
                bag.write(f"{name}/raw", bag.raw_image(record, stamp, frame), now)
            elif record.channel in RADARS:
                objects = bag.objects(record, package, stamp, frame, ids=False)
                bag.write(name, objects, now)
            else:
                cloud = bag.lidar(record, stamp, name, "x y z intensity", 16)
                bag.write(name, cloud, now)
    return path


def chris7462(tables: NuScenes, scene: str, path: Path) -> Path:
    with Foreign(path) as bag:
        bag.register_radar("nuscenes_msgs")
        for record in records_of(tables, scene):
            name, now = f"/nuscenes/{record.channel.lower()}", record.stamp_ns
            frame = f"{record.channel.lower()}_link"
            if record.channel in CAMERAS:
                bag.write(f"{name}/image_raw", bag.raw_image(record, now, frame), now)
                bag.write(f"{name}/camera_info", bag.info(record, frame, np.eye(3)), now)
            elif record.channel in RADARS:
                bag.write(name, bag.objects(record, "nuscenes_msgs", now, frame, ids=True), now)
            else:
                cloud = bag.lidar(record, now, frame, "x y z intensity ring", 32)
                bag.write(name, cloud, now)
            bag.write("/nuscenes/odom", bag.odometry(now, "map", record.global_T_ego), now)
    return path


def key_stamps(tables: NuScenes, scene: str) -> Iterator[tuple[Record, list[Record], list]]:
    """(key LIDAR_TOP record, the sample's key records, the sweeps after it) of each sample."""
    records = records_of(tables, scene)
    samples = tables.samples_of_scene(scene)
    keys = {
        token: [r for r in records if r.is_key_frame and r.sample_token == token]
        for token in samples
    }
    for number, token in enumerate(samples):
        start = {r.channel: r.stamp_ns for r in keys[token]}
        later = keys[samples[number + 1]] if number + 1 < len(samples) else []
        end = {r.channel: r.stamp_ns for r in later}
        sweeps = [
            r
            for r in records
            if not r.is_key_frame and start[r.channel] < r.stamp_ns < end.get(r.channel, 2**62)
        ]
        (top,) = (r for r in keys[token] if r.channel == "LIDAR_TOP")
        yield top, keys[token], sweeps


def watonomous(tables: NuScenes, scene: str, path: Path, *, ros1: bool = False) -> Path:
    """WATonomous's, or the ROS 1 lineage it comes from: key frames at the lidar's record time."""
    wrong_r = np.zeros((3, 3))
    wrong_r[:, 0] = 1.0
    groups = list(key_stamps(tables, scene))
    with Foreign(path, ros1=ros1) as bag:
        if ros1:
            bag.register("tf2_msgs/msg/TFMessage", "geometry_msgs/TransformStamped[] transforms")
        for number, (top, keys, sweeps) in enumerate(groups):
            now = top.stamp_ns
            for step in range(-20, 0) if number else ():  # CAN odometry at 50 Hz, offset
                stamp = now + step * 20_000_000
                wrong = top.global_T_ego.copy()
                wrong[:2, 3] += 5.0
                bag.write("/odom", bag.odometry(stamp, "map", wrong), now)
            transforms = []
            for lidar_record, group, _ in groups[number : number + 2]:
                at = lidar_record.stamp_ns
                transforms.append(bag.transform(at, "map", "base_link", lidar_record.global_T_ego))
                transforms += [
                    bag.transform(at, "base_link", r.channel, r.ego_T_sensor) for r in group
                ]
            message = bag.new("tf2_msgs/msg/TFMessage", transforms=transforms)
            bag.write("/tf", message, now)
            for record, at in [
                *((r, now) for r in keys),
                *((r, r.stamp_ns) for r in sorted(sweeps, key=lambda r: r.stamp_ns)),
            ]:
                topic = f"/{record.channel}"
                if record.channel in CAMERAS:
                    image = bag.jpeg(record, record.channel)
                    bag.write(f"{topic}/image_rect_compressed", image, at)
                    info = bag.info(record, record.channel, wrong_r)
                    bag.write(f"{topic}/camera_info", info, at)
                elif record.channel in RADARS:
                    points = radar.to_records(read_pcd(record.path))
                    bag.write(topic, bag.cloud(points, record.stamp_ns, record.channel), at)
                else:
                    names = "x y z intensity ring"
                    cloud = bag.lidar(record, record.stamp_ns, record.channel, names, 20)
                    bag.write(topic, cloud, at)
    return path
