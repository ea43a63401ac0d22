"""Frames of a bag whose cameras are raw and distorted and whose radars are of another maker."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bag_frames import frames_of_bag
from camera_messages import K
from model_tiny import TINY
from other_sensors import CAMERA, FIELDS, RADAR, START, STEP, image, info, write_bag
from watched import Watched

from crkd_core.config import ImageConfig
from crkd_core.model.build import build_detector
from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.bags.frames import BagProblem
from crkd_ros.bags.replay import replay
from crkd_ros.convert.camera_model import CameraModel, CamerasConfig
from crkd_ros.convert.images import image_rgb
from crkd_ros.parameters.framing import FramingConfig
from crkd_ros.parameters.node import NodeConfig

NET = ImageConfig(height=64, width=176, zoom=1.0)


@pytest.fixture
def bag(tmp_path):
    return write_bag(tmp_path / "bag")


def test_raw_images_are_straightened_and_standing_returns_stand(bag):
    found = list(
        frames_of_bag(bag, image=NET, framing=FramingConfig(radar_fields=FIELDS), problems=[])
    )
    # At the first pose no speed is known: that frame is dropped or not.
    found = [frame for frame in found if frame.stamp_ns > START]
    assert [frame.stamp_ns for frame in found] == [START + i * STEP for i in (1, 2, 3)]
    camera = CameraModel.of_info(info(), rectified=False)
    pixels, matrix = camera.prepare(image_rgb(image()), NET)
    for frame in found:
        index = CAMERAS.index(CAMERA)
        np.testing.assert_array_equal(frame.images[index], pixels)
        np.testing.assert_allclose(frame.intrinsics[index], matrix)
        assert frame.radar_present[RADARS.index(RADAR)]
        # The vehicle makes 8 m/s and turns; what is left comes from the poses in between.
        assert len(frame.radar) >= 60
        assert np.abs(frame.radar[:, 8:10]).max() < 0.3
    # Pixels of a straight line through space lie on a line: K of half the sensor, cut by 2 rows.
    np.testing.assert_allclose(np.array(camera.matrix)[:2, 2], [K[0, 2] / 2, (K[1, 2] - 2) / 2])


def test_what_the_parameters_say_wins_over_the_topics_name(bag):
    reasons: list[BagProblem] = []
    always = CamerasConfig(rectified="always")
    list(
        frames_of_bag(
            bag,
            image=NET,
            framing=FramingConfig(radar_fields=FIELDS, cameras=always),
            problems=reasons,
        )
    )
    assert any("d is not zero and p is empty" in problem.reason for problem in reasons)


def test_a_radar_of_another_maker_needs_the_parameters(bag):
    reasons: list[BagProblem] = []
    list(frames_of_bag(bag, image=NET, problems=reasons))
    (text,) = {problem.reason for problem in reasons}
    assert "lacks rcs, vx_comp, vy_comp; found Doppler, RCS, x, y" in text


def test_replay_follows_the_nodes_parameters(bag, tmp_path):
    torch.manual_seed(0)
    detector = Watched(build_detector(TINY), score_threshold=0.05)
    config = NodeConfig(radar_fields=FIELDS)
    report = replay(bag, detector, tmp_path / "out", framing=config)
    assert report.frames == len(detector.seen) >= 3
    assert all(len(frame.radar) for frame in detector.seen)
    replay(bag, detector, tmp_path / "other")
    assert not detector.seen[-1].radar_present.any()
