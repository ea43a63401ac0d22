"""Odometry read from its bytes, against rclpy."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crkd_ros.convert import arrays, cdr
from crkd_ros.convert.arrays import ConvertError

rclpy = pytest.importorskip("rclpy")
from geometry_msgs.msg import Point, Quaternion, Vector3  # noqa: E402
from nav_msgs.msg import Odometry  # noqa: E402
from rclpy.serialization import serialize_message  # noqa: E402

NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


def message(frame="odom", child="base_link", numbers=range(13), stamp=(5, 6)) -> Odometry:
    n = [float(number) for number in numbers]
    made = Odometry(child_frame_id=child)
    made.header.frame_id = frame
    made.header.stamp.sec, made.header.stamp.nanosec = stamp
    made.pose.pose.position = Point(x=n[0], y=n[1], z=n[2])
    made.pose.pose.orientation = Quaternion(x=n[3], y=n[4], z=n[5], w=n[6])
    made.twist.twist.linear = Vector3(x=n[7], y=n[8], z=n[9])
    made.twist.twist.angular = Vector3(x=n[10], y=n[11], z=n[12])
    made.pose.covariance = np.arange(36.0)
    return made


def content(odometry) -> tuple:
    pose, twist = odometry.pose.pose, odometry.twist.twist
    vectors = pose.position, twist.linear, twist.angular
    numbers = [getattr(v, axis) for v in vectors for axis in "xyz"]
    numbers += [getattr(pose.orientation, axis) for axis in "xyzw"]
    stamp = odometry.header.stamp
    names = odometry.header.frame_id, odometry.child_frame_id
    return stamp.sec, stamp.nanosec, *names, struct.pack("13d", *numbers)


@given(
    NAMES,
    NAMES,
    st.lists(NUMBERS, min_size=13, max_size=13),
    st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1)),
)
def test_every_message_reads_as_by_rclpy(frame, child, numbers, stamp):
    made = message(frame, child, numbers, stamp)
    assert content(cdr.odometry(serialize_message(made))) == content(made)


def test_what_uses_a_message_takes_it():
    read = cdr.odometry(serialize_message(message(numbers=[1, 2, 3, 0, 0, 0.6, 0.8, *range(6)])))
    assert isinstance(read, cdr.OdometryMessage), "not by rclpy"
    pose = arrays.odometry_pose(read)
    np.testing.assert_allclose(pose[:3, 3], [1, 2, 3])
    np.testing.assert_allclose(pose[:2, 0], [0.28, 0.96])
    np.testing.assert_array_equal(arrays.odometry_twist(read), range(6))
    assert arrays.stamp_ns(read.header.stamp) == 5_000_000_006


def test_the_other_byte_order():
    frame, child = b"map\0", b"rear_axle\0"
    data = struct.pack(">iII4sI10s", 7, 8, len(frame), frame, len(child), child)
    data += bytes(-len(data) % 8) + struct.pack(">7d288x6d288x", *range(13))
    read = cdr.odometry(b"\0\0\0\0" + data)
    assert content(read) == content(message("map", "rear_axle", range(13), (7, 8)))


def test_bytes_that_are_none_are_refused():
    whole = serialize_message(message())
    for cut in range(len(whole) - 4):  # What a serialiser adds behind the end is at most 3 bytes.
        with pytest.raises(ConvertError, match="hold no message"):
            cdr.odometry(whole[:cut])
    endless = bytearray(whole)
    endless[12:16] = b"\xff\xff\xff\xff"  # Length of the first text.
    with pytest.raises(ConvertError, match="hold no message"):
        cdr.odometry(bytes(endless))


@given(st.binary(max_size=900))
def test_noise_is_read_or_refused(data):
    for head in (b"\0\1\0\0", b"\0\0\0\0"):
        try:
            cdr.odometry(head + data)
        except ConvertError:
            continue
