"""Odometry from its bytes (OMG CDR): it comes a hundred times a second and more.

rclpy makes some twenty Python objects of every nav_msgs/Odometry, with 72 covariances that nobody
reads. What is read has the names that it has there.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from crkd_ros.convert.arrays import ConvertError
from crkd_ros.convert.ros_packages import message_class

#: Second byte of the encapsulation -> byte order. Others (parameter lists, XCDR2) rclpy reads.
_ORDERS = {0: ">", 1: "<"}
#: Alignment is counted from behind the encapsulation.
_ORIGIN = 4
#: Pose, covariance, twist, covariance.
_NUMBERS = "7d 288x 6d 288x"


class Stamp(NamedTuple):
    """As builtin_interfaces/Time."""

    sec: int
    nanosec: int


class Header(NamedTuple):
    """As std_msgs/Header."""

    stamp: Stamp
    frame_id: str


class Vector(NamedTuple):
    """As geometry_msgs/Vector3 and Point."""

    x: float
    y: float
    z: float


class Quaternion(NamedTuple):
    """As geometry_msgs/Quaternion."""

    x: float
    y: float
    z: float
    w: float


class Pose(NamedTuple):
    """As geometry_msgs/Pose."""

    position: Vector
    orientation: Quaternion


class PoseKnown(NamedTuple):
    """As geometry_msgs/PoseWithCovariance, without that."""

    pose: Pose


class Twist(NamedTuple):
    """As geometry_msgs/Twist."""

    linear: Vector
    angular: Vector


class TwistKnown(NamedTuple):
    """As geometry_msgs/TwistWithCovariance, without that."""

    twist: Twist


class OdometryMessage(NamedTuple):
    """As nav_msgs/Odometry, without covariances."""

    header: Header
    child_frame_id: str
    pose: PoseKnown
    twist: TwistKnown


def odometry(data: bytes) -> Any:
    """A serialised nav_msgs/Odometry; an OdometryMessage, where its encoding is plain CDR.

    Raises:
        ConvertError: malformed bytes.
    """
    if len(data) < _ORIGIN or data[0] != 0 or data[1] not in _ORDERS:
        return _by_rclpy(data)
    order = _ORDERS[data[1]]
    try:
        stamp = Stamp(*struct.unpack_from(f"{order}iI", data, _ORIGIN))
        frame, place = _text(data, _ORIGIN + 8, order)
        child, place = _text(data, place, order)
        n = struct.unpack_from(order + _NUMBERS, data, _aligned(place, 8))
    except (struct.error, UnicodeDecodeError) as error:
        raise ConvertError(f"odometry: {len(data)} bytes that hold no message: {error}") from error
    return OdometryMessage(
        Header(stamp, frame),
        child,
        PoseKnown(Pose(Vector(*n[:3]), Quaternion(*n[3:7]))),
        TwistKnown(Twist(Vector(*n[7:10]), Vector(*n[10:13]))),
    )


def _by_rclpy(data: bytes) -> Any:
    from rclpy.serialization import deserialize_message

    try:
        return deserialize_message(data, message_class("nav_msgs/msg/Odometry"))
    except Exception as error:
        raise ConvertError(f"odometry: {len(data)} bytes that hold no message: {error}") from error


def _text(data: bytes, place: int, order: str) -> tuple[str, int]:
    """A string at or after ``place``, and where it ends."""
    place = _aligned(place, 4)
    (length,) = struct.unpack_from(f"{order}I", data, place)
    end = place + 4 + length
    if end > len(data):
        raise struct.error(f"a text of {length} bytes")
    return data[place + 4 : end].rstrip(b"\0").decode(), end


def _aligned(place: int, size: int) -> int:
    return place + (_ORIGIN - place) % size
