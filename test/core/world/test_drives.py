"""Drives of the synthetic world: traffic that does not collide, weather, calibration errors."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scene_boxes import boxes_at

from crkd_core import geometry
from crkd_core.data.radar_file import read_pcd
from crkd_core.world import rig, write_world
from crkd_core.world.calibration import mounted, recorded_rig
from crkd_core.world.content.mix import BALANCED, MIXES, REAL
from crkd_core.world.content.motion import FREE_LANE, STOP_LINE, Motion
from crkd_core.world.content.scene import Scene
from crkd_core.world.content.weather import (
    SHARES,
    WeatherError,
    draw_weather,
    parse_shares,
    weather_kind,
)
from crkd_core.world.sensors.camera import Camera
from crkd_core.world.sensors.caster import Caster
from crkd_core.world.sensors.lidar import Lidar


@pytest.mark.parametrize("mix", MIXES)
def test_hardly_anybody_stands_in_another(mix: str) -> None:
    """Places inside the outline of another object, of all objects near the car."""
    inside = total = 0
    for number in range(6):
        scene = Scene(seed=31, number=number, key_frames=10, mix=MIXES[mix])
        for t in (0.0, 2.0, 4.5):
            boxes, _ = boxes_at(scene, t)
            flat = boxes.center * [1, 1, 0]
            level = dataclasses.replace(boxes, center=flat)
            corners = level.corners()[:, :, :] * [1, 1, 0]
            middles = corners.mean(1, keepdims=True) + 0.8 * (
                corners - corners.mean(1, keepdims=True)
            )
            places = np.concatenate([flat[:, None], middles], 1)
            hit = level.contains(places.reshape(-1, 3)).reshape(len(flat), len(flat), -1).any(2)
            np.fill_diagonal(hit, False)
            inside += int(hit.any(0).sum())
            total += len(flat)
    assert total > 500 and inside / total < 0.03


def test_at_a_red_light_the_lanes_stand_and_others_cross() -> None:
    """Whoever is past the stop line drives on; crossing traffic comes when the lanes stand."""
    # Of many drives these three have a whole halt, and drive on before they end.
    halted = [Scene(seed=s, number=n, key_frames=30) for s, n in ((11, 6), (12, 4), (14, 7))]
    crossed = 0
    for scene in halted:
        halt = scene.motion.halt
        assert halt is not None
        middle = (halt.begin + halt.end) / 2
        velocity, _ = scene.ego_velocity(middle)
        assert np.hypot(*velocity) < 1e-6
        moving, _ = scene.ego_velocity(halt.end + 3)
        assert np.hypot(*moving) > 2
        boxes, index = boxes_at(scene, middle)
        ego = scene.ego_pose(middle)
        own = geometry.apply(geometry.invert(ego), boxes.center)
        speed = np.hypot(*boxes.velocity.T)
        lanes = np.array([scene.actors[i].lane for i in index])
        waiting = (lanes >= 0) & (lanes < FREE_LANE)
        assert (speed[waiting] < 1e-6).all()
        free = (lanes >= FREE_LANE) & (lanes < 2 * FREE_LANE)
        assert (speed[free] > 1).all()
        # Across the road: fast, and not along the car's own axis.
        across = np.abs(np.sin(boxes.yaw - geometry.yaw_of(ego))) > 0.9
        crossed += int((across & (speed > 3) & (np.abs(own[:, 0]) < 45)).sum())
    assert crossed > 0


def test_motion_lets_only_the_lanes_halt() -> None:
    for seed in range(40):
        motion = Motion(key_frames=40, rng=np.random.default_rng(seed))
        if motion.halt is None:
            continue
        a, b = motion.halt.begin + 0.1, motion.halt.end - 0.1
        lines = np.arange(len(motion.speed))
        moved = np.abs(motion.advance(lines, b) - motion.advance(lines, a))
        assert (moved[:FREE_LANE] < 1e-6).all()
        assert (moved[FREE_LANE:] > 1).all()
        assert (np.abs(motion.advance(lines, 0.0)) < 1e-9).all()
        return
    raise AssertionError("no red light in forty drives")


def test_the_car_waits_before_the_crossing() -> None:
    for number in range(30):
        scene = Scene(seed=8, number=number, key_frames=30)
        halt = scene.motion.halt
        if halt is None:
            continue
        assert scene.description.startswith("Wait at intersection")
        stop = scene.motion.advance(scene.motion.ego_lane, halt.begin)
        assert scene.lights - float(stop) > STOP_LINE + 4
        return
    raise AssertionError("no red light in thirty drives")


def test_slopes_are_gentle_and_everything_stands_on_them() -> None:
    steep = 0.0
    for number in range(8):
        scene = Scene(seed=5, number=number, key_frames=8)
        slope = np.diff(scene.terrain.z) / np.diff(scene.terrain.x)
        steep = max(steep, float(np.abs(slope).max()))
        boxes, _ = boxes_at(scene, 1.0)
        bottom = boxes.center[:, 2] - boxes.size[:, 2] / 2
        np.testing.assert_allclose(bottom, scene.terrain.height(boxes.center[:, 0]), atol=1e-9)
        pose = scene.ego_pose(1.0)
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
        ahead = (pose @ [3, 0, 0, 1])[:3]
        assert abs(ahead[2] - scene.terrain.height(ahead[0])) < 0.05
    assert 0.01 < steep < 0.04


def test_classes_are_as_frequent_as_asked() -> None:
    """Of what stands within 55 m of the car; nuScenes' shares within a factor of two."""
    for mix, classes in ((REAL, {"car": 0.43, "pedestrian": 0.19, "barrier": 0.13, "truck": 0.07}),
                         (BALANCED, {})):  # fmt: skip
        seen: Counter[str] = Counter()
        for number in range(12):
            scene = Scene(seed=2, number=number, key_frames=4, mix=mix)
            boxes, index = boxes_at(scene, 0.5)
            near = np.hypot(*(boxes.center - scene.ego_pose(0.5)[:3, 3])[:, :2].T) < 55
            seen.update(scene.actors[i].label for i in index[near])
        shares = {name: count / seen.total() for name, count in seen.items()}
        for name, share in classes.items():
            assert share / 2 < shares[name] < 2 * share, (name, shares[name])
        if mix is BALANCED:
            assert min(shares.values()) > 0.01 and len(shares) == 10


@given(st.integers(0, 1000), st.integers(0, 200))
@settings(deadline=None, max_examples=50)
def test_every_run_of_drives_holds_the_shares_of_weather(seed: int, first: int) -> None:
    kinds = Counter(weather_kind(seed, n, SHARES) for n in range(first, first + 50))
    for kind, share in SHARES.items():
        assert abs(kinds[kind] - 50 * share) <= 2.5


def test_shares_of_weather_are_read_and_checked() -> None:
    assert parse_shares("clear=0.5, night=0.5") == {"clear": 0.5, "night": 0.5}
    assert parse_shares("rain") == {"rain": 1.0}
    assert {weather_kind(3, n, {"rain": 1}) for n in range(20)} == {"rain"}
    for text in ("fog=1", "clear=", "clear=a", "clear=-1,rain=2", "clear=0", "night=inf"):
        with pytest.raises(WeatherError, match="expected shares of clear, rain and night"):
            parse_shares("clear=x" if text == "clear=" else text)
    with pytest.raises(WeatherError, match="got rain twice"):
        parse_shares("clear=0.5,rain=0.2,rain=0.3")


def test_night_is_dark_and_rain_dims_the_lidar() -> None:
    """The same drive in three weathers: same places, other light."""
    mounts = rig.build_rig(160)
    bright, returns, near = {}, {}, {}
    places = []
    for kind in SHARES:
        scene = Scene(seed=4, number=0, key_frames=4, mix=BALANCED, weather=kind)
        moment = Caster(scene).at(0.5)
        picture = Camera(scene=scene, mount=mounts["CAM_BACK"]).render(
            moment, np.random.default_rng(0)
        )
        bright[kind] = picture.mean()
        sweep = Lidar(scene=scene, mount=mounts[rig.LIDAR]).sweep(moment, np.random.default_rng(0))
        returns[kind] = len(sweep)
        near[kind] = int((np.linalg.norm(sweep[:, :3], axis=1) < 2.0).sum())
        assert scene.description.lower().startswith(kind) or kind == "clear"
        places.append(scene.state(0.5).position)
    assert all(np.array_equal(place, places[0]) for place in places)
    assert bright["night"] < 0.5 * bright["clear"]
    assert bright["rain"] > 0.5 * bright["clear"]
    assert returns["rain"] < 0.9 * returns["clear"]
    assert returns["night"] == pytest.approx(returns["clear"], rel=0.01)
    assert near["rain"] > 20 and near["clear"] == 0


def test_shadows_only_where_the_sun_shines() -> None:
    rng = np.random.default_rng(0)
    suns = [draw_weather("clear", rng).direct for _ in range(50)]
    assert 10 < sum(direct > 0.5 for direct in suns) < 45
    assert draw_weather("rain", rng).direct == draw_weather("night", rng).direct == 0


def test_calibration_errors_have_the_size_of_real_ones() -> None:
    turns: list[float] = []
    shifts: list[float] = []
    for key in range(60):
        recorded = recorded_rig(key, 400)
        for channel, mount in mounted(recorded, key).items():
            off = geometry.invert(recorded[channel].ego_T_sensor) @ mount.ego_T_sensor
            np.testing.assert_allclose(off[:3, :3] @ off[:3, :3].T, np.eye(3), atol=1e-9)
            if mount.modality == "camera":
                cosine = np.clip((np.trace(off[:3, :3]) - 1) / 2, -1, 1)
                turns.append(float(np.rad2deg(np.arccos(cosine))))
                shifts.append(float(np.linalg.norm(off[:3, 3])))
                np.testing.assert_array_equal(mount.intrinsics, recorded[channel].intrinsics)
    assert 0.1 < np.median(turns) < 0.2 and max(turns) < 0.6
    assert 0.01 < np.median(shifts) < 0.02
    again = recorded_rig(7, 400)
    assert all(np.array_equal(again[c].ego_T_sensor, m.ego_T_sensor)
               for c, m in recorded_rig(7, 400).items())  # fmt: skip


def test_a_small_set_holds_only_what_was_asked_for(tmp_path: Path) -> None:
    """Fewer sweeps, the same key frames."""
    common = {"scenes": 1, "seconds": 1.5, "image_width": 64, "seed": 3, "key_frames_only": True}
    whole = write_world(tmp_path / "whole", **common)
    small = write_world(tmp_path / "small", **common, lidar_sweeps=0, radar_sweeps=2)
    for path in sorted((small / "samples").rglob("*.*")):
        assert path.read_bytes() == (whole / path.relative_to(small)).read_bytes()
    assert not list((small / "sweeps" / "LIDAR_TOP").iterdir())
    assert len(list((small / "sweeps" / "RADAR_FRONT").iterdir())) == 2 * 3
    annotations = [orjson.loads((root / "v1.0-mini" / "sample_annotation.json").read_bytes())
                   for root in (whole, small)]  # fmt: skip
    assert annotations[0] == annotations[1]
    radar = next((small / "samples" / "RADAR_FRONT").iterdir())
    assert len(read_pcd(radar)) == 125
