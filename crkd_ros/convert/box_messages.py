"""Detections to messages. Pure: the messages are built by a factory that is handed in.

``make(type_name, **fields)`` is ``ros_packages.make`` in the node and ``message_types.make`` in
replay, so both write the same. Numbers of variable length are numpy arrays. The header is always
that of the reference image; nothing found gives empty arrays, never silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.boxes import Boxes, Detections, Tracked
from crkd_ros.convert.arrays import BOX_FIELDS, stamp_fields

_FLOAT32, _UINT32 = 7, 6


class Make(Protocol):
    """Builds a message of a named type; fields not given keep their defaults."""

    def __call__(self, type_name: str, **fields: Any) -> Any:
        """``type_name`` like "std_msgs/msg/Header"."""


def header(stamp_ns: int, frame_id: str, make: Make) -> Any:
    """A std_msgs/Header."""
    stamp = make("builtin_interfaces/msg/Time", **stamp_fields(stamp_ns))
    return make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)


def boxes_cloud(
    detections: Detections, *, stamp_ns: int, make: Make, frame_id: str = "base_link"
) -> Any:
    """A sensor_msgs/PointCloud2 with one point per detection, best score first.

    Fields BOX_FIELDS, float32 each: centre, size (m), yaw (rad), velocity over ground (m/s), score
    in [0, 1], label (index into the classes, see ``label_info``); of Tracked also ``id``, uint32,
    0 for none.
    """
    detections = finite(detections)
    kind = [(name, "<f4") for name in BOX_FIELDS]
    if isinstance(detections, Tracked):
        kind.append(("id", "<u4"))
    records = np.empty(len(detections), kind)
    columns = (
        *(*detections.center.T, *detections.size.T, detections.yaw, *detections.velocity.T),
        *(detections.score, detections.label),
    )
    for name, column in zip(BOX_FIELDS, columns, strict=True):
        records[name] = column
    if isinstance(detections, Tracked):
        records["id"] = detections.id
    return make(
        "sensor_msgs/msg/PointCloud2",
        header=header(stamp_ns, frame_id, make),
        height=1,
        width=len(records),
        fields=[
            make(
                "sensor_msgs/msg/PointField",
                name=name,
                offset=4 * index,
                datatype=_UINT32 if name == "id" else _FLOAT32,
                count=1,
            )
            for index, (name, _) in enumerate(kind)
        ],
        is_bigendian=False,
        point_step=records.itemsize,
        row_step=records.nbytes,
        data=np.frombuffer(records.tobytes(), np.uint8),
        is_dense=True,
    )


def detection_array(
    detections: Detections, *, stamp_ns: int, make: Make, frame_id: str = "base_link"
) -> Any:
    """A vision_msgs/Detection3DArray; it has no place for velocity.

    class_id is the class name; id is the decimal id of Tracked, empty for none.
    """
    head = header(stamp_ns, frame_id, make)
    detections = finite(detections)
    found = []
    for index in range(len(detections)):
        where = pose(detections.center[index], float(detections.yaw[index]), make)
        hypothesis = make(
            "vision_msgs/msg/ObjectHypothesis",
            class_id=detections.classes[detections.label[index]],
            score=float(detections.score[index]),
        )
        result = make(
            "vision_msgs/msg/ObjectHypothesisWithPose",
            hypothesis=hypothesis,
            pose=make("geometry_msgs/msg/PoseWithCovariance", pose=where),
        )
        box = make(
            "vision_msgs/msg/BoundingBox3D",
            center=where,
            size=vector(detections.size[index], make),
        )
        found.append(
            make(
                "vision_msgs/msg/Detection3D",
                header=head,
                results=[result],
                bbox=box,
                id=identifier(detections, index),
            )
        )
    return make("vision_msgs/msg/Detection3DArray", header=head, detections=found)


def label_info(
    classes: Sequence[str],
    *,
    stamp_ns: int,
    make: Make,
    threshold: float,
    frame_id: str = "base_link",
) -> Any:
    """A vision_msgs/LabelInfo: what the labels of ``~/boxes`` mean, and the least score of all."""
    return make(
        "vision_msgs/msg/LabelInfo",
        header=header(stamp_ns, frame_id, make),
        class_map=[
            make("vision_msgs/msg/VisionClass", class_id=index, class_name=name)
            for index, name in enumerate(classes)
        ],
        threshold=float(threshold),
    )


def identifier(boxes: Boxes, index: int) -> str:
    """The id of one box as text; empty where it has none."""
    if isinstance(boxes, Tracked) and boxes.id[index] > 0:
        return str(boxes.id[index])
    return ""


def finite(boxes: Any) -> Any:
    """The boxes whose every number is finite, sizes positive; velocity may be unknown (NaN).

    For detections an unknown velocity drops the box too: a detector always answers one.
    """
    keep = (
        np.isfinite(boxes.center).all(1)
        & np.isfinite(boxes.size).all(1)
        & (boxes.size > 0).all(1)
        & np.isfinite(boxes.yaw)
    )
    if isinstance(boxes, Detections):
        keep &= np.isfinite(boxes.velocity).all(1) & np.isfinite(boxes.score)
    return boxes.select(keep)


def vector(values: Sequence[float] | NDArray[np.float64], make: Make) -> Any:
    """A geometry_msgs/Vector3 of [3]."""
    x, y, z = (float(value) for value in values)
    return make("geometry_msgs/msg/Vector3", x=x, y=y, z=z)


def point(values: Sequence[float] | NDArray[np.float64], make: Make) -> Any:
    """A geometry_msgs/Point of [3]."""
    x, y, z = (float(value) for value in values)
    return make("geometry_msgs/msg/Point", x=x, y=y, z=z)


def pose(center: NDArray[np.float64], yaw: float, make: Make) -> Any:
    """A geometry_msgs/Pose of [3] and a heading in radians."""
    orientation = quaternion(geometry.yaw_to_quat_wxyz(yaw), make)
    return make("geometry_msgs/msg/Pose", position=point(center, make), orientation=orientation)


def pose_of(matrix: NDArray[np.float64], make: Make) -> Any:
    """A geometry_msgs/Pose of [4, 4]."""
    orientation = quaternion(geometry.matrix_to_quat_wxyz(matrix[:3, :3]), make)
    position = point(matrix[:3, 3], make)
    return make("geometry_msgs/msg/Pose", position=position, orientation=orientation)


def transform(
    parent_T_child: NDArray[np.float64], parent: str, child: str, stamp_ns: int, make: Make
) -> Any:
    """A geometry_msgs/TransformStamped of [4, 4]."""
    rotation = quaternion(geometry.matrix_to_quat_wxyz(parent_T_child[:3, :3]), make)
    translation = vector(parent_T_child[:3, 3], make)
    return make(
        "geometry_msgs/msg/TransformStamped",
        header=header(stamp_ns, parent, make),
        child_frame_id=child,
        transform=make("geometry_msgs/msg/Transform", translation=translation, rotation=rotation),
    )


def quaternion(wxyz: NDArray[np.float64], make: Make) -> Any:
    """A geometry_msgs/Quaternion of [4], scalar first."""
    w, x, y, z = (float(value) for value in wxyz)
    return make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)
