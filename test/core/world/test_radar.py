"""The radars of the synthetic world: what a sweep holds, and that misses last."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from crkd_core import geometry
from crkd_core.boxes import Boxes
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.sensors import RADAR_COLUMN, RADAR_COMPENSATED, RADAR_VELOCITY, RADARS
from crkd_core.world import rig
from crkd_core.world.content.mix import BALANCED
from crkd_core.world.content.scene import Scene, State
from crkd_core.world.sensors.caster import Caster
from crkd_core.world.sensors.radar.codes import SLOW
from crkd_core.world.sensors.radar.objects import SPEED_NOISE, ObjectEchoes
from crkd_core.world.sensors.radar.returns import Returns
from crkd_core.world.sensors.radar.sweep import RETURNS, Radar

T = 0.7
STEP = 0.25


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(seed=23, number=0, key_frames=4, mix=BALANCED)


@pytest.fixture(scope="module")
def caster(scene: Scene) -> Caster:
    return Caster(scene)


@pytest.fixture(scope="module")
def sweeps(scene: Scene, caster: Caster) -> list[tuple[Radar, float, np.ndarray]]:
    result = []
    for i, (name, mount) in enumerate(rig.build_rig(160).items()):
        if name not in RADARS:
            continue
        radar = Radar(scene=scene, mount=mount)
        for k in range(4):
            t = T + k / 13
            points = radar.sweep(caster.at(t), np.random.default_rng([i, k]))
            result.append((radar, t, points.astype(float)))
    return result


def column(points: np.ndarray, name: str) -> np.ndarray:
    return points[:, RADAR_COLUMN[name]]


def test_a_sweep_is_full_sorted_and_flat(
    sweeps: list[tuple[Radar, float, np.ndarray]],
) -> None:
    for _, _, points in sweeps:
        assert points.shape == (RETURNS, 18) and np.isfinite(points).all()
        distance = np.hypot(points[:, 0], points[:, 1])
        assert (np.diff(distance) > -1e-3).all()
        assert (column(points, "id") == np.arange(RETURNS)).all()
        assert (points[:, 2] == 0).all()
        assert distance.max() < 250


def test_codes_go_together_as_the_sensor_sends_them(
    sweeps: list[tuple[Radar, float, np.ndarray]],
) -> None:
    points = np.concatenate([p for _, _, p in sweeps])
    for name, known in {
        "dyn_prop": range(5),
        "ambig_state": range(5),
        "invalid_state": (0, 4, 7, 9, 11, 16),
        "pdh0": (1, 3, 6),
    }.items():
        assert set(column(points, name)) <= set(known), name
    outside = column(points, "invalid_state") == 7
    azimuth = np.abs(np.rad2deg(np.arctan2(points[:, 1], points[:, 0])))
    assert outside.sum() > 20
    assert (outside == (azimuth > 60.01)).all()
    assert (outside == (column(points, "dyn_prop") == 4)).all()
    assert (outside == (column(points, "pdh0") == 6)).all()
    assert (points[outside][:, RADAR_VELOCITY] == 0).all()


def test_compensated_velocity_is_radial_and_raw_velocity_a_whole_vector(
    sweeps: list[tuple[Radar, float, np.ndarray]], scene: Scene
) -> None:
    along_the_ray = 0
    for radar, t, points in sweeps:
        points = points[column(points, "dyn_prop") != 4]
        along = points[:, :2] / np.linalg.norm(points[:, :2], axis=1, keepdims=True)
        over = points[:, RADAR_COMPENSATED]
        np.testing.assert_allclose(along[:, 0] * over[:, 1], along[:, 1] * over[:, 0], atol=1e-3)
        # The radar's own motion from two poses, without the scene's velocities.
        a, b = (scene.ego_pose(t + dt) @ radar.mount.ego_T_sensor for dt in (-0.005, 0.005))
        own = geometry.rotate(geometry.invert(a), (b[:3, 3] - a[:3, 3]) / 0.01)[:2]
        rate = float(geometry.yaw_of(geometry.invert(a) @ b)) / 0.01
        raw = points[:, RADAR_VELOCITY]
        np.testing.assert_allclose(
            (raw * along).sum(1) + along @ own, (over * along).sum(1), atol=0.02
        )
        np.testing.assert_allclose(raw / STEP, np.rint(raw / STEP), atol=1e-4)
        # A standing place moves against the turning radar by minus its motion.
        standing = np.isin(column(points, "dyn_prop"), [1, 3])
        still = standing & (column(points, "ambig_state") == 3)
        place = points[still, :2]
        expected = -own + rate * np.stack([place[:, 1], -place[:, 0]], 1)
        assert np.abs(raw[still, 1] - expected[:, 1]).max() < STEP / 2 + 0.02
        # Rounding across and Doppler noise, both through the tangent of the angle.
        slack = STEP / 2 + (STEP / 2 + 5 * SPEED_NOISE) * np.abs(1 / along[still, 0])
        assert (np.abs(raw[still, 0] - expected[:, 0]) < slack).mean() > 0.97
        assert (raw[~standing, 1] == 0).all()
        along_the_ray += np.mean(np.abs(raw[:, 0] * along[:, 1] - raw[:, 1] * along[:, 0]) < 0.1)
    assert along_the_ray / len(sweeps) < 0.5


def test_returns_on_moving_objects_have_their_speed(
    sweeps: list[tuple[Radar, float, np.ndarray]], scene: Scene
) -> None:
    right = checked = 0
    for radar, t, points in sweeps:
        valid = (column(points, "invalid_state") == 0) & (column(points, "ambig_state") == 3)
        points = points[valid]
        state = scene.state(t)
        fast = np.hypot(*state.velocity.T) > 3
        boxes = Boxes(
            center=state.position[fast] * [1, 1, 0],
            size=scene.sizes[state.index[fast]],
            yaw=state.yaw[fast],
            velocity=state.velocity[fast],
            label=scene.labels[state.index[fast]],
            classes=NUSCENES_CLASSES,
        )
        local_T_radar = scene.ego_pose(t) @ radar.mount.ego_T_sensor
        places = geometry.apply(local_T_radar, points[:, :3]) * [1, 1, 0]
        for box, row in zip(*np.nonzero(boxes.contains(places)), strict=True):
            along = points[row, :2] / np.linalg.norm(points[row, :2])
            turned = geometry.rotate(geometry.invert(local_T_radar), boxes.velocity[box])
            speed = float(points[row, RADAR_COMPENSATED] @ along)
            right += abs(float(turned @ along) - speed) < 4 * SPEED_NOISE + STEP / 2
            checked += 1
    # Clutter that a moving object stands on has none of it.
    assert checked > 30 and right / checked > 0.8


def test_what_counts_as_moving(sweeps: list[tuple[Radar, float, np.ndarray]]) -> None:
    points = np.concatenate([p for _, _, p in sweeps])
    along = points[:, :2] / np.linalg.norm(points[:, :2], axis=1, keepdims=True)
    speed = (points[:, RADAR_COMPENSATED] * along).sum(1)
    dynamics = column(points, "dyn_prop")
    # Steps of vx and vy blur the limit.
    assert np.abs(speed[np.isin(dynamics, [1, 3])]).max() < SLOW + STEP
    assert (speed[dynamics == 0] > SLOW - STEP).all()
    assert (speed[dynamics == 2] < -SLOW + STEP).all()
    assert (dynamics == 0).sum() > 30 and (dynamics == 2).sum() > 30


def lone(label: str, distance: float, scene: Scene) -> State:
    """An actor of a class, straight ahead of the car."""
    actor = int(np.flatnonzero(scene.labels == NUSCENES_CLASSES.index(label))[0])
    pose = scene.ego_pose(T)
    place = pose[:3, 3] + distance * pose[:3, 0]
    place[2] = scene.sizes[actor, 2] / 2
    return State(
        index=np.array([actor]),
        position=place[None],
        yaw=np.array([geometry.yaw_of(pose)]),
        velocity=np.zeros((1, 2)),
    )


def answers(
    label: str, distance: float, scene: Scene, radar: int, times: Iterable[float]
) -> list[Returns]:
    """What a lone object in plain sight sends back over sweeps."""
    echoes = ObjectEchoes(scene=scene, radar=radar, reach=120.0, half_view=np.deg2rad(60))
    pose, rng = scene.ego_pose(T), np.random.default_rng(radar)
    view = echoes.in_view(lone(label, distance, scene), pose)
    return [echoes.returns(view, np.ones(1), pose, t, rng) for t in times]


def test_big_things_answer_more_often_than_small_ones(scene: Scene) -> None:
    times = np.arange(12) * 10.0
    heard = {
        name: np.mean([[len(a) for a in answers(name, 27.0, scene, r, times)] for r in range(40)])
        for name in ("truck", "car", "pedestrian", "traffic_cone")
    }
    assert heard["truck"] > heard["car"] > heard["pedestrian"] > heard["traffic_cone"] > 0


def test_a_miss_lasts(scene: Scene) -> None:
    """Six sweeps in half a second do not cure a miss: their answers are far from independent."""
    times = np.arange(6) / 13
    heard = np.array(
        [[len(a) > 0 for a in answers("car", 27.0, scene, r, times)] for r in range(400)]
    )
    share = heard.mean()
    assert 0.1 < share < 0.9
    all_missed = (~heard).all(1).mean()
    assert all_missed > 3 * (1 - share) ** 6
    assert np.corrcoef(heard[:, 0], heard[:, 1])[0, 1] > 0.4
    # The other radars are not deaf to what one is deaf to.
    assert np.corrcoef(heard[:200, 0], heard[200:, 0])[0, 1] < 0.4


def test_where_a_return_comes_from_lasts_and_wanders(scene: Scene) -> None:
    """From one sweep to the next it stays; within seconds it is all over the near outline."""
    near, far, places = [], [], []
    for radar in range(60):
        found = answers("bus", 15.0, scene, radar, (0.0, 1 / 13, 9.0))
        first = [f.distance[0] if len(f) else np.nan for f in found]
        near.append(abs(first[1] - first[0]))
        far.append(abs(first[2] - first[0]))
        places += [d for f in found for d in f.distance]
    assert np.nanmedian(near) < 0.5 * np.nanmedian(far)
    half = scene.sizes[lone("bus", 15.0, scene).index[0], 0] / 2
    assert 15 - half - 0.5 < np.min(places) < 15 - half + 0.5
    assert np.max(places) > 15
