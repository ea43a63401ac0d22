"""Markers written as bytes are the messages."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest

from crkd_core.boxes import Detections, Tracked

pytest.importorskip("rclpy")

from rclpy.serialization import deserialize_message, serialize_message

from crkd_ros.convert import ros_packages
from crkd_ros.convert.marker_bytes import agrees, marker_bytes
from crkd_ros.convert.markers import MarkersConfig, marker_array

KIND = ros_packages.message_class("visualization_msgs/msg/MarkerArray")
read = functools.partial(deserialize_message, message_type=KIND)
plain = functools.partial(marker_array, make=ros_packages.make)


def some(count: int, *, seed: int = 0) -> Detections:
    rng = np.random.default_rng(seed)
    return Detections(
        center=rng.normal(0, 30, (count, 3)),
        size=rng.uniform(0.3, 9, (count, 3)),
        yaw=rng.uniform(-3, 3, count),
        velocity=rng.normal(0, 1, (count, 2)),
        label=rng.integers(0, 4, count),
        score=rng.uniform(0, 1, count),
        classes=("car", "bus", "pedestrian", "traffic_cone"),
    )


def assert_same(found: Detections, **told) -> None:
    """Bytes between the fields are undefined, all others must be the same."""
    ours, theirs = marker_bytes(found, **told), serialize_message(plain(found, **told))
    assert len(ours) == len(theirs)
    assert read(ours) == read(theirs)


@pytest.mark.parametrize("frame", ["", "a", "map", "base", "base_link", "väg"])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_bytes_are_those_of_the_messages(count, frame):
    assert_same(some(count), stamp_ns=1_700_000_000_123_456_789, frame_id=frame)


def test_ids_unknown_speeds_and_settings():
    boxes = some(20)
    velocity = boxes.velocity.copy()
    velocity[3] = np.nan
    numbers = np.arange(20) * 97 % 11
    tracked = Tracked(
        **{f.name: getattr(boxes, f.name) for f in dataclasses.fields(boxes)}, id=numbers
    )
    for found in (tracked, dataclasses.replace(boxes, velocity=velocity)):
        for config in (
            MarkersConfig(labels=False, lifetime=1.25, alpha=0.7),
            MarkersConfig(boxes=False),
            MarkersConfig(velocity=False, labels=False, boxes=False),
        ):
            assert_same(found, stamp_ns=5, config=config)


def test_other_definitions_are_noticed():
    assert agrees(plain, serialize_message, read)
    assert not agrees(plain, lambda message: serialize_message(message) + b"\0", read)
    assert not agrees(lambda *_, **__: 1 / 0, serialize_message, read)
