"""Radar columns, images, augmentation and submissions as the released code makes them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from golden import Vectors, check, needs_golden
from official_models import RELEASED_CLASSES, our_boxes, our_yaw

from crkd_core import geometry
from crkd_core.boxes import Detections, Truth
from crkd_core.config import ImageConfig
from crkd_core.data import radar
from crkd_core.data.cameras import prepare_image
from crkd_core.data.crop import Placement
from crkd_core.data.nuscenes.classes import NUSCENES_ATTRIBUTES, NUSCENES_CLASSES
from crkd_core.evaluate.submission import make_submission
from crkd_core.frame import Frame
from crkd_core.sensors import CAMERAS

pytestmark = needs_golden


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return Vectors("data")


def sweeps(vectors: Vectors, number: int, limit: int) -> list[radar.RadarSweep]:
    """The first sweeps of a radar, newest first, with poses to the key frame's LIDAR_TOP."""
    found = []
    for index in range(limit):
        name = f"radar{number}.sweep{index}"
        if f"{name}.raw" not in vectors:
            break
        pose = np.eye(4)
        pose[:3, :3] = vectors[f"{name}.sensor2lidar_rotation"]
        pose[:3, 3] = vectors[f"{name}.sensor2lidar_translation"]
        found.append(
            radar.RadarSweep(
                stamp_ns=int(vectors[f"{name}.timestamp_us"]) * 1000,
                sensor=number,
                points=vectors[f"{name}.raw"],
                ego_T_radar=pose,
            )
        )
    return found


def test_radar_columns(vectors: Vectors) -> None:
    # Ages there count from each radar's newest sweep, so that is the reference here.
    clouds = []
    for number in range(5):
        own = sweeps(vectors, number, 6)
        if own:
            clouds.append(radar.accumulate(own, max(s.stamp_ns for s in own)))
    cloud = np.concatenate(clouds)
    rows = radar.encode(cloud)
    expected = vectors["radar.rows45"]
    assert rows.shape == expected.shape
    np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=2e-5)
    # All of theirs: our columns up to the age, the codes, and the devkit's filter, used by nobody.
    everything = vectors["radar.all58"]
    np.testing.assert_allclose(cloud[:, :19], everything[:, :19], rtol=1e-5, atol=2e-5)
    np.testing.assert_array_equal(rows[:, 7:], everything[:, 19:57])
    # Theirs drops points beyond 55 m beforehand; the pillars drop those beyond 54 m anyway.
    near = (np.abs(rows[:, :2]) < 55).all(1)
    np.testing.assert_allclose(rows[near], vectors["radar.rows45_cropped"], rtol=1e-5, atol=2e-5)


def test_sweeps_agree_with_their_parts(vectors: Vectors) -> None:
    """The stored rotation is that of the chain over ego poses, which our reader walks."""
    key = geometry.pose(
        vectors["key_ego2global_translation"], vectors["key_ego2global_rotation_wxyz"]
    )
    lidar = geometry.pose(vectors["lidar2ego_translation"], vectors["lidar2ego_rotation_wxyz"])
    for number in range(5):
        for index, sweep in enumerate(sweeps(vectors, number, 7)):
            name = f"radar{number}.sweep{index}"
            sensor = geometry.pose(
                vectors[f"{name}.sensor2ego_translation"],
                vectors[f"{name}.sensor2ego_rotation_wxyz"],
            )
            ego = geometry.pose(
                vectors[f"{name}.ego2global_translation"],
                vectors[f"{name}.ego2global_rotation_wxyz"],
            )
            chain = geometry.invert(key @ lidar) @ ego @ sensor
            np.testing.assert_allclose(sweep.ego_T_radar, chain, atol=1e-6)


def source_image(vectors: Vectors) -> np.ndarray:
    y, x = np.mgrid[:900, :1600]
    phase = int(vectors["image.phase"])
    channels = []
    for c in range(3):
        t = ((x * (2 + c) + y * (3 - c) + (x * y) // 400 + 40 * c + phase) // 3) % 511
        channels.append(np.where(t <= 255, t, 510 - t))
    image = np.stack(channels, -1).astype(np.uint8)
    assert image.sum(dtype=np.int64) == int(vectors["image.source_checksum"])
    return image


def test_image_pixels_and_matrix(vectors: Vectors) -> None:
    config = ImageConfig(resize="released")
    image = source_image(vectors)
    prepared, matrix = prepare_image(image, np.eye(3), config)
    stored = vectors["image.test_pixels_strided"]
    gap = np.abs(prepared[::5, ::7].astype(int) - stored)
    assert gap.max() <= 1
    expected = vectors["image.test_matrix"].astype(np.float64)
    np.testing.assert_allclose(matrix[:2, :2], expected[:2, :2], rtol=1e-6)
    np.testing.assert_allclose(matrix[:2, 2], expected[:2, 3], rtol=1e-6)
    normal = (prepared / 255 - config.mean) / config.std
    # One level is 1 / (255 * 0.224).
    check(
        np.ascontiguousarray(normal.transpose(2, 0, 1)).astype(np.float32),
        vectors,
        "image.test_normalized",
        tolerance=1.01 / (255 * 0.224) / 2.1,
    )


def test_our_own_placement_differs_by_the_half_pixel_only(vectors: Vectors) -> None:
    ours = Placement.of(1600, 900, ImageConfig()).matrix(1600, 900)
    theirs = Placement.of(1600, 900, ImageConfig(resize="released")).matrix(1600, 900)
    np.testing.assert_allclose(ours[:2, :2], theirs[:2, :2])
    np.testing.assert_allclose(ours[:2, 2] - theirs[:2, 2], 0.5 * (0.48 - 1))


def frame_of(boxes: np.ndarray, points: np.ndarray) -> Frame:
    """Boxes with bottom centres and LiDAR points [N, 5] as a Frame in the grid frame."""
    count = len(boxes)
    found = our_boxes(boxes, np.ones(count), np.zeros(count))
    plain = {
        f.name: getattr(found, f.name) for f in dataclasses.fields(found) if f.name != "score"
    }
    return Frame(
        stamp_ns=0,
        images=(None,) * len(CAMERAS),
        intrinsics=np.tile(np.eye(3), (6, 1, 1)),
        ego_T_cam=np.tile(np.eye(4), (6, 1, 1)),
        radar=np.zeros((0, 20), np.float32),
        lidar=points,
        truth=Truth(
            **plain,
            attribute=np.zeros(count, np.int64),
            num_lidar_points=np.ones(count, np.int64),
            num_radar_points=np.ones(count, np.int64),
        ),
    )


@pytest.mark.parametrize(
    "name", ["global", "flip_h0_v0", "flip_h0_v1", "flip_h1_v0", "flip_h1_v1"]
)
def test_ground_augmentation(vectors: Vectors, name: str) -> None:
    matrix = vectors[f"aug.{name}.matrix"].astype(np.float64)
    points = vectors[f"aug.{name}.points"]
    frame = frame_of(vectors["aug.boxes"], vectors["aug.points"][: len(points)]).moved(matrix)
    assert frame.lidar is not None and frame.truth is not None
    np.testing.assert_allclose(frame.lidar, points, rtol=1e-5, atol=1e-4)
    boxes = vectors[f"aug.{name}.boxes"]
    expected = our_boxes(boxes, np.ones(len(boxes)), np.zeros(len(boxes)))
    np.testing.assert_allclose(frame.truth.center, expected.center, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(frame.truth.size, expected.size, rtol=1e-5)
    np.testing.assert_allclose(frame.truth.velocity, expected.velocity, rtol=1e-4, atol=1e-4)
    turn = geometry.wrap_angle(frame.truth.yaw - expected.yaw)
    np.testing.assert_allclose(turn, 0, atol=1e-4)


def test_submission(vectors: Vectors) -> None:
    found = our_boxes(vectors["export.boxes"], vectors["export.scores"], vectors["export.labels"])
    key = geometry.pose(
        vectors["key_ego2global_translation"], vectors["key_ego2global_rotation_wxyz"]
    )
    lidar = geometry.pose(vectors["lidar2ego_translation"], vectors["lidar2ego_rotation_wxyz"])
    answers = [("token", key, found.transformed(lidar))]
    made = make_submission(answers, classes=NUSCENES_CLASSES, only_in_range=True).boxes
    expected = vectors["export.out_translation"]
    assert len(made) == len(expected)
    names = [NUSCENES_CLASSES[label] for label in made.label]
    for index in range(len(expected)):
        gap = np.linalg.norm(made.center - expected[index], axis=1)
        match = int(gap.argmin())
        # The tilt of the sensor turns sizes and velocities by fractions of a degree.
        assert gap[match] < 1e-3
        assert names[match] == vectors["export.out_name"][index]
        np.testing.assert_allclose(
            geometry.lwh_to_wlh(made.size[match]), vectors["export.out_size"][index], rtol=1e-5
        )
        np.testing.assert_allclose(made.score[match], vectors["export.out_score"][index])
        velocity = vectors["export.out_velocity"][index]
        np.testing.assert_allclose(made.velocity[match], velocity, rtol=2e-3, atol=2e-3)
        turn = geometry.quat_wxyz_to_matrix(vectors["export.out_rotation"][index])
        heading = np.arctan2(turn[1, 0], turn[0, 0])
        assert abs(float(geometry.wrap_angle(made.yaw[match] - heading))) < 2e-3
        attribute = made.attribute[match]
        name = "" if attribute < 0 else NUSCENES_ATTRIBUTES[attribute]
        assert name == vectors["export.out_attribute"][index]


def test_class_lists_hold_the_same_names() -> None:
    assert set(RELEASED_CLASSES) == set(NUSCENES_CLASSES)
    yaw = np.linspace(-3, 3, 7)
    np.testing.assert_allclose(our_yaw(our_yaw(yaw)), yaw)
    assert isinstance(our_boxes(np.ones((1, 9)), np.ones(1), np.zeros(1)), Detections)
