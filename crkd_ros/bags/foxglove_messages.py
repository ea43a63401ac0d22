"""Single messages of Foxglove as ROS messages, of protobuf or JSON alike."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np

from crkd_ros.bags.message_types import CLOUD, IMAGES, INFO, TF, BagError, make

#: PackedElementField.type -> PointField.datatype: Foxglove counts UINT8 first, ROS INT8.
_DATATYPE = {1: 2, 2: 1, 3: 4, 4: 3, 5: 6, 6: 5, 7: 7, 8: 8}
_NUMERIC = {
    name: number
    for number, name in enumerate(
        ("UNKNOWN", "UINT8", "INT8", "UINT16", "INT16", "UINT32", "INT32", "FLOAT32", "FLOAT64")
    )
}


def _header(message: Any, frame_id: str) -> Any:
    time = message.timestamp
    # JSON names them as ROS 1 did; a protobuf Timestamp has seconds and nanos.
    sec = time.seconds if hasattr(time, "seconds") else time.sec
    nanosec = time.nanos if hasattr(time, "nanos") else time.nsec
    stamp = make("builtin_interfaces/msg/Time", sec=int(sec), nanosec=int(nanosec))
    return make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)


def _bytes(data: Any) -> bytes:
    return base64.b64decode(data) if isinstance(data, str) else data


def _image(message: Any) -> Any:
    return make(
        IMAGES[0],
        header=_header(message, message.frame_id),
        format=message.format,
        data=_bytes(message.data),
    )


def _raw_image(message: Any) -> Any:
    return make(
        IMAGES[1],
        header=_header(message, message.frame_id),
        height=message.height,
        width=message.width,
        encoding=message.encoding,
        step=message.step,
        data=_bytes(message.data),
    )


def _info(message: Any) -> Any:
    return make(
        INFO,
        header=_header(message, message.frame_id),
        width=message.width,
        height=message.height,
        distortion_model=message.distortion_model,
        d=list(message.D),
        k=_matrix(message.K, 9),
        r=_matrix(message.R, 9),
        p=_matrix(message.P, 12),
    )


def _matrix(values: Any, count: int) -> list[float]:
    """Numbers of a matrix of ROS; zeros where Foxglove's message leaves it empty. BagError."""
    numbers = list(values) or [0.0] * count
    if len(numbers) != count:
        raise BagError(f"CameraCalibration: expected {count} numbers, got {len(numbers)}")
    return numbers


def _cloud(message: Any) -> Any:
    _refuse_pose(message)
    data = np.frombuffer(_bytes(message.data), np.uint8)
    step = int(message.point_stride)
    fields = [
        make(
            "sensor_msgs/msg/PointField",
            name=field.name,
            offset=int(field.offset),
            datatype=_DATATYPE[
                _NUMERIC[field.type] if isinstance(field.type, str) else int(field.type)
            ],
            count=1,
        )
        for field in message.fields
    ]
    if step <= 0 or len(data) % step:
        raise BagError(
            f"PointCloud of {message.frame_id}: {len(data)} bytes are not whole points of {step}"
        )
    return make(
        CLOUD,
        header=_header(message, message.frame_id),
        height=1,
        width=len(data) // step,
        fields=fields,
        point_step=step,
        row_step=len(data),
        data=data,
        is_dense=True,
    )


def _refuse_pose(message: Any) -> None:
    """A cloud may lie anywhere in its frame, which a PointCloud2 cannot say. Raises BagError."""
    pose = getattr(message, "pose", None)
    if pose is None:
        return
    place, turn = pose.position, pose.orientation
    if any((place.x, place.y, place.z, turn.x, turn.y, turn.z)):
        raise BagError(
            f"PointCloud of {message.frame_id}: it has a pose of its own, which is not read here; "
            "write its points in axes of its frame, and its place as a transform of that"
        )


def _transforms(message: Any) -> Any:
    return make(TF[0], transforms=[_transform(one) for one in message.transforms])


def _one_transform(message: Any) -> Any:
    return make(TF[0], transforms=[_transform(message)])


def _transform(message: Any) -> Any:
    t, q = message.translation, message.rotation
    return make(
        "geometry_msgs/msg/TransformStamped",
        header=_header(message, message.parent_frame_id),
        child_frame_id=message.child_frame_id,
        transform=make(
            "geometry_msgs/msg/Transform",
            translation=make("geometry_msgs/msg/Vector3", x=t.x, y=t.y, z=t.z),
            rotation=make("geometry_msgs/msg/Quaternion", x=q.x, y=q.y, z=q.z, w=q.w),
        ),
    )


#: Schema -> the type in ROS, and how a message of it is made.
TYPES: dict[str, tuple[str, Callable[[Any], Any] | None]] = {
    "foxglove.CompressedImage": (IMAGES[0], _image),
    "foxglove.RawImage": (IMAGES[1], _raw_image),
    "foxglove.CameraCalibration": (INFO, _info),
    "foxglove.PointCloud": (CLOUD, _cloud),
    "foxglove.FrameTransform": (TF[0], _one_transform),
    "foxglove.FrameTransforms": (TF[0], _transforms),
}
