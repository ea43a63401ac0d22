"""The real node with a network that remembers: a drive, and the same one after it."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import ros_rig
import torch
from model_tiny import TINY, roughen

pytest.importorskip("rclpy")

import node_rig
import rclpy
from node_rig import START, stamp_of
from offline_node import offline

from crkd_core.config import TemporalConfig
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import save_weights
from crkd_ros.convert import arrays, ros_packages
from crkd_ros.node.detector_node import DetectorNode

#: Three turns of the cameras.
MEMORY = TemporalConfig(frames=2, interval=0.25, tolerance=0.2)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "remembers.safetensors"
    save_weights(roughen(build_detector(dataclasses.replace(TINY, temporal=MEMORY))), path)
    return path


@pytest.fixture
def bench(weights, tmp_path):
    made = node_rig.Bench(
        tmp_path,
        weights=str(weights),
        score_threshold=0.05,
        health={"period": 0.2},
        # Frames wait for all of their messages, however busy the machine is.
        sync={"wait": 5.0},
        motion={"source": "odom"},
    )
    made.peer.advertise(drive(0.1))
    made.fresh()
    made.wait(made.peer.matched)
    made.hear()
    yield made
    made.close()


EARLIER = 100_000_000_000


def drive(seconds: float):
    return ros_rig.drive(ros_packages.make, START, seconds)


def ended(events):
    """Those of the first seven turns of the cameras."""
    return [event for event in events if stamp_of(event[1]) < START + 620_000_000]


def moved(message, by_ns: int):
    """The same message at another time."""
    message = copy.deepcopy(message)
    stamp = arrays.stamp_fields(stamp_of(message) + by_ns)
    message.header.stamp.sec, message.header.stamp.nanosec = stamp["sec"], stamp["nanosec"]
    return message


def answers(bench, references) -> list:
    """What the node said of these frames, in their order, since the last call."""
    told = {
        stamp_of(cloud): arrays.boxes_from_cloud(cloud, NUSCENES_CLASSES) for cloud in bench.boxes
    }
    bench.boxes.clear()
    return [told[reference] for reference in references]


def alike(ours, theirs) -> bool:
    return len(ours) == len(theirs) and np.allclose(ours.center, theirs.center, atol=1e-3)


@pytest.mark.parametrize("source", ["none", "odom"])
def test_that_nothing_is_remembered_without_a_pose_is_told(weights, tmp_path, source):
    ros_rig.calibration().save(tmp_path / "calibration.yaml")
    values = {"weights": weights, "calibration_file": tmp_path / "calibration.yaml"}
    words = [f"{name}:={value}" for name, value in {**values, "motion.source": source}.items()]
    rclpy.init(args=["--ros-args", *(part for one in words for part in ("-p", one))])
    node = DetectorNode()
    try:
        assert node.trigger_configure().name == "SUCCESS"
        told = node._reporter.take().problems
        assert list(told) == ["memory"] * (source == "none")
        assert all("set motion.source" in text for _, text in told.values())
        node.trigger_cleanup()
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def test_a_drive_is_remembered_as_offline_and_forgotten_when_it_begins_again(bench, weights):
    # It ends with a set of images that is complete but for its anchor: nothing waits for more.
    events = ended(drive(0.79))
    references = bench.play(events)
    expected = offline(events, weights)
    assert references == [*expected] and len(references) == 7
    for reference, found in zip(references, answers(bench, references), strict=True):
        assert alike(found, expected[reference]), f"{(reference - START) / 1e9:.3f} s"

    # The past does show: the same messages, heard from later on, mean other boxes.
    later = [event for event in events if stamp_of(event[1]) >= references[-3]]
    fresh = offline(later, weights)
    assert not alike(fresh[references[-1]], expected[references[-1]])

    # The drive once more, a minute and a half before: nothing of the first time is left.
    earlier = [(topic, moved(message, -EARLIER)) for topic, message in events]
    references = bench.play(earlier)
    expected = offline(earlier, weights)
    assert len(references) == 7
    for reference, found in zip(references, answers(bench, references), strict=True):
        assert alike(found, expected[reference])
