"""Frames of a bag whose cameras are raw and distorted and whose radars are of another maker."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import ros_rig
import torch
from model_tiny import TINY
from test_camera_model import LENSES, K, camera_info
from test_images import mosaic, raw

from crkd_core import geometry
from crkd_core.config import ImageConfig
from crkd_core.frame import Frame
from crkd_core.infer.detector import Detector
from crkd_core.model.build import build_detector
from crkd_core.sensors import ANCHOR_CAMERA, CAMERAS, RADARS
from crkd_ros.bags.files import BagWriter
from crkd_ros.bags.frames import BagProblem, frames_of_bag
from crkd_ros.bags.message_types import make
from crkd_ros.bags.replay import replay
from crkd_ros.convert.arrays import stamp_ns
from crkd_ros.convert.camera_model import CameraModel, CamerasConfig
from crkd_ros.convert.images import image_rgb
from crkd_ros.convert.radar_clouds import RadarFieldsConfig
from crkd_ros.parameters.node import NodeConfig

START = 1_700_000_010_000_000_000
STEP = 100_000_000
CAMERA, RADAR = ANCHOR_CAMERA, "RADAR_FRONT"
IMAGES = f"/{CAMERA.lower()}/image_raw"
NET = ImageConfig(height=64, width=176, zoom=1.0)


def static_transforms():
    transforms = []
    for sensor in (CAMERA, RADAR):
        pose = ros_rig.extrinsics()[sensor]
        w, x, y, z = geometry.matrix_to_quat_wxyz(pose[:3, :3])
        translation = dict(zip("xyz", map(float, pose[:3, 3]), strict=True))
        transforms.append(
            make(
                "geometry_msgs/msg/TransformStamped",
                header=ros_rig.header(make, START, "base_link"),
                child_frame_id=sensor.lower(),
                transform=make(
                    "geometry_msgs/msg/Transform",
                    translation=make("geometry_msgs/msg/Vector3", **translation),
                    rotation=make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w),
                ),
            )
        )
    return make("tf2_msgs/msg/TFMessage", transforms=transforms)


def image(make=make):
    """A Bayer image of half the sensor, in rows that are padded."""
    pixels = cv2.resize(ros_rig.pixels(5), (400, 224))
    message = raw(make, "bayer_gbrg8", mosaic(pixels, "gbrg"), width=400, padding=8)
    message.header.frame_id = CAMERA.lower()
    return message


def info(make=make):
    return camera_info(make, d=LENSES["plumb_bob"], roi=(0, 2, 800, 448), binning=(2, 2))


def cloud(stamp, make=make):
    records = np.zeros(30, [(name, ">f8") for name in ("Doppler", "y", "x", "RCS")])
    points = ros_rig.radar_points(8, count=30)
    records["x"], records["y"] = points[:, 0], points[:, 1]
    # Everything stands still: the radar's own motion is all that is seen.
    rays = points[:, :2] / np.linalg.norm(points[:, :2], axis=1, keepdims=True)
    base_T_radar = ros_rig.extrinsics()[RADAR]
    places = [ros_rig.map_T_base(at) @ base_T_radar for at in (stamp - 1_000_000, stamp)]
    moved = geometry.rotate(geometry.invert(places[1]), (places[1] - places[0])[:3, 3])
    records["Doppler"] = -(rays @ moved[:2]) / 1e-3
    return ros_rig.cloud(make, RADAR.lower(), stamp, records)


def drive(make, seconds: float):
    """(topic, message) of an odometry, a camera and a radar, all at the same stamps."""
    for stamp in range(START, START + round(seconds * 1e9), STEP):
        yield "/odom", ros_rig.odometry(make, stamp)
        for topic, message in [
            (f"/{CAMERA.lower()}/camera_info", info(make)),
            (f"/{RADAR.lower()}", cloud(stamp, make)),
            (IMAGES, image(make)),
        ]:
            message.header.stamp = ros_rig.header(make, stamp, "").stamp
            yield topic, message


@pytest.fixture
def bag(tmp_path):
    with BagWriter(tmp_path / "bag") as out:
        out.write("/tf_static", static_transforms(), START)
        for topic, message in drive(make, 0.4):
            out.write(topic, message, stamp_ns(message.header.stamp))
    return tmp_path / "bag"


FIELDS = RadarFieldsConfig(rcs="RCS", doppler="Doppler")


def test_raw_images_are_straightened_and_standing_returns_stand(bag):
    found = list(frames_of_bag(bag, image=NET, radar_fields=FIELDS, problems=[]))
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
    list(frames_of_bag(bag, image=NET, radar_fields=FIELDS, cameras=always, problems=reasons))
    assert any("d is not zero and p is empty" in problem.reason for problem in reasons)


def test_a_radar_of_another_maker_needs_the_parameters(bag):
    reasons: list[BagProblem] = []
    list(frames_of_bag(bag, image=NET, problems=reasons))
    (text,) = {problem.reason for problem in reasons}
    assert "lacks rcs, vx_comp, vy_comp; found Doppler, RCS, x, y" in text


def test_replay_follows_the_nodes_parameters(bag, tmp_path):
    torch.manual_seed(0)
    detector = Detector(build_detector(TINY), score_threshold=0.05)
    seen: list[Frame] = []

    def look(frame, _):
        seen.append(frame)

    config = NodeConfig(radar_fields=FIELDS)
    report = replay(bag, detector, tmp_path / "out", config=config, on_frame=look)
    assert report.frames == len(seen) >= 3
    assert all(len(frame.radar) for frame in seen)
    replay(bag, detector, tmp_path / "other", on_frame=look)
    assert not seen[-1].radar_present.any()
