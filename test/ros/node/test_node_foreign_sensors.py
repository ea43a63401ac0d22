"""The real node with a raw, distorted, binned Bayer camera and a Doppler radar, over DDS."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bag_frames import frames_of_bag
from model_tiny import TINY, roughen

pytest.importorskip("rclpy")

import node_rig
from other_sensors import CAMERA, FIELDS, IMAGES, RADAR, START, STEP, drive, write_bag

from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.infer.detector import Detector
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import save_weights
from crkd_ros.convert import arrays, ros_packages
from crkd_ros.parameters.framing import FramingConfig


def test_the_node_sees_what_replay_sees(tmp_path):
    bag = write_bag(tmp_path / "bag")
    torch.manual_seed(0)
    # Scores of a fresh network are equal but for rounding, and then so is which boxes are kept.
    save_weights(roughen(build_detector(TINY)), tmp_path / "weights.safetensors")
    detector = Detector.load(tmp_path / "weights.safetensors", score_threshold=0.05)
    want = {
        frame.stamp_ns: detector(frame)
        for frame in frames_of_bag(
            bag, image=TINY.image, framing=FramingConfig(radar_fields=FIELDS), problems=[]
        )
    }
    bench = node_rig.Bench(
        tmp_path,
        weights=str(tmp_path / "weights.safetensors"),
        score_threshold=0.05,
        sensors=[CAMERA, RADAR],
        image_transport="raw",
        topics={"image_raw": "<sensor>/image_raw"},
        # Those of this radar alone, as in a vehicle with radars of two makers.
        radar_fields={RADAR: {"rcs": FIELDS.rcs, "doppler": FIELDS.doppler}},
        sync={"wait": 5.0},
        health={"period": 0.2},
    )
    try:
        events = list(drive(ros_packages.make, 0.4))
        bench.peer.advertise(events)
        bench.fresh()
        bench.wait(bench.peer.matched)
        bench.hear()
        last = START + 3 * STEP
        bench.play(events, trigger=IMAGES, since_ns=START + STEP)
        bench.wait(lambda: any(node_rig.stamp_of(cloud) == last for cloud in bench.boxes))
    finally:
        bench.close()
    got = {
        node_rig.stamp_of(cloud): arrays.boxes_from_cloud(cloud, NUSCENES_CLASSES)
        for cloud in bench.boxes
    }
    assert set(got) >= {START + index * STEP for index in (1, 2, 3)}
    for stamp, found in got.items():
        assert len(found) == len(want[stamp]) > 0
        # Each box is one of replay's, and the other way round; near-equal scores may come in
        # either order.
        ours, theirs = (
            np.column_stack([boxes.center, boxes.size, boxes.velocity, boxes.score])
            for boxes in (found, want[stamp])
        )
        apart = np.linalg.norm(ours[:, None] - theirs, axis=-1)
        same = np.argmin(apart + 1e3 * (found.label[:, None] != want[stamp].label), axis=1)
        np.testing.assert_array_equal(np.sort(same), np.arange(len(found)))
        np.testing.assert_array_equal(found.label, want[stamp].label[same])
        np.testing.assert_allclose(found.score, want[stamp].score[same], atol=1e-6)
        np.testing.assert_allclose(found.center, want[stamp].center[same], atol=1e-3)
        np.testing.assert_allclose(found.velocity, want[stamp].velocity[same], atol=1e-3)
