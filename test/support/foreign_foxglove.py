"""Files as foxglove/nuscenes2mcap writes them: Foxglove's messages in protobuf or JSON."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from foreign import key_stamps
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from mcap.writer import Writer

from crkd_core import geometry
from crkd_core.data import lidar, radar
from crkd_core.data.nuscenes.reader import NuScenes, Record
from crkd_core.data.radar_file import read_pcd
from crkd_core.sensors import CAMERAS, RADARS

_FIELD = descriptor_pb2.FieldDescriptorProto
_KINDS = {
    "string": _FIELD.TYPE_STRING,
    "bytes": _FIELD.TYPE_BYTES,
    "double": _FIELD.TYPE_DOUBLE,
    "fixed32": _FIELD.TYPE_FIXED32,
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
}
_TIME = ".google.protobuf.Timestamp timestamp=1"
#: Name -> fields, "kind name=number", as in Foxglove's published schemas.
_MESSAGES = {
    "google.protobuf.Timestamp": ["int64 seconds=1", "int32 nanos=2"],
    "foxglove.Vector3": ["double x=1", "double y=2", "double z=3"],
    "foxglove.Quaternion": ["double x=1", "double y=2", "double z=3", "double w=4"],
    "foxglove.PackedElementField": ["string name=1", "fixed32 offset=2", "int32 type=3"],
    "foxglove.CompressedImage": [_TIME, "bytes data=2", "string format=3", "string frame_id=4"],
    "foxglove.CameraCalibration": [
        *(_TIME, "fixed32 width=2", "fixed32 height=3", "string distortion_model=4"),
        *("*double D=5", "*double K=6", "*double R=7", "*double P=8", "string frame_id=9"),
    ],
    "foxglove.PointCloud": [
        *(_TIME, "string frame_id=2", "fixed32 point_stride=4"),
        *("*.foxglove.PackedElementField fields=5", "bytes data=6"),
    ],
    "foxglove.FrameTransform": [
        *(_TIME, "string parent_frame_id=2", "string child_frame_id=3"),
        *(".foxglove.Vector3 translation=4", ".foxglove.Quaternion rotation=5"),
    ],
}
_NUMERIC = {"i1": ("INT8", 2), "i2": ("INT16", 4), "f4": ("FLOAT32", 7)}


def _files() -> descriptor_pb2.FileDescriptorSet:
    files = descriptor_pb2.FileDescriptorSet()
    for full, fields in _MESSAGES.items():
        package, _, name = full.rpartition(".")
        file = files.file.add(name=f"{full.replace('.', '/')}.proto", package=package)
        file.syntax = "proto3"
        message = file.message_type.add(name=name)
        for text in fields:
            kind, _, rest = text.partition(" ")
            field_name, _, number = rest.partition("=")
            field = message.field.add(name=field_name, number=int(number))
            field.label = _FIELD.LABEL_REPEATED if kind[0] == "*" else _FIELD.LABEL_OPTIONAL
            kind = kind.lstrip("*")
            if kind[0] == ".":
                field.type, field.type_name = _FIELD.TYPE_MESSAGE, kind
                imported = f"{kind[1:].replace('.', '/')}.proto"
                if imported not in file.dependency:
                    file.dependency.append(imported)
            else:
                field.type = _KINDS[kind]
    return files


class FoxgloveFile:
    """Writes messages given as dictionaries, in one of the two encodings."""

    def __init__(self, path: Path, encoding: str) -> None:
        self.encoding = encoding
        self.stream = path.open("wb")
        self.writer = Writer(self.stream)
        self.writer.start(profile="", library="foxglove-sdk")
        self.files = _files()
        pool = descriptor_pool.DescriptorPool()
        for file in self.files.file:
            pool.Add(file)
        self.classes = {
            name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
            for name in _MESSAGES
        }
        self.schemas: dict[str, int] = {}
        self.channels: dict[str, int] = {}

    def write(self, topic: str, name: str, fields: dict[str, Any], log_ns: int) -> None:
        if name not in self.schemas:
            data = self.files.SerializeToString() if self.encoding == "protobuf" else b"{}"
            schema = "jsonschema" if self.encoding == "json" else self.encoding
            self.schemas[name] = self.writer.register_schema(name, schema, data)
        if topic not in self.channels:
            self.channels[topic] = self.writer.register_channel(
                topic, self.encoding, self.schemas[name]
            )
        data = self._protobuf(name, fields) if self.encoding == "protobuf" else _json(fields)
        self.writer.add_message(self.channels[topic], log_ns, data, log_ns)

    def _protobuf(self, name: str, fields: dict[str, Any]) -> bytes:
        fields = dict(fields)
        stamp = fields.pop("timestamp")
        time = {"seconds": stamp["sec"], "nanos": stamp["nsec"]}
        return self.classes[name](timestamp=time, **fields).SerializeToString()

    def close(self) -> None:
        self.writer.finish()
        self.stream.close()


def _json(fields: dict[str, Any]) -> bytes:
    plain = {k: base64.b64encode(v).decode() if type(v) is bytes else v for k, v in fields.items()}
    return json.dumps(plain).encode()


def _time(stamp_ns: int) -> dict[str, int]:
    return {"sec": stamp_ns // 10**9, "nsec": stamp_ns % 10**9}


def _transform(stamp_ns: int, parent: str, child: str, matrix: np.ndarray) -> dict[str, Any]:
    w, x, y, z = (float(v) for v in geometry.matrix_to_quat_wxyz(matrix[:3, :3]))
    tx, ty, tz = (float(v) for v in matrix[:3, 3])
    return {
        "timestamp": _time(stamp_ns),
        "parent_frame_id": parent,
        "child_frame_id": child,
        "translation": {"x": tx, "y": ty, "z": tz},
        "rotation": {"x": x, "y": y, "z": z, "w": w},
    }


def _cloud(record: Record, points: np.ndarray) -> dict[str, Any]:
    fields = [
        {"name": name, "offset": points.dtype.fields[name][1], "type": _NUMERIC[kind.str[1:]][1]}
        for name, (kind, _) in points.dtype.fields.items()
    ]
    return {
        "timestamp": _time(record.stamp_ns),
        "frame_id": record.channel.lower(),
        "point_stride": points.dtype.itemsize,
        "fields": fields,
        "data": points.tobytes(),
    }


def nuscenes2mcap(tables: NuScenes, scene: str, path: Path, *, encoding: str = "protobuf") -> Path:
    """One scene. Key frames stand at the lidar's time, the ego poses of sweeps are all there."""
    file = FoxgloveFile(path, encoding)
    for top, keys, sweeps in key_stamps(tables, scene):
        now = top.stamp_ns
        pose = _transform(now, "map", "base_link", top.global_T_ego)
        file.write("/tf", "foxglove.FrameTransform", pose, now)
        for record in keys:
            placed = _transform(
                record.stamp_ns, "base_link", record.channel.lower(), record.ego_T_sensor
            )
            file.write("/tf", "foxglove.FrameTransform", placed, now)
            _sensor(file, record, now)
        for record in sorted(sweeps, key=lambda r: r.stamp_ns):
            pose = _transform(record.stamp_ns, "map", "base_link", record.global_T_ego)
            file.write("/tf", "foxglove.FrameTransform", pose, record.stamp_ns)
            _sensor(file, record, record.stamp_ns)
    file.close()
    return path


def _sensor(file: FoxgloveFile, record: Record, at: int) -> None:
    name = record.channel.lower()
    head = {"timestamp": _time(record.stamp_ns), "frame_id": name}
    if record.channel in CAMERAS:
        image = {**head, "format": "jpeg", "data": record.path.read_bytes()}
        file.write(f"/{name}/image_rect_compressed", "foxglove.CompressedImage", image, at)
        k = record.intrinsics.ravel().tolist()
        info = {
            **head,
            "width": record.width,
            "height": record.height,
            "K": k,
            "R": np.eye(3).ravel().tolist(),
            "P": [*k[:3], 0.0, *k[3:6], 0.0, 0.0, 0.0, 1.0, 0.0],
            "D": [],
            "distortion_model": "",
        }
        file.write(f"/{name}/camera_info", "foxglove.CameraCalibration", info, at)
    elif record.channel in RADARS:
        points = radar.to_records(read_pcd(record.path))
        file.write(f"/{name}", "foxglove.PointCloud", _cloud(record, points), at)
    else:
        values = np.ascontiguousarray(lidar.read_bin(record.path))
        points = values.view(np.dtype([(n, "<f4") for n in lidar.LIDAR_FIELDS]))[:, 0]
        file.write(f"/{name}", "foxglove.PointCloud", _cloud(record, points), at)
