"""What a Frame refuses, and the returns of radars that are not those of nuScenes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from model_tiny import TINY, lidar_frame
from model_tiny import frame as frame_of

from crkd_core import geometry, radar_returns
from crkd_core.data.batch import collate, grid_T_pixel
from crkd_core.data.radar import RadarSweep, accumulate
from crkd_core.frame import Frame, FrameError
from crkd_core.sensors import (
    RADAR_AGE,
    RADAR_COLUMN,
    RADAR_COLUMNS,
    RADAR_DEFAULTS,
    RADAR_FIELDS,
    RADAR_SENSOR,
    RADARS,
)

FRAME = frame_of(0)


def with_radar(column: str | int, values: object, frame: Frame = FRAME, **fields: object) -> Frame:
    radar = frame.radar.copy()
    radar[:, RADAR_COLUMN[column] if isinstance(column, str) else column] = values
    return dataclasses.replace(frame, radar=radar, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("age", 77e6, r"age: expected seconds before stamp_ns, 0 to 60, got .* to 7.7e\+07"),
        ("age", -0.1, "age: expected seconds before stamp_ns, 0 to 60, got -0.1"),
        ("sensor", 7, "sensor: expected whole numbers 0 to 4, for RADAR_FRONT, .*, got 7"),
        ("sensor", -1, "sensor: .* got -1"),
        ("sensor", 0.5, "sensor: .* got 0.5"),
        ("sensor", 1e30, "sensor: .* got 1e"),
        ("rcs", np.nan, "rcs: expected finite numbers"),
        ("x", np.inf, "x: expected finite numbers"),
        ("age", np.nan, "age: expected finite numbers"),
    ],
)
def test_returns_in_other_units_or_of_no_radar_are_refused(column, value, text):
    values = FRAME.radar[:, RADAR_COLUMN[column]].copy()
    values[len(values) // 2] = value
    with pytest.raises(FrameError, match=rf"Frame.radar: {text}"):
        with_radar(column, values)


def test_returns_of_a_radar_that_is_missing_are_refused():
    present = np.array([True, True, False, True, True])
    with pytest.raises(FrameError, match="has returns of RADAR_FRONT_RIGHT, which is missing"):
        dataclasses.replace(FRAME, radar_present=present)
    kept = FRAME.radar[FRAME.radar[:, RADAR_SENSOR] != 2]
    frame = dataclasses.replace(FRAME, radar=kept, radar_present=present)
    np.testing.assert_array_equal(FRAME.without("RADAR_FRONT_RIGHT").radar, frame.radar)
    # A radar that sees nothing is there all the same, and no returns at all are fine.
    assert dataclasses.replace(FRAME, radar=kept[:0]).radar_present.all()
    # A speed against the sensor may be unknown.
    assert np.isnan(with_radar("vx", np.nan).radar).any()


def test_returns_of_any_radar_become_those_of_a_frame():
    rng = np.random.default_rng(0)
    xyz, velocity = rng.normal(0, 20, (7, 3)), rng.normal(0, 5, (7, 2))
    rcs = rng.normal(0, 5, 7)
    found = radar_returns(xyz, velocity, rcs=rcs, age=0.05, sensor="RADAR_BACK_LEFT")
    # The same as a sweep of a data set whose radar sits where ego is.
    sweep = np.zeros((7, len(RADAR_FIELDS)), np.float32)
    for name, value in RADAR_DEFAULTS.items():
        sweep[:, RADAR_COLUMN[name]] = value
    sweep[:, :3], sweep[:, RADAR_COLUMN["rcs"]] = xyz, rcs
    sweep[:, 6:8] = sweep[:, 8:10] = velocity
    one = RadarSweep(stamp_ns=0, sensor=3, points=sweep, ego_T_radar=np.eye(4))
    np.testing.assert_allclose(found, accumulate([one], 50_000_000), rtol=1e-6, atol=1e-6)
    assert found.shape == (7, len(RADAR_COLUMNS)) and found.dtype == np.float32
    aged = radar_returns(xyz, velocity, rcs=0, age=np.arange(7) / 10, sensor=RADARS[0])
    np.testing.assert_allclose(aged[:, RADAR_AGE], np.arange(7) / 10, rtol=1e-6)
    empty = radar_returns(np.zeros((0, 3)), np.zeros((0, 2)), rcs=0, age=0, sensor=RADARS[0])
    assert empty.shape == (0, len(RADAR_COLUMNS))


def test_returns_of_other_shapes_are_refused():
    xyz, velocity = np.zeros((7, 3)), np.zeros((7, 2))
    with pytest.raises(FrameError, match="unknown radar 'LEFT'; known: RADAR_FRONT"):
        radar_returns(xyz, velocity, rcs=0, age=0, sensor="LEFT")
    with pytest.raises(FrameError, match=r"velocity: expected shape \(7, 2\), got \(7,\)"):
        radar_returns(xyz, velocity[:, 0], rcs=0, age=0, sensor=RADARS[0])
    with pytest.raises(FrameError, match=r"xyz: expected shape \(7, 3\), got \(7, 2\)"):
        radar_returns(xyz[:, :2], velocity, rcs=0, age=0, sensor=RADARS[0])
    with pytest.raises(FrameError, match=r"rcs: expected one number or 7, got shape \(3,\)"):
        radar_returns(xyz, velocity, rcs=np.zeros(3), age=0, sensor=RADARS[0])


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        (4, -0.05, "age: expected seconds before stamp_ns, 0 to 60, got -0.05"),
        (4, 50_000, r"age: expected seconds before stamp_ns, 0 to 60, got .* to 50000"),
        (2, np.nan, "z: expected finite numbers"),
        (3, np.inf, "intensity: expected finite numbers"),
    ],
)
def test_a_lidar_in_other_units_is_refused(column, value, text):
    lidar = lidar_frame(0).lidar.copy()
    assert dataclasses.replace(FRAME, lidar=lidar[:0]).lidar.shape == (0, 5)
    lidar[7, column] = value
    with pytest.raises(FrameError, match=f"Frame.lidar: {text}"):
        dataclasses.replace(FRAME, lidar=lidar)


def test_arrays_of_other_shapes_are_refused():
    for name, value in (
        ("lidar", lidar_frame(0).lidar[:, :4]),
        ("lidar", lidar_frame(0).lidar[0]),
        ("global_T_ego", np.eye(3)),
    ):
        with pytest.raises(FrameError, match=f"Frame.{name}: expected shape"):
            dataclasses.replace(FRAME, **{name: value})
    images = (*FRAME.images[:2], FRAME.images[2][1:], *FRAME.images[3:])
    height, width = FRAME.images[0].shape[:2]
    with pytest.raises(
        FrameError, match=rf"CAM_FRONT_LEFT\]: .*\({height}, {width}\) as prepared"
    ):
        dataclasses.replace(FRAME, images=images)
    dataclasses.replace(FRAME, images=images, prepared=None)


@pytest.mark.parametrize(
    ("sensors", "message"),
    [
        # Letter by letter, or as a part of another name, it would stand for other sensors.
        ("CAM_FRONT_LEFT", "expected a list of sensors, got the word 'CAM_FRONT_LEFT'"),
        (["CAM_FRNT", "RADAR_FRONT"], "unknown sensors CAM_FRNT; known: CAM_FRONT, "),
    ],
)
def test_only_known_sensors_are_kept(sensors, message):
    with pytest.raises(FrameError, match=message):
        FRAME.keeping(sensors)
    assert FRAME.keeping(["CAM_FRONT_LEFT"]).sensors == {"CAM_FRONT_LEFT"}
    assert "LIDAR_TOP" in lidar_frame(0).keeping(["LIDAR_TOP", "CAM_BACK"]).sensors


def test_nothing_is_read_of_the_matrices_of_missing_cameras():
    lame = FRAME.without("CAM_BACK", "CAM_FRONT_LEFT")
    gone = ~lame.camera_present
    intrinsics, poses = lame.intrinsics.copy(), lame.ego_T_cam.copy()
    intrinsics[gone], poses[gone] = 0, 0
    bare = dataclasses.replace(lame, intrinsics=intrinsics, ego_T_cam=poses)
    one, other = collate([lame], TINY), collate([bare], TINY)
    assert (one.grid_T_pixel == other.grid_T_pixel).all()
    # Those that are there are placed as ever, to the last bit.
    for index in np.flatnonzero(lame.camera_present):
        matrix = np.eye(4)
        matrix[:3, :3] = np.linalg.inv(FRAME.intrinsics[index])
        want = (FRAME.ego_T_cam[index] @ matrix).astype(np.float32)
        np.testing.assert_array_equal(grid_T_pixel(bare)[index], want)
        np.testing.assert_array_equal(grid_T_pixel(FRAME)[index], want)


def test_a_camera_that_is_there_has_matrices_that_can_be_used():
    intrinsics, poses = FRAME.intrinsics.copy(), FRAME.ego_T_cam.copy()
    intrinsics[3] = 0
    with pytest.raises(FrameError, match="CAM_BACK: expected a pinhole matrix that can be inv"):
        grid_T_pixel(dataclasses.replace(FRAME, intrinsics=intrinsics))
    poses[1, 0, 3] = np.nan
    with pytest.raises(FrameError, match=r"CAM_FRONT_RIGHT: expected .* a finite pose"):
        grid_T_pixel(dataclasses.replace(FRAME, ego_T_cam=poses))
    for row, values in ((slice(0, 4), 0), (2, FRAME.ego_T_cam[1, 1]), (3, (0, 0, 1, 1))):
        poses = FRAME.ego_T_cam.copy()
        poses[1, row] = values
        with pytest.raises(FrameError, match=r"CAM_FRONT_RIGHT: expected .* with a rotation"):
            grid_T_pixel(dataclasses.replace(FRAME, ego_T_cam=poses))
    # Axes that are scaled and mirrored are as good.
    grid_T_pixel(FRAME.moved(np.diag([0.9, -0.9, 0.9, 1.0])))
    moved = FRAME.moved(geometry.invert(np.eye(4)))
    np.testing.assert_array_equal(grid_T_pixel(moved), grid_T_pixel(FRAME))


def test_which_radars_deliver_is_said_by_truth_values():
    # Whole numbers would pick rows 0 and 1 of the returns.
    ones = dataclasses.replace(FRAME, radar_present=np.ones(5, int))
    assert ones.radar_present.dtype == bool
    np.testing.assert_array_equal(ones.without(RADARS[3]).radar, FRAME.without(RADARS[3]).radar)
    listed = dataclasses.replace(FRAME.without(RADARS[1]), radar_present=[1, 0, 1, 1, 1])
    assert listed.sensors == FRAME.without(RADARS[1]).sensors
    for given in (np.full(5, 2), [0.5] * 5, [None] * 5, ["yes"] * 5, True, None):
        with pytest.raises(FrameError, match=r"Frame.radar_present: expected"):
            dataclasses.replace(FRAME, radar_present=given)


def test_stamps_are_whole_numbers():
    for given in (np.uint64(7), np.int64(7), 7):
        stamp = dataclasses.replace(FRAME, stamp_ns=given).stamp_ns
        assert type(stamp) is int and stamp == 7
    for given in (7.0, np.float64(7), "7", None):
        with pytest.raises(FrameError, match=r"Frame.stamp_ns: expected a whole number"):
            dataclasses.replace(FRAME, stamp_ns=given)


@pytest.mark.parametrize(
    "pose",
    [np.zeros((4, 4)), np.diag([0, 0, 0, 1.0]), np.diag([1, -1, 1, 1.0]), 2 * np.eye(4)],
)
def test_a_global_pose_turns_and_shifts(pose):
    with pytest.raises(FrameError, match=r"Frame.global_T_ego: expected a rotation and a shift"):
        dataclasses.replace(FRAME, global_T_ego=pose)
    # One that is not finite is not known, whoever reads it.
    assert dataclasses.replace(FRAME, global_T_ego=pose * np.nan).global_T_ego is None
    far = geometry.pose([5e5, 5.5e6, 300], geometry.yaw_to_quat_wxyz(1.0)).astype(np.float32)
    dataclasses.replace(FRAME, global_T_ego=far)


@pytest.mark.parametrize(
    "name", ["radar", "lidar", "intrinsics", "ego_T_cam", "global_T_ego", "images"]
)
def test_anything_but_arrays_of_numbers_is_refused(name):
    value = {"lidar": lidar_frame(0).lidar, "global_T_ego": np.eye(4)}.get(
        name, getattr(FRAME, name)
    )
    others = [torch.tensor(np.array(value)), np.array(value).astype(str), np.array(7.0)]
    if name == "images":
        others = [None, 7, [image.tolist() for image in value], [torch.tensor(value[0])] * 6]
    elif name in ("radar", "lidar"):
        others += [value.tolist(), value.astype(np.int64), value.astype(bool)]
    else:
        others += [value.tolist(), value.astype(bool)]
    if name in ("radar", "intrinsics", "ego_T_cam"):
        others += [None]
    for other in others:
        with pytest.raises(FrameError, match=rf"Frame.{name}.*: expected"):
            dataclasses.replace(FRAME, **{name: other})
