"""Odometry of any frame on the vehicle, twists, gaps and jumps of poses."""

from __future__ import annotations

import numpy as np
import pytest
import ros_rig
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_core import geometry
from crkd_ros.bags.message_types import make
from crkd_ros.convert import arrays
from crkd_ros.motion.calibration_file import Calibration
from crkd_ros.motion.odometry import OdometryMotion
from crkd_ros.motion.pose_buffer import PoseBuffer
from crkd_ros.motion.poses import MotionError, NoTransform, advance

SECOND = 1_000_000_000
MS = 1_000_000
T0 = 1_700_000_000 * SECOND

#: An antenna at the back of the roof, mounted askew.
BASE_T_GNSS = geometry.pose([-1.2, 0.3, 1.7], geometry.yaw_to_quat_wxyz(0.7))


def circle(stamp_ns: int) -> np.ndarray:
    """10 m/s on a circle of 20 m, far from the map's origin: constant twist."""
    yaw = 0.5 * (stamp_ns - T0) / SECOND
    place = [500 + 20 * np.sin(yaw), 900 - 20 * np.cos(yaw), 0]
    return geometry.pose(place, geometry.yaw_to_quat_wxyz(yaw))


TWIST = np.array([10.0, 0, 0, 0, 0, 0.5])


def extrinsics() -> Calibration:
    calibration = Calibration()
    calibration.add("base_link", "gnss", BASE_T_GNSS)
    return calibration


def test_odometry_of_an_antenna_is_moved_to_the_base():
    base, antenna = OdometryMotion(extrinsics=Calibration()), None
    antenna = OdometryMotion(extrinsics=extrinsics())
    stamps = range(T0, T0 + SECOND, 50 * MS)
    for stamp in stamps:
        base.add(stamp, circle(stamp), parent="odom", child="/base_link")
        antenna.add(stamp, circle(stamp) @ BASE_T_GNSS, parent="odom", child="gnss")
    for stamp in stamps:
        np.testing.assert_allclose(antenna.pose(stamp), base.pose(stamp), atol=1e-9)
    moved = antenna.ego_T_ego(stamps[3], stamps[9])
    np.testing.assert_allclose(moved, base.ego_T_ego(stamps[3], stamps[9]), atol=1e-9)
    # Ignoring the lever arm would be off by far more than the tolerance above.
    naive = geometry.invert(circle(stamps[9]) @ BASE_T_GNSS) @ circle(stamps[3]) @ BASE_T_GNSS
    assert np.abs(naive - moved).max() > 0.1


def test_odometry_of_a_frame_that_nobody_knows_is_an_error_that_names_it():
    motion = OdometryMotion(extrinsics=extrinsics(), base="base_link")
    motion.add(T0, circle(T0), parent="odom", child="imu")
    with pytest.raises(MotionError, match=r"odometry is of 'imu', not of base_frame 'base_link'"):
        motion.pose(T0)
    with pytest.raises(MotionError, match="known frames: gnss"):
        motion.ego_T_ego(T0, T0)


def test_poses_of_two_frames_are_never_mixed():
    said: list[str] = []
    motion = OdometryMotion(extrinsics=extrinsics(), report=said.append)
    for stamp in (T0, T0 + 50 * MS):
        motion.add(stamp, circle(stamp), parent="odom")
    motion.add(T0 + 100 * MS, circle(T0), parent="map")
    assert len(motion) == 1
    assert "('odom', 'base_link') to ('map', 'base_link')" in said[0]
    with pytest.raises(MotionError, match="before the oldest"):
        motion.pose(T0 + 60 * MS)
    motion.clear()
    assert not len(motion)
    # After time was set back the first publisher is believed anew, without a word.
    motion.add(T0, circle(T0), parent="odom")
    assert len(said) == 1


@settings(deadline=None)
@given(st.floats(-20, 20), st.floats(-3, 3), st.floats(-2, 2), st.floats(0, 0.1))
def test_a_twist_is_carried_on_as_many_small_steps_are(speed, sideways, rate, seconds):
    twist = np.array([speed, sideways, 0, 0, 0, rate])
    pose = circle(T0 + SECOND)
    small = pose
    for _ in range(400):
        small = advance(small, twist, seconds / 400)
    np.testing.assert_allclose(advance(pose, twist, seconds), small, atol=1e-6)


def test_a_twist_needs_no_second_pose_and_follows_the_curve():
    poses = PoseBuffer()
    poses.add(T0, circle(T0), twist=TWIST)
    np.testing.assert_allclose(poses.at(T0 + 100 * MS), circle(T0 + 100 * MS), atol=1e-9)
    with pytest.raises(MotionError, match=r"0\.101 s beyond the newest"):
        poses.at(T0 + 101 * MS)
    # Zeros are what drivers send that do not know it.
    blank = PoseBuffer()
    blank.add(T0, circle(T0), twist=np.zeros(6))
    with pytest.raises(MotionError, match="needs two or a twist"):
        blank.at(T0 + 10 * MS)


def test_speed_is_not_taken_from_poses_that_lie_too_close_together():
    poses, rng = PoseBuffer(), np.random.default_rng(0)
    # 1 kHz with a centimetre of noise: differences of neighbours are 14 m/s wrong.
    for stamp in range(T0, T0 + 200 * MS, MS):
        pose = circle(stamp)
        pose[:2, 3] += rng.normal(0, 0.01, 2)
        poses.add(stamp, pose)
    newest = T0 + 199 * MS
    error = poses.at(newest + 90 * MS)[:3, 3] - circle(newest + 90 * MS)[:3, 3]
    assert np.linalg.norm(error) < 0.3
    close = PoseBuffer()
    close.add(T0, circle(T0))
    close.add(T0 + MS, circle(T0 + MS))
    with pytest.raises(MotionError, match="needs two"):
        close.at(T0 + 20 * MS)


def test_nothing_is_interpolated_across_a_long_gap():
    poses = PoseBuffer()
    for stamp in (T0, T0 + SECOND, T0 + 2 * SECOND + MS):
        poses.add(stamp, circle(stamp))
    poses.at(T0 + SECOND // 2)
    with pytest.raises(MotionError, match=r"gap of 1\.001 s"):
        poses.at(T0 + 3 * SECOND // 2)


def test_a_relocalisation_begins_anew_and_is_reported():
    said: list[str] = []
    poses = PoseBuffer(report=said.append)
    shifted = geometry.pose([3.0, 4.0, 0], [1, 0, 0, 0])
    before = list(range(T0, T0 + 500 * MS, 20 * MS))
    after = list(range(T0 + 500 * MS, T0 + SECOND, 20 * MS))
    for stamp in before:
        poses.add(stamp, circle(stamp))
    for stamp in after:
        poses.add(stamp, shifted @ circle(stamp))
    assert len(said) == 1
    assert "jumped" in said[0]
    np.testing.assert_allclose(
        poses.ego_T_ego(after[0], after[9]),
        geometry.invert(circle(after[9])) @ circle(after[0]),
        atol=1e-9,
    )
    with pytest.raises(MotionError, match="before the oldest"):
        poses.ego_T_ego(before[-1], after[9])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 65), min_size=3, max_size=20), st.integers(1, 100))
def test_no_speed_of_a_road_vehicle_is_taken_for_a_jump(speeds, step_ms):
    said: list[str] = []
    poses, x = PoseBuffer(report=said.append), 0.0
    for index, speed in enumerate(speeds):
        x += speed * step_ms * 1e-3
        poses.add(T0 + index * step_ms * MS, geometry.pose([x, 0, 0], [1, 0, 0, 0]))
    assert not said
    assert len(poses) == len(speeds)


def test_messages_give_their_twist_and_only_a_finite_one():
    message = ros_rig.odometry(make, T0)
    message.twist.twist.linear.x, message.twist.twist.angular.z = 7.0, 0.25
    np.testing.assert_array_equal(arrays.odometry_twist(message), [7, 0, 0, 0, 0, 0.25])
    message.twist.twist.linear.y = float("nan")
    assert arrays.odometry_twist(message) is None


def test_sensors_without_a_place_are_named_all_at_once_by_reason():
    error = NoTransform({"CAM_FRONT": "not there", "RADAR_FRONT": "far", "CAM_BACK": "not there"})
    assert str(error) == "no transform of CAM_FRONT, CAM_BACK: not there; RADAR_FRONT: far"
    assert error.sensors["RADAR_FRONT"] == "far"
    assert isinstance(error, MotionError)
