"""Networks in another frame than ego: what goes in is moved there, what comes out comes back."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from model_tiny import TINY, frame, roughen

from crkd_core import geometry
from crkd_core.config import from_dict, to_dict
from crkd_core.data.batch import collate
from crkd_core.data.grid import in_grid, since_newest
from crkd_core.infer.detector import Detector
from crkd_core.losses.targets import build_targets
from crkd_core.model.build import build_detector
from crkd_core.model.decode import decode
from crkd_core.model.output import ModelOutput
from crkd_core.sensors import RADAR_COMPENSATED, RADAR_VELOCITY

EGO_T_GRID = geometry.pose((0.9, -0.4, 1.8), geometry.yaw_to_quat_wxyz(-1.5))
MOVED = dataclasses.replace(
    TINY, ego_T_grid=tuple(tuple(float(v) for v in row) for row in EGO_T_GRID)
)


def test_identity_leaves_the_frame_alone() -> None:
    scene = frame(1)
    assert in_grid(scene, TINY) is scene


def test_configuration_survives_json() -> None:
    assert from_dict(type(MOVED), to_dict(MOVED)) == MOVED


def test_everything_moves_together() -> None:
    lidar = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    lidar[:, 4] = 0.1  # Seconds ago.
    scene = dataclasses.replace(
        frame(2),
        lidar=lidar,
        global_T_ego=geometry.pose((5, 6, 7), geometry.yaw_to_quat_wxyz(0.3)),
    )
    moved = in_grid(scene, MOVED)
    assert moved.lidar is not None and scene.lidar is not None
    assert moved.truth is not None and scene.truth is not None
    for a, b in ((moved.lidar, scene.lidar), (moved.radar, scene.radar)):
        np.testing.assert_allclose(geometry.apply(EGO_T_GRID, a[:, :3]), b[:, :3], atol=1e-5)
    for pair in (RADAR_VELOCITY, RADAR_COMPENSATED):
        back = geometry.rotate(EGO_T_GRID, moved.radar[:, pair])
        np.testing.assert_allclose(back, scene.radar[:, pair], atol=1e-6)
        assert not np.allclose(moved.radar[:, pair], scene.radar[:, pair])
    np.testing.assert_array_equal(moved.radar[:, 10:], scene.radar[:, 10:])
    np.testing.assert_allclose(EGO_T_GRID @ moved.ego_T_cam, scene.ego_T_cam, atol=1e-12)
    np.testing.assert_allclose(
        moved.global_T_ego @ geometry.invert(EGO_T_GRID), scene.global_T_ego, atol=1e-12
    )
    back = moved.truth.transformed(EGO_T_GRID)
    for name in ("center", "velocity"):
        np.testing.assert_allclose(getattr(back, name), getattr(scene.truth, name), atol=1e-12)
    np.testing.assert_allclose(geometry.wrap_angle(back.yaw - scene.truth.yaw), 0, atol=1e-12)


def test_perfect_head_maps_decode_to_the_truth_in_ego() -> None:
    config = dataclasses.replace(MOVED, head=dataclasses.replace(MOVED.head, hidden="branch"))
    scene = frame(3, boxes=12)
    batch = collate([scene], config)
    assert batch.truth[0] is not None
    shape = config.grid.shape
    tasks = []
    targets = build_targets([batch.truth[0]], config)
    for target in targets:
        code = torch.zeros(10, shape[0] * shape[1])
        code[:, target.cell] = target.code.T
        parts = code.view(1, 10, *shape).split([2, 1, 3, 2, 2], 1)
        maps = dict(zip(("reg", "height", "dim", "rot", "vel"), parts, strict=True))
        tasks.append({**maps, "heatmap": torch.where(target.heatmap == 1, 5.0, -9.0)})
    empty = torch.zeros(0)
    output = ModelOutput(
        tasks=tasks,
        camera_bev=empty,
        gated_camera=empty,
        radar_bev=empty,
        fused=empty,
        decoded=empty,
        depth_logits=empty,
    )
    found = decode(output, config)[0]
    assert scene.truth is not None and len(found) >= 3
    for index in range(len(found)):
        gap = np.linalg.norm(scene.truth.center - found.center[index], axis=1)
        match = int(gap.argmin())
        assert gap[match] < 1e-4
        assert scene.truth.label[match] == found.label[index]
        np.testing.assert_allclose(found.size[index], scene.truth.size[match], rtol=1e-5)
        np.testing.assert_allclose(found.velocity[index], scene.truth.velocity[match], atol=1e-5)
        turn = geometry.wrap_angle(found.yaw[index] - scene.truth.yaw[match])
        assert abs(float(turn)) < 1e-5


def test_detector_answers_in_ego() -> None:
    torch.manual_seed(0)
    model = roughen(build_detector(TINY)).eval()
    other = build_detector(MOVED)
    other.load_state_dict(model.state_dict())
    scene = frame(4)
    still = Detector(model, score_threshold=0.05)
    moving = Detector(other, score_threshold=0.05)
    # The unmoved network on the Frame that the moved one makes of it answers in grid axes.
    expected = still(in_grid(scene, MOVED)).transformed(EGO_T_GRID)
    found = moving(scene)
    assert len(found) > 3
    np.testing.assert_allclose(found.center, expected.center, atol=1e-9)
    np.testing.assert_allclose(found.yaw, expected.yaw, atol=1e-9)
    np.testing.assert_allclose(found.velocity, expected.velocity, atol=1e-9)


def test_center_limit_is_of_the_grid_frame() -> None:
    torch.manual_seed(0)
    model = roughen(build_detector(MOVED)).eval()
    free = Detector(model, score_threshold=0.05)(frame(5))
    head = dataclasses.replace(MOVED.head, center_limit=(9.0, 7.0, 10.0))
    model.config = dataclasses.replace(MOVED, head=head)
    found = Detector(model, score_threshold=0.05)(frame(5))
    center = geometry.apply(geometry.invert(EGO_T_GRID), found.center)
    assert 0 < len(found) < len(free)
    assert (np.abs(center) <= (9, 7, 10)).all()


def test_ages_from_the_newest_return() -> None:
    scene = frame(6)
    radar = since_newest(scene.radar)
    for sensor in range(5):
        own = scene.radar[:, 19] == sensor
        assert radar[own, 18].min() == 0
        newest = scene.radar[own, 18].min()
        np.testing.assert_allclose(radar[own, 18] + newest, scene.radar[own, 18], atol=1e-6)
        moved = radar[own, :2] + scene.radar[own, 8:10] * newest
        np.testing.assert_allclose(moved, scene.radar[own, :2], atol=1e-5)
    np.testing.assert_array_equal(radar[:, 2:18], scene.radar[:, 2:18])
    config = dataclasses.replace(TINY, radar=dataclasses.replace(TINY.radar, age="newest"))
    assert torch.equal(
        collate([scene], config).radar,
        collate([dataclasses.replace(scene, radar=radar)], TINY).radar,
    )
    assert len(since_newest(scene.radar[:0])) == 0
