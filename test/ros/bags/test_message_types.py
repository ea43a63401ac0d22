"""The message factory: defaults, what it takes, equality with rclpy's, errors."""

from __future__ import annotations

import numpy as np
import pytest

from crkd_ros.bags import message_types
from crkd_ros.bags.message_types import BagError, deserialize, make, serialize


def test_make_fills_every_field_with_its_ros_default() -> None:
    marker = make("visualization_msgs/msg/Marker", ns="boxes", id=3)
    again = deserialize(serialize(marker), "visualization_msgs/msg/Marker")
    assert (again.ns, again.id, again.text) == ("boxes", 3, "")
    assert again.pose.orientation.w == 1.0
    assert again.points == []
    info = make("sensor_msgs/msg/CameraInfo")
    assert info.k.shape == (9,) and info.d.shape == (0,)


def test_make_agrees_with_rclpy_byte_for_byte() -> None:
    rclpy_serialization = pytest.importorskip("rclpy.serialization")
    from crkd_ros.convert import ros_packages

    def build(factory):
        stamp = factory("builtin_interfaces/msg/Time", sec=7, nanosec=9)
        header = factory("std_msgs/msg/Header", stamp=stamp, frame_id="base_link")
        return [
            factory("nav_msgs/msg/Odometry", header=header, child_frame_id="base_link"),
            factory("visualization_msgs/msg/Marker", header=header, text="car", id=-1),
            factory("sensor_msgs/msg/CameraInfo", header=header, k=np.arange(9.0)),
            factory(
                "sensor_msgs/msg/PointCloud2",
                header=header,
                fields=[factory("sensor_msgs/msg/PointField", name="x", datatype=7, count=1)],
                data=np.arange(8, dtype=np.uint8),
            ),
        ]

    for ours, theirs in zip(build(make), build(ros_packages.make), strict=True):
        data = rclpy_serialization.serialize_message(theirs)
        # Padding bytes are undefined on their side, so both are written by one side.
        assert serialize(deserialize(data, ours.__msgtype__)) == serialize(ours)


def test_make_takes_numbers_as_bytes_lists_and_arrays() -> None:
    for data in (b"\x01\x02", [1, 2], np.array([1, 2]), memoryview(b"\x01\x02")):
        image = make("sensor_msgs/msg/CompressedImage", data=data)
        again = deserialize(serialize(image), "sensor_msgs/msg/CompressedImage")
        assert again.data.tolist() == [1, 2]


def test_vision_msgs_are_known_with_their_official_hash() -> None:
    found = make("vision_msgs/msg/Detection3DArray")
    assert deserialize(serialize(found), "vision_msgs/msg/Detection3DArray").detections == []
    names = [
        n for n, _ in message_types.typestore().get_msgdef("vision_msgs/msg/Detection3D").fields
    ]
    assert names == ["header", "results", "bbox", "id"]


def test_unknown_types_and_fields_are_named() -> None:
    with pytest.raises(BagError, match=r"unknown message type 'std_msgs/msg/Hat'"):
        make("std_msgs/msg/Hat")
    with pytest.raises(BagError, match=r"has no field stampp; it has stamp, frame_id"):
        make("std_msgs/msg/Header", stampp=1)
    with pytest.raises(BagError, match=r"3 bytes are no std_msgs/msg/Header"):
        deserialize(b"abc", "std_msgs/msg/Header")
