"""What the ROS graph tells of publishers that cannot be heard."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("rclpy")

import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from crkd_ros.convert.ros_packages import message_class
from crkd_ros.node.topic_status import topic_status
from crkd_ros.sensors.health import TopicStatus

IMAGE, INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
RELIABLE = QoSProfile(depth=5)
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=5, durability=DurabilityPolicy.TRANSIENT_LOCAL)
LIMIT = 60.0


@pytest.fixture
def graph():
    """(a function that looks at /t, a function that publishes /t) of two nodes."""
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    driver = rclpy.create_node("driver", context=context)
    exchange = ["--ros-args", "-r", "/left:=/right", "-r", "/right:=/left"]
    detector = rclpy.create_node("detector", context=context, cli_args=exchange)

    def look(profile, *, publishers, kind=IMAGE, topic="/t", other="", hindered=None):
        deadline = time.monotonic() + LIMIT
        while True:
            found = topic_status(
                detector, topic=topic, type_name=kind, profile=profile, other=other
            )
            known = hindered is None or bool(found.obstacle) == hindered
            if found.publishers == publishers and known:
                return found
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def advertise(profile, kind=IMAGE, topic="/t"):
        driver.create_publisher(message_class(kind), topic, profile)

    yield look, advertise
    detector.destroy_node()
    driver.destroy_node()
    rclpy.shutdown(context=context)


def test_policies_that_differ_are_named_and_the_way_out_too(graph):
    look, advertise = graph
    assert look(RELIABLE, publishers=0) == TopicStatus(publishers=0)
    advertise(BEST_EFFORT)
    assert look(BEST_EFFORT, publishers=1) == TopicStatus(publishers=1)
    found = look(RELIABLE, publishers=1)
    assert "QoS mismatch: Best effort publisher and reliable subscription" in found.obstacle
    assert "qos_overrides./t.subscription.*" in found.obstacle
    assert "driver" in found.obstacle
    assert "transient local" in look(LATCHED, publishers=1).obstacle.lower()
    # One that can be heard is enough.
    advertise(RELIABLE)
    assert look(RELIABLE, publishers=2) == TopicStatus(publishers=2)


def test_another_type_is_named(graph):
    look, advertise = graph
    advertise(BEST_EFFORT, INFO)
    found = look(BEST_EFFORT, publishers=1)
    assert found.obstacle == f"published as {INFO}, not {IMAGE}"


def test_sensors_that_exchange_their_topics_are_looked_up_where_they_are(graph):
    look, advertise = graph
    advertise(BEST_EFFORT, topic="/right")
    found = look(RELIABLE, publishers=1, topic="/left")
    assert "set qos_overrides./right.subscription.*" in found.obstacle
    assert look(RELIABLE, publishers=0, topic="/right") == TopicStatus(publishers=0)


def test_a_camera_whose_images_are_of_the_other_transport_is_told_where_they_are(graph):
    look, advertise = graph
    for name in ("", "/none", "no name?"):
        assert look(BEST_EFFORT, publishers=0, other=name) == TopicStatus(publishers=0)
    # Its driver sends the other kind, on its own topic: a remapping will not help.
    advertise(BEST_EFFORT, COMPRESSED, topic="/right")
    found = look(BEST_EFFORT, publishers=0, other="/left", hindered=True)
    told = f"/right is published, as {COMPRESSED}; image_transport is one for all cameras: change"
    assert found.obstacle.startswith(told) and "image_transport republish" in found.obstacle
    # Or it was remapped all the same.
    advertise(BEST_EFFORT, COMPRESSED)
    found = look(BEST_EFFORT, publishers=1, other="/left")
    assert found.obstacle.startswith(f"published as {COMPRESSED}, not {IMAGE}; image_transport is")


def test_what_was_sent_before_and_is_not_asked_for_is_told(graph):
    look, advertise = graph
    advertise(LATCHED)
    assert look(RELIABLE, publishers=1) == TopicStatus(publishers=1, latched=True)
    assert look(LATCHED, publishers=1) == TopicStatus(publishers=1)
    # Best-effort subscriptions are given nothing of it, whatever durability they ask for.
    asked = QoSProfile(
        depth=5,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
        reliability=ReliabilityPolicy.BEST_EFFORT,
    )
    assert look(asked, publishers=1).latched
