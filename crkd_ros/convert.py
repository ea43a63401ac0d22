"""Messages to arrays. Pure functions, duck-typed: messages of rclpy and of rosbags serve alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.boxes import Detections
from crkd_core.config import ImageConfig
from crkd_core.data.cameras import CameraError, decode_jpeg, prepare_image
from crkd_core.data.radar import RADAR_FIELDS
from crkd_ros import messages

#: What a radar cloud must have.
REQUIRED_RADAR_FIELDS = ("x", "y", "z", "rcs", "vx_comp", "vy_comp")

#: What the other columns are where a cloud does not have them: a valid, unambiguous return whose
#: motion state is unknown, with the lowest false-alarm class. vx and vy become vx_comp and vy_comp
#: (the network does not read them); the coded rms values are 0 (it does not read them either).
RADAR_DEFAULTS = {
    "dyn_prop": 4,
    "id": 0,
    "is_quality_valid": 1,
    "ambig_state": 3,
    "x_rms": 0,
    "y_rms": 0,
    "invalid_state": 0,
    "pdh0": 1,
    "vx_rms": 0,
    "vy_rms": 0,
}

#: Fields of ~/boxes, one float32 each.
BOX_FIELDS = ("x", "y", "z", "length", "width", "height", "yaw", "vx", "vy", "score", "label")

#: A point with more numbers than this is no point.
_MOST_COLUMNS = 256


class ConvertError(ValueError):
    """A message that does not hold what its type promises, or that we cannot use."""


@dataclass(frozen=True, kw_only=True)
class PreparedImage:
    """One image as the network takes it, and the frame it was taken in.

    Attributes:
        pixels: uint8 [height, width, 3] RGB after ``prepare_image``.
        intrinsics: [3, 3] of these pixels.
        frame_id: of the image's header.
    """

    pixels: NDArray[np.uint8]
    intrinsics: NDArray[np.float64]
    frame_id: str


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One radar sweep: ``points`` float32 [N, 18], columns RADAR_FIELDS, in frame ``frame_id``."""

    points: NDArray[np.float32]
    frame_id: str


def stamp_ns(stamp: Any) -> int:
    """A builtin_interfaces/Time as nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def stamp_fields(nanoseconds: int) -> dict[str, int]:
    """Nanoseconds as the fields of a builtin_interfaces/Time."""
    return {"sec": nanoseconds // 1_000_000_000, "nanosec": nanoseconds % 1_000_000_000}


def image_rgb(message: Any, *, source: str = "image") -> NDArray[np.uint8]:
    """Pixels of an Image (bgr8, rgb8, mono8, ...) or a CompressedImage (JPEG). -> [H, W, 3] RGB.

    JPEGs are decoded by the core's own function, so that they give the same pixels as the file.

    Raises:
        ConvertError: an encoding we cannot read, wrong sizes, or a damaged JPEG; names the source.
    """
    try:
        if not hasattr(message, "encoding"):
            return decode_jpeg(memoryview(message.data).tobytes(), source=source)
        return messages.bridge().imgmsg_to_cv2(message, desired_encoding="rgb8")
    except CameraError as error:
        raise ConvertError(str(error)) from error
    # cv_bridge raises CvBridgeError (a TypeError), and lets KeyError and ValueError through.
    except (TypeError, ValueError, KeyError) as error:
        raise ConvertError(f"{source}: {error}") from error


def intrinsics(info: Any) -> NDArray[np.float64]:
    """The pinhole matrix [3, 3] of a CameraInfo: ``k``. ``r`` is ignored (bags hold wrong ones).

    Raises:
        ConvertError: the camera is not calibrated (k[0] is 0) or k is not finite.
    """
    matrix = np.asarray(info.k, np.float64).reshape(3, 3)
    if not np.isfinite(matrix).all() or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise ConvertError(
            f"CameraInfo of {info.header.frame_id!r}: k = {matrix.ravel().tolist()} is not a "
            "calibration (k[0] = 0 means uncalibrated); publish a calibrated camera_info"
        )
    return matrix


def image_size(info: Any) -> tuple[int, int] | None:
    """(width, height) that a CameraInfo is for; None where it does not say."""
    return (int(info.width), int(info.height)) if info.width and info.height else None


def prepared_image(
    message: Any,
    matrix: NDArray[np.float64],
    config: ImageConfig,
    *,
    camera: str,
    size: tuple[int, int] | None = None,
) -> PreparedImage:
    """Decode an image message and prepare it for the network.

    Args:
        message: Image or CompressedImage.
        matrix: [3, 3] pinhole matrix of the image as sent.
        config: the detector's ``config.image``.
        camera: its name, for error texts; also the frame where the header names none.
        size: (width, height) that ``matrix`` is for, where CameraInfo says so.

    Raises:
        ConvertError: see ``image_rgb``; also an image of another size than ``size``.
    """
    image = image_rgb(message, source=camera)
    if size is not None and size != (image.shape[1], image.shape[0]):
        raise ConvertError(
            f"{camera}: CameraInfo is for {size[0]} x {size[1]} pixels, the image has "
            f"{image.shape[1]} x {image.shape[0]}; intrinsics of another resolution are wrong"
        )
    try:
        pixels, adapted = prepare_image(image, matrix, config)
    except CameraError as error:
        raise ConvertError(f"{camera}: {error}") from error
    return PreparedImage(
        pixels=pixels, intrinsics=adapted, frame_id=message.header.frame_id or camera.lower()
    )


def sweep(message: Any, *, radar: str) -> Sweep:
    """A PointCloud2 of any field order, datatypes and step as one radar sweep.

    Raises:
        ConvertError: a required field is missing (the text lists the fields found), or the cloud's
            sizes contradict each other.
    """
    return Sweep(
        points=radar_points(message, source=radar),
        frame_id=message.header.frame_id or radar.lower(),
    )


def radar_points(message: Any, *, source: str = "radar") -> NDArray[np.float32]:
    """Points of a radar cloud, float32 [N, 18], columns RADAR_FIELDS; see ``sweep``.

    Rows with a NaN or an infinity are dropped. Absent optional fields are RADAR_DEFAULTS.
    """
    found = {field.name for field in message.fields}
    missing = [name for name in REQUIRED_RADAR_FIELDS if name not in found]
    if missing:
        raise ConvertError(
            f"{source}: radar cloud lacks {', '.join(missing)}; found "
            f"{', '.join(sorted(found)) or 'no fields'}"
        )
    records = cloud_records(message, source=source)
    points = np.empty((len(records), len(RADAR_FIELDS)), np.float32)
    for column, name in enumerate(RADAR_FIELDS):
        if name in found:
            points[:, column] = records[name]
        elif name in ("vx", "vy"):
            points[:, column] = records[f"{name}_comp"]
        else:
            points[:, column] = RADAR_DEFAULTS[name]
    finite = np.isfinite(points).all(1)
    return points if finite.all() else points[finite]


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


def boxes_from_cloud(message: Any) -> Detections:
    """The detections of one ~/boxes message (float32 precision).

    Raises:
        ConvertError: it lacks one of BOX_FIELDS.
    """
    found = {field.name for field in message.fields}
    if not set(BOX_FIELDS) <= found:
        raise ConvertError(
            f"boxes: expected fields {', '.join(BOX_FIELDS)}; found {', '.join(sorted(found))}"
        )
    records = cloud_records(message, source="boxes")
    column = {name: records[name].astype(np.float64) for name in BOX_FIELDS}
    return Detections(
        center=np.stack([column[name] for name in ("x", "y", "z")], -1),
        size=np.stack([column[name] for name in ("length", "width", "height")], -1),
        yaw=column["yaw"],
        velocity=np.stack([column["vx"], column["vy"]], -1),
        label=column["label"].astype(np.int64),
        score=column["score"],
    )


def cloud_records(message: Any, *, source: str) -> NDArray[np.void]:
    """The points of a PointCloud2 as structured records [N], by field name.

    Raises:
        ConvertError: sizes, fields or data that contradict each other. Nothing is read or reserved
            before they have been compared with the bytes that came.
    """
    _check_cloud(message, source)
    if not message.width * message.height:
        return np.zeros(0, [(name, "f4") for name in {field.name for field in message.fields}])
    try:
        return messages.read_points(message)
    except (ValueError, TypeError, KeyError) as error:  # Such as two fields of one name.
        raise ConvertError(f"{source}: cloud cannot be read: {error}") from error


def _check_cloud(message: Any, source: str) -> None:
    """Sizes that contradict each other must not become reads beyond the data."""
    width, height, step, row = message.width, message.height, message.point_step, message.row_step
    sizes = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 8: 8}
    for field in message.fields:
        size = sizes.get(field.datatype)
        if size is None or field.offset + size * max(field.count, 1) > step:
            raise ConvertError(
                f"{source}: field {field.name!r} (datatype {field.datatype}, offset "
                f"{field.offset}, count {field.count}) does not fit a point of {step} bytes"
            )
    if (height > 1 and row < width * step) or len(message.data) < _bytes_needed(message):
        raise ConvertError(
            f"{source}: {width} x {height} points of {step} bytes in rows of {row} need "
            f"{_bytes_needed(message)} bytes, got {len(message.data)}"
        )
    columns = sum(field.count for field in message.fields)
    if columns > _MOST_COLUMNS:
        raise ConvertError(
            f"{source}: {columns} numbers in a point; expected at most {_MOST_COLUMNS}"
        )


def _bytes_needed(message: Any) -> int:
    packed = message.width * message.point_step
    return (max(message.height, 1) - 1) * message.row_step + packed if message.height else 0


def _matrix(position: Any, orientation: Any) -> NDArray[np.float64]:
    """A pose of messages' vectors. Raises ConvertError when it is none."""
    try:
        return geometry.pose(
            [position.x, position.y, position.z],
            [orientation.w, orientation.x, orientation.y, orientation.z],
        )
    except geometry.GeometryError as error:
        raise ConvertError(f"not a pose: {error}") from error
