"""The real node, messages over DDS: detection end to end, sensors that die, garbage, time."""

from __future__ import annotations

import numpy as np
import pytest
import ros_rig
from model_tiny import saved
from scipy.optimize import linear_sum_assignment

pytest.importorskip("rclpy")

import node_rig
from node_rig import NAME, START, stamp_of
from offline_node import offline
from rclpy.qos import DurabilityPolicy, QoSProfile

from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.sensors import ANCHOR_CAMERA, CAMERAS, RADARS
from crkd_ros.convert import arrays, ros_packages

EARLIER = 100_000_000_000


def drive(seconds: float, *, start: int = START):
    return ros_rig.drive(ros_packages.make, start, seconds)


def without(events, *sensors: str, since_ns: int = 0):
    """A drive whose sensors die at a stamp."""
    gone = {sensor.lower() for sensor in sensors}
    return [
        (topic, message)
        for topic, message in events
        if topic.split("/")[1] not in gone or stamp_of(message) < since_ns
    ]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def process(weights, tmp_path_factory):
    # Dead sensors are told soon, nothing is thrown away for being weak, and no frame is dropped
    # because its odometry is still under way on a busy machine.
    bench = node_rig.Bench(
        tmp_path_factory.mktemp("node"),
        weights=str(weights),
        score_threshold=0.0,
        health={"period": 0.2},
        sync={"wait": 0.1},
        motion={"source": "none"},
    )
    bench.peer.advertise(drive(0.1))
    yield bench
    bench.close()


@pytest.fixture
def bench(process):
    """An active node that has received nothing yet, and knows that somebody listens."""
    process.back()
    process.fresh()
    process.wait(lambda: process.peer.matched("/odom"))
    process.hear()
    yield process
    process.back()


def problems(bench) -> str:
    return str(bench.peer.status("problems")[1])


def matched(found, want):
    """The same boxes in the order of others: scores may differ by rounding, and their order so."""
    apart = np.linalg.norm(found.center[:, None] - want.center, axis=-1)
    apart += found.label[:, None] != want.label
    _, order = linear_sum_assignment(apart.T)
    return found.select(order)


def test_boxes_of_a_drive_equal_those_of_the_same_messages_offline(process, weights):
    bench, peer = process, process.peer
    # Frames wait for all of their messages, however busy the machine is.
    bench.fresh(sync__wait=5.0, score_threshold=0.05, motion__source="odom")
    bench.wait(peer.matched)
    # Both parts end with sets of images that are complete but for their anchor.
    whole = drive(0.79)
    events = [event for event in whole if stamp_of(event[1]) < START + 620_000_000]

    # Nobody listens: messages are counted, and nothing is done.
    for topic, message in events[:60]:
        peer.publish(topic, message)
    for sensor in CAMERAS + RADARS:
        # All of it, or the rest would be heard together with what comes below.
        sent = sum(t.split("/")[1] == sensor.lower() and "info" not in t for t, _ in events[:60])
        bench.wait(lambda s=sensor, n=sent: peer.status(s)[1].get("received", "0") == str(n))
    assert "nobody subscribes" in peer.status("frames")[0]
    assert peer.status("CAM_FRONT")[1].get("taken", "0") == "0"

    markers = peer.listen("visualization_msgs/msg/MarkerArray", f"{NAME}/markers")
    bench.hear()
    references = bench.play(events)
    assert len(references) == 7
    boxes = bench.boxes[:]
    bench.wait(lambda: len(markers) >= len(boxes))

    # A threshold that nothing passes: arrays are empty, but they come.
    assert "unconfigured" in peer.set(device="cuda")
    assert peer.set(score_threshold=7.0)
    assert peer.set(score_threshold=0.999) == ""
    strict = bench.play(whole[len(events) :])
    assert [cloud.width for cloud in bench.boxes[len(references) :]] == [0, 0]
    bench.wait(lambda: peer.status("frames")[1].get("published") == "9")

    expected = offline(events, weights)
    assert [stamp_of(cloud) for cloud in bench.boxes] == [*references, *strict]
    assert list(expected) == references
    for cloud, array in zip(boxes, markers, strict=False):
        assert cloud.header.frame_id == "base_link"
        published, want = (
            arrays.boxes_from_cloud(cloud, NUSCENES_CLASSES),
            expected[stamp_of(cloud)],
        )
        assert len(published) == len(want) > 0
        found = matched(published, want)
        # The cloud is float32; the network is the same, but may run with another thread count.
        np.testing.assert_allclose(found.center, want.center, atol=1e-3)
        np.testing.assert_allclose(found.size, want.size, rtol=1e-4)
        np.testing.assert_allclose(found.score, want.score, atol=1e-4)
        np.testing.assert_array_equal(found.label, want.label)
        cubes = [marker for marker in array.markers if marker.ns == "boxes" and marker.action == 0]
        assert len(cubes) == len(want)
        assert stamp_of(cubes[0]) == stamp_of(cloud)
        names = [m.text.split()[0] for m in array.markers if m.ns == "labels" and m.action == 0]
        assert names == [NUSCENES_CLASSES[label] for label in published.label]
        assert (np.diff(published.score) <= 0).all()
    assert peer.status("problems")[0] == "none at present"
    assert peer.status("frames")[1]["dropped (see problems)"] == "0"
    bench.back()
    assert peer.set(sync__wait=0.1, score_threshold=0.0, motion__source="none") == ""


def test_a_camera_that_never_speaks_is_masked_and_reported(bench):
    references = bench.play(without(drive(1.3), "CAM_FRONT"))
    assert len(references) >= 14
    assert bench.answered(references)
    bench.wait(lambda: "never received" in bench.peer.status("CAM_FRONT")[0])
    assert "never received" not in bench.peer.status("CAM_BACK")[0]
    assert bench.peer.status("frames")[1]["dropped (see problems)"] == "0"


def test_a_camera_that_dies_midway_is_masked_and_reported(bench):
    events = without(drive(1.8), "CAM_FRONT", since_ns=START + 500_000_000)
    references = bench.play(events)
    assert len(references) >= 20
    assert bench.answered(references)
    bench.wait(lambda: "stale" in bench.peer.status("CAM_FRONT")[0])
    assert bench.peer.status("frames")[1]["dropped (see problems)"] == "0"


def test_without_any_radar_frames_go_on(bench):
    references = bench.play(without(drive(0.8), *RADARS))
    assert bench.answered(references)
    for radar in RADARS:
        bench.wait(lambda radar=radar: "never received" in bench.peer.status(radar)[0])


def test_without_the_anchor_another_camera_asks_for_frames(bench):
    events = without(drive(2.0), ANCHOR_CAMERA)
    # The anchor is given a second to say its first word.
    bench.play(events, trigger="/cam_back/image_rect_compressed", since_ns=START + 1_300_000_000)
    bench.wait(lambda: "never received" in bench.peer.status(ANCHOR_CAMERA)[0])


def test_with_everything_dead_diagnostics_go_on(bench):
    seen = bench.peer.reports()
    bench.wait(lambda: bench.peer.reports() > seen + 2)
    for sensor in CAMERAS + RADARS:
        assert "never received" in bench.peer.status(sensor)[0]
    assert all(sensor in bench.peer.status("inputs")[0] for sensor in CAMERAS + RADARS)


def test_a_publisher_with_another_qos_is_reported(process):
    process.peer.withdraw("/radar_front")
    process.peer.advertise(drive(0.1), best_effort=("/radar_front",))
    process.fresh()
    try:
        process.wait(lambda: process.peer.matched("/radar_front", "/odom"))
        process.wait(lambda: "QoS mismatch" in process.peer.status("RADAR_FRONT")[0])
        process.wait(lambda: "qos_overrides./radar_front.subscription" in problems(process))
        process.hear()
        references = process.play(drive(0.6))
        assert process.answered(references)
    finally:
        process.back()
        process.peer.withdraw("/radar_front")
        process.peer.advertise(drive(0.1))


def test_a_raw_camera_among_compressed_ones_is_told_where_it_is(process):
    peer, ours, raw = process.peer, "/cam_front/image_rect_compressed", "/cam_front/image_rect"
    peer.withdraw(ours)
    peer.advertise([(raw, ros_packages.make("sensor_msgs/msg/Image"))])
    process.fresh()
    try:
        told = f"never received: no publisher on {ours}; {raw} is published, as sensor_msgs/msg/Im"
        process.wait(lambda: peer.status("CAM_FRONT")[0].startswith(told))
        assert "image_transport is one for all cameras" in peer.status("CAM_FRONT")[0]
        process.wait(lambda: peer.matched(raw, "/odom"))
        process.hear()
        assert process.answered(process.play(without(drive(0.6), "CAM_FRONT")))
    finally:
        process.back()
        peer.withdraw(raw)
        peer.advertise(drive(0.1))


def test_a_camera_info_that_nobody_sends_or_that_was_sent_before_is_told(process):
    peer, topic = process.peer, "/cam_front/camera_info"
    images = [(name, message) for name, message in drive(0.6) if name != topic]
    kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    info = ros_rig.camera_info(ros_packages.make, "CAM_FRONT", START)
    nobody, once = f"no publisher on {topic}", f"{topic} may have been published once, before this"
    peer.withdraw(topic)
    driver = None
    try:
        for told in (nobody, once):
            process.fresh()
            process.wait(lambda: peer.matched("/odom"))
            process.hear()
            assert process.answered(process.play(images))
            text = f"CAM_FRONT: no CameraInfo yet, image not used; {told}"
            process.wait(
                lambda text=text: (
                    peer.status("CAM_FRONT")[1]["last no CameraInfo"][: len(text)] == text
                )
            )
            process.back()
            driver = driver or peer.node.create_publisher(type(info), topic, kept)
            driver.publish(info)
    finally:
        process.back()
        if driver is not None:
            peer.node.destroy_publisher(driver)
        peer.advertise(drive(0.1))


def test_time_that_goes_back_begins_anew(bench):
    references = bench.play(drive(0.6))
    references += bench.play(drive(0.6, start=START - EARLIER))
    assert bench.answered(references)
    assert bench.peer.status("frames")[1]["dropped (see problems)"] == "0"
