"""Messages to arrays. Pure functions, duck-typed: messages of rclpy and of rosbags serve alike.

Here: stamps, poses, and point clouds as records. Images are in images.py, CameraInfo in
camera_model.py, radar clouds in radar_clouds.py.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.boxes import Detections
from crkd_ros.convert import ros_packages

#: Fields of ~/boxes, one float32 each.
BOX_FIELDS = ("x", "y", "z", "length", "width", "height", "yaw", "vx", "vy", "score", "label")

#: Name, offset, datatype and count of every field of a cloud.
Layout = tuple[tuple[str, int, int, int], ...]
#: A point with more numbers than this is no point.
_MOST_COLUMNS = 256


class ConvertError(ValueError):
    """A message that does not hold what its type promises, or that we cannot use."""


def stamp_ns(stamp: Any) -> int:
    """A builtin_interfaces/Time as nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def stamp_fields(nanoseconds: int) -> dict[str, int]:
    """Nanoseconds as the fields of a builtin_interfaces/Time."""
    return {"sec": nanoseconds // 1_000_000_000, "nanosec": nanoseconds % 1_000_000_000}


def odometry_pose(message: Any) -> NDArray[np.float64]:
    """``map_T_base`` [4, 4] of a nav_msgs/Odometry (header frame -> child frame)."""
    pose = message.pose.pose
    return _matrix(pose.position, pose.orientation)


def odometry_twist(message: Any) -> NDArray[np.float64] | None:
    """Linear and angular velocity [6] of a nav_msgs/Odometry, child axes; None if not finite."""
    linear, angular = message.twist.twist.linear, message.twist.twist.angular
    twist = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
    return twist if np.isfinite(twist).all() else None


def transform_matrix(message: Any) -> NDArray[np.float64]:
    """``parent_T_child`` [4, 4] of a geometry_msgs/TransformStamped."""
    return _matrix(message.transform.translation, message.transform.rotation)


def boxes_from_cloud(message: Any, classes: Sequence[str]) -> Detections:
    """The detections of one ~/boxes message (float32 precision).

    Args:
        message: a PointCloud2; its labels are numbers.
        classes: the detector's, which these numbers index.

    Raises:
        ConvertError: it lacks one of BOX_FIELDS, or has a label that is no index of a class.
    """
    found = {field.name for field in message.fields}
    if not set(BOX_FIELDS) <= found:
        raise ConvertError(
            f"boxes: expected fields {', '.join(BOX_FIELDS)}; found {', '.join(sorted(found))}"
        )
    records = cloud_records(message, source="boxes")
    column = {name: records[name].astype(np.float64) for name in BOX_FIELDS}
    label = column["label"]
    if not np.isin(label, np.arange(len(classes))).all():
        raise ConvertError(
            f"boxes: expected labels 0 to {len(classes) - 1} ({', '.join(classes)}), got "
            f"{label.min():g} to {label.max():g}; were they made by a detector of other classes?"
        )
    return Detections(
        center=np.stack([column[name] for name in ("x", "y", "z")], -1),
        size=np.stack([column[name] for name in ("length", "width", "height")], -1),
        yaw=column["yaw"],
        velocity=np.stack([column["vx"], column["vy"]], -1),
        label=label.astype(np.int64),
        score=column["score"],
        classes=tuple(classes),
    )


def classes_of(message: Any) -> tuple[str, ...]:
    """The classes of a vision_msgs/LabelInfo, in the order of the labels of ``~/boxes``.

    Raises:
        ConvertError: the labels are not 0, 1, 2, ...
    """
    names = {int(one.class_id): str(one.class_name) for one in message.class_map}
    if sorted(names) != list(range(len(message.class_map))):
        raise ConvertError(f"label info: expected 0, 1, 2, ... each once, got {sorted(names)}")
    return tuple(names[label] for label in sorted(names))


def cloud_records(message: Any, *, source: str) -> NDArray[np.void]:
    """The points of a PointCloud2 as structured records [N], by field name.

    Raises:
        ConvertError: sizes, fields or data that contradict each other. Nothing is read or reserved
            before they have been compared with the bytes that came.
    """
    check_cloud(message, source)
    if not message.width * message.height:
        return np.zeros(0, [(name, "f4") for name in {field.name for field in message.fields}])
    try:
        return ros_packages.read_points(message)
    # sensor_msgs_py asserts what it expects.
    except (ValueError, TypeError, KeyError, AssertionError) as error:
        raise ConvertError(f"{source}: cloud cannot be read: {error}") from error


def check_cloud(message: Any, source: str) -> None:
    """Sizes that contradict each other must not become reads beyond the data.

    Raises:
        ConvertError: they do, or a field that not every implementation of read_points reads.
    """
    width, height, step, row = message.width, message.height, message.point_step, message.row_step
    # Drivers may say the size of a point only where they have one.
    if step or width * height or len(message.data):
        _check_layout(layout_of(message), step, source)
    if width and not height and len(message.data):
        raise ConvertError(
            f"{source}: expected no data of {width} x 0 points, got {len(message.data)} bytes; "
            "the driver has to set height, to 1 for a cloud of one row"
        )
    if height > 1 and row < width * step:
        raise ConvertError(
            f"{source}: expected rows (row_step) of at least {width * step} bytes for {width} "
            f"points of {step} bytes, got {row}"
        )
    if len(message.data) < _bytes_needed(message):
        raise ConvertError(
            f"{source}: {width} x {height} points of {step} bytes in rows of {row} need "
            f"{_bytes_needed(message)} bytes, got {len(message.data)}"
        )


def layout_of(message: Any) -> Layout:
    """The fields of a PointCloud2, by which what follows from them can be kept."""
    return tuple((f.name, f.offset, f.datatype, f.count) for f in message.fields)


@functools.lru_cache(maxsize=64)
def _check_layout(fields: Layout, step: int, source: str) -> None:
    """That fields fit a point and can be told apart. A sensor sends the same ones every time."""
    sizes = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 8: 8}
    for name, offset, datatype, count in fields:
        size = sizes.get(datatype)
        if size is None or offset + size * max(count, 1) > step:
            raise ConvertError(
                f"{source}: field {name!r} (datatype {datatype}, offset {offset}, count {count}) "
                f"does not fit a point of {step} bytes"
            )
    names: list[str] = []
    for name, _, _, count in fields:
        if not count:
            raise ConvertError(
                f"{source}: field {name!r} has count 0; expected 1, or more for an array"
            )
        if count <= _MOST_COLUMNS:  # More is refused below, and not written out here.
            parts = [f"_{part}" for part in range(count)] if count > 1 else [""]
            names += [name + part for part in parts if name]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConvertError(f"{source}: fields of one name: {', '.join(twice)}")
    columns = sum(count for _, _, _, count in fields)
    if columns > _MOST_COLUMNS:
        raise ConvertError(
            f"{source}: {columns} numbers in a point; expected at most {_MOST_COLUMNS}"
        )


def _bytes_needed(message: Any) -> int:
    packed = message.width * message.point_step
    return (max(message.height, 1) - 1) * message.row_step + packed if message.height else 0


def _matrix(position: Any, orientation: Any) -> NDArray[np.float64]:
    """A pose of messages' vectors. Raises ConvertError when it is invalid."""
    try:
        return geometry.pose(
            [position.x, position.y, position.z],
            [orientation.w, orientation.x, orientation.y, orientation.z],
        )
    except geometry.GeometryError as error:
        raise ConvertError(f"not a pose: {error}") from error
