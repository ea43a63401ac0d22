"""Extrinsics as a tree, poses over time, calibration files."""

from __future__ import annotations

import numpy as np
import pytest
import ros_rig
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_core import geometry
from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.motion.calibration_file import Calibration, CameraEntry
from crkd_ros.motion.pose_buffer import PoseBuffer
from crkd_ros.motion.pose_table import PoseTable
from crkd_ros.motion.poses import MotionError, NoMotion
from crkd_ros.motion.tf_tree import TfMotion

SECOND = 1_000_000_000
T0 = 1_700_000_000 * SECOND


def steady(stamp_ns: int) -> np.ndarray:
    """Constant speed and turn rate about the vehicle's own axis: what interpolation reproduces."""
    t = (stamp_ns - T0) / SECOND
    return geometry.pose([500 + 10 * t, 900 - 3 * t, 0.1 * t], geometry.yaw_to_quat_wxyz(0.5 * t))


def filled(stamps) -> PoseBuffer:
    poses = PoseBuffer()
    for stamp in stamps:
        poses.add(stamp, steady(stamp))
    return poses


@settings(deadline=None)
@given(st.lists(st.integers(0, 2 * SECOND), min_size=2, unique=True), st.floats(0, 1))
def test_poses_between_known_ones_are_interpolated_in_any_order_of_arrival(offsets, where):
    poses = PoseBuffer()
    for offset in offsets:
        # Out of order by less than a jump.
        if not len(poses) or abs(offset - max(offsets)) < SECOND:
            poses.add(T0 + offset, steady(T0 + offset))
    known = [offset for offset in offsets if abs(offset - max(offsets)) < SECOND]
    at = T0 + round(min(known) + where * (max(known) - min(known)))
    np.testing.assert_allclose(poses.at(at), steady(at), atol=1e-5)
    for offset in known:
        np.testing.assert_array_equal(poses.at(T0 + offset), steady(T0 + offset))


def test_extrapolation_is_limited_and_errors_say_how_far():
    poses = filled([T0, T0 + SECOND // 10])
    np.testing.assert_allclose(
        poses.at(T0 + SECOND * 19 // 100), steady(T0 + SECOND * 19 // 100), atol=1e-9
    )
    with pytest.raises(MotionError, match=r"0\.150 s beyond the newest.*limit 0\.1 s.*sync\.wait"):
        poses.at(T0 + SECOND // 4)
    # A frame of the end of a bag that has begun anew: odometry lives.
    with pytest.raises(MotionError, match=r"20\.900 s beyond the newest.*where a bag loops\?"):
        poses.at(T0 + 21 * SECOND)
    with pytest.raises(MotionError, match=r"0\.500 s before the oldest"):
        poses.at(T0 - SECOND // 2)
    with pytest.raises(MotionError, match="no ego pose was received yet"):
        PoseBuffer().at(T0)
    with pytest.raises(MotionError, match="needs two"):
        filled([T0]).at(T0 + 1)


def test_time_set_back_and_old_poses_are_forgotten():
    poses = filled(range(T0, T0 + 20 * SECOND, SECOND // 10))
    assert len(poses) == 101
    # One alone may be wrong; three in a row are not.
    for i, count in enumerate((101, 101, 3)):
        assert poses.add(T0 + i * SECOND // 10, steady(T0 + i * SECOND // 10)) is (i == 2)
        assert len(poses) == count
    poses.clear()
    assert not len(poses)


def test_ego_motion_moves_points_that_stand_still_over_the_map():
    poses = filled([T0, T0 + SECOND])
    point = np.array([510.0, 905.0, 0.0])
    then, now = T0 + SECOND // 3, T0 + SECOND
    seen_then = geometry.apply(geometry.invert(poses.at(then)), point)
    seen_now = geometry.apply(geometry.invert(poses.at(now)), point)
    moved = geometry.apply(poses.ego_T_ego(then, now), seen_then)
    np.testing.assert_allclose(moved, seen_now, atol=1e-9)
    np.testing.assert_array_equal(NoMotion().ego_T_ego(then, now), np.eye(4))
    assert NoMotion().pose(now) is None


def test_extrinsics_follow_the_chain_and_know_frames_by_any_case():
    calibration = Calibration()
    mount = geometry.pose([1, 0, 2], geometry.yaw_to_quat_wxyz(np.pi / 2))
    camera = geometry.pose([0.5, 0, 0], geometry.yaw_to_quat_wxyz(0.3))
    calibration.add("/base_link", "Roof", mount)
    calibration.add("roof", "CAM_FRONT", camera)
    np.testing.assert_allclose(calibration.base_T("/cam_front"), mount @ camera)
    np.testing.assert_array_equal(calibration.base_T("base_link"), np.eye(4))
    with pytest.raises(MotionError, match="to 'cam_back'; known frames: cam_front, roof"):
        calibration.base_T("cam_back")
    calibration.add("cam_front", "roof", mount)
    with pytest.raises(MotionError, match="no static transform"):
        calibration.base_T("roof")


def test_calibration_files_come_back_as_they_were(tmp_path):
    calibration = ros_rig.calibration()
    calibration.add_camera("CAM_FRONT", CameraEntry(intrinsics=ros_rig.INTRINSICS))
    calibration.save(tmp_path / "c.yaml")
    again = Calibration.load(tmp_path / "c.yaml")
    for sensor, matrix in ros_rig.extrinsics().items():
        np.testing.assert_allclose(again.base_T(sensor), matrix, atol=1e-12)
    np.testing.assert_array_equal(again.intrinsics("cam_front"), ros_rig.INTRINSICS)
    assert again.intrinsics("cam_back") is None
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]


def test_both_quaternion_orders_are_told_apart(tmp_path):
    half = float(np.sqrt(0.5))
    (tmp_path / "c.yaml").write_text(
        f"sensors:\n  a: {{translation: [0, 0, 0], rotation_xyzw: [0, 0, {half}, {half}]}}\n"
        f"  b: {{translation: [0, 0, 0], rotation_wxyz: [{half}, 0, 0, {half}]}}\n"
    )
    calibration = Calibration.load(tmp_path / "c.yaml")
    for frame in "ab":
        assert geometry.yaw_of(calibration.base_T(frame)) == pytest.approx(np.pi / 2)


POSE = "translation: [0, 0, 0], rotation_xyzw: [0, 0, 0, 1]"
PINHOLE, UPSIDE_DOWN = "[[9, 0, 4], [0, 9, 3], [0, 0, 1]]", "[[9, 0, 4], [0, -9, 3], [0, 0, 1]]"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "expected a mapping 'sensors'"),
        ("sensors: [1]", "expected a mapping 'sensors'"),
        ("a: b: c", "cannot read calibration file"),
        ("sensors: {cam: {translation: [0, 0, 0]}}", "'cam': give either rotation_xyzw"),
        (f"sensors: {{cam: {{{POSE}, rotation_wxyz: [1, 0, 0, 0]}}}}", "give either"),
        ("sensors: {cam: {rotation_xyzw: [0, 0, 0, 1]}}", "needs a translation"),
        ("sensors: {cam: {translation: [0, 0], rotation_xyzw: [0, 0, 0, 1]}}", "of 3 numbers"),
        ("sensors: {cam: {translation: [0, 0, 0], rotation_xyzw: [0, 0, 90]}}", "a quaternion"),
        (
            "sensors: {cam: {translation: [0, 0, 0], rotation_xyzw: [0, 0, 0, 0]}}",
            "non-zero length",
        ),
        (f"sensors: {{cam: {{{POSE}, yaw: 3}}}}", "unknown keys yaw;"),
        (f"sensors: {{cam: {{{POSE}, intrinsics: [1, 2]}}}}", "3 rows of 3"),
        ("sensors: {cam: 7}", "'cam': expected a mapping, got 7"),
        (f"sensors: {{CAM: {{{POSE}}}, /cam: {{{POSE}}}}}", "'CAM' and '/cam' are one sensor"),
        (f"sensors:\n  a: {{{POSE}}}\n  a: {{{POSE}}}", "got 'a' in lines 2 and 3"),
        (f"sensors: {{Base_Link: {{{POSE}}}}}", "'Base_Link' is the vehicle's own frame"),
        (f"sensors: {{a: {{{POSE}, intrinsics: {UPSIDE_DOWN}}}}}", "'a': intrinsics = .* is not"),
        (f"sensors: {{a: {{{POSE}, intrinsics: {PINHOLE}, image_size: 5}}}}", "image_size: expec"),
        (f"sensors: {{a: {{{POSE}, intrinsics: {PINHOLE}, image_size: [1.5, 2]}}}}", "image_size"),
        (
            f"sensors: {{a: {{{POSE}, intrinsics: {PINHOLE}, distortion: [0.1], "
            "distortion_model: foo}}",
            "distortion_model 'foo' is not known; expected one of plumb_bob",
        ),
    ],
)
def test_wrong_calibration_files_are_refused_by_name(tmp_path, text, error):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(MotionError, match=error) as caught:
        Calibration.load(path)
    assert str(path) in str(caught.value)


def test_the_example_calibration_has_every_sensor_where_its_name_says(request):
    calibration = Calibration.load(request.config.rootpath / "config" / "calibration.yaml")
    for camera in CAMERAS:
        matrix = calibration.base_T(camera)
        axis = matrix[:3, 2]
        np.testing.assert_allclose(matrix[:3, 1], [0, 0, -1], atol=1e-3)
        assert ("FRONT" in camera) == (axis[0] > 0.3)
        assert ("LEFT" in camera) == (axis[1] > 0.3)
        assert ("RIGHT" in camera) == (axis[1] < -0.3)
    for radar in RADARS:
        matrix = calibration.base_T(radar)
        assert ("FRONT" in radar) == (matrix[0, 3] > 0)
        assert ("LEFT" in radar) == (matrix[1, 3] > 0.1)
        assert ("RIGHT" in radar) == (matrix[1, 3] < -0.1)


class TransformException(Exception):
    """The base of tf2's exceptions."""


class LookupException(TransformException):
    """What tf2 raises for a frame that it does not know."""


class Buffer:
    """The part of tf2_ros.Buffer that TfMotion calls, over one known drive.

    A stand-in, because tf2 cannot be installed where ROS 2 is not.
    """

    def __init__(self) -> None:
        self.lookups, self.shift, self.cleared = 0, 0.0, False
        self.cam = geometry.pose([1, 2, 3], [1, 0, 0, 0])

    def clear(self):
        self.cleared = True

    def _map_T(self, frame, stamp):
        if frame == "odom":
            return np.eye(4)
        if frame == "cam" and self.cam is not None:
            return steady(stamp) @ self.cam
        if frame == "base_link" and self.shift and stamp > T0:
            return geometry.pose([0, self.shift, 0], [1, 0, 0, 0]) @ steady(stamp)
        if frame != "base_link":
            raise LookupException(f'"{frame}" passed to lookupTransform does not exist')
        return steady(stamp)

    def lookup_transform(self, target, source, stamp, *, timeout=0):
        # Only what moves is waited for.
        assert timeout == (0 if stamp == 0 else 0.1)
        self.lookups += 1
        return geometry.invert(self._map_T(target, stamp)) @ self._map_T(source, stamp)

    def lookup_transform_full(self, target, target_time, source, source_time, fixed, *, timeout):
        assert (fixed, timeout) == ("odom", 0.1)
        return geometry.invert(self._map_T(target, target_time)) @ self._map_T(source, source_time)


def tf_motion(buffer, **changes) -> TfMotion:
    return TfMotion(
        buffer=buffer,
        time=lambda ns: ns,
        timeout=0.1,
        error=TransformException,
        stamped_to_matrix=lambda matrix: matrix,
        **changes,
    )


def test_tf_answers_as_the_pose_buffer_does_and_errors_are_chained():
    buffer = Buffer()
    tf = tf_motion(buffer)
    poses = filled([T0, T0 + SECOND])
    for stamp in (T0, T0 + SECOND):
        np.testing.assert_allclose(tf.pose(stamp), poses.pose(stamp))
    np.testing.assert_allclose(
        tf.ego_T_ego(T0, T0 + SECOND), poses.ego_T_ego(T0, T0 + SECOND), atol=1e-9
    )
    buffer.lookups = 0
    for _ in range(3):
        np.testing.assert_allclose(tf.base_T("cam")[:3, 3], [1, 2, 3], atol=1e-3)
    assert buffer.lookups == 1
    with pytest.raises(MotionError, match=r"tf base_link <- roof: .* does not exist") as caught:
        tf.base_T("roof")
    assert isinstance(caught.value.__cause__, LookupException)


def test_a_sensor_that_moved_in_tf_is_noticed_within_the_period():
    now, said = [0.0], list[str]()
    buffer = Buffer()
    tf = tf_motion(buffer, clock=lambda: now[0], report=said.append, period=1.0)
    np.testing.assert_allclose(tf.base_T("/cam")[:3, 3], [1, 2, 3], atol=1e-3)
    buffer.cam = geometry.pose([1, 2, 3.02], geometry.yaw_to_quat_wxyz(0.01))
    now[0] = 0.9
    np.testing.assert_allclose(tf.base_T("cam")[:3, 3], [1, 2, 3], atol=1e-3)
    now[0] = 1.0
    np.testing.assert_allclose(tf.base_T("cam")[:3, 3], [1, 2, 3.02], atol=1e-3)
    assert said == [
        "the calibration of cam changed by 0.020 m and 0.57 degrees; the new one is used from now "
        "on"
    ]
    now[0] = 2.5
    tf.base_T("cam")
    assert len(said) == 1
    # What tf no longer knows is not answered from memory.
    buffer.cam = None
    now[0] = 4.0
    with pytest.raises(MotionError, match=r"base_link <- cam: .* view_frames"):
        tf.base_T("cam")


def test_a_jump_of_the_map_is_no_ego_motion():
    buffer = Buffer()
    tf = tf_motion(buffer)
    np.testing.assert_array_equal(tf.ego_T_ego(T0, T0), np.eye(4))
    buffer.shift = 12.0
    with pytest.raises(MotionError, match=r"moved .* m in 0\.100 s over odom: a jump"):
        tf.ego_T_ego(T0, T0 + SECOND // 10)
    tf.clear()
    assert buffer.cleared


@pytest.mark.parametrize("apart", [3600.0, -3600.0, 1e9, 30.0, 3.0, -3.0])
@pytest.mark.parametrize("strays", [1, 2])
def test_a_stray_stamp_costs_no_pose(apart, strays):
    stamps = list(range(T0, T0 + 2 * SECOND, SECOND // 50))
    poses = filled(stamps[:60])
    for i in range(strays):
        at = stamps[59] + round(apart * SECOND) + i * SECOND // 50
        poses.add(at, steady(stamps[59]))
    for stamp in stamps[60:]:
        poses.add(stamp, steady(stamp))
        # Whatever is asked now is known, as if nothing had happened.
        np.testing.assert_allclose(poses.at(stamp - SECOND // 100), steady(stamp - SECOND // 100))
    assert len(poses) == len(stamps)
    np.testing.assert_allclose(poses.at(T0 + SECOND // 3), steady(T0 + SECOND // 3), atol=1e-6)


def test_a_single_pose_that_no_vehicle_can_reach_costs_nothing():
    said: list[str] = []
    poses = PoseBuffer(report=said.append)
    for i in range(60):
        at = T0 + i * SECOND // 50
        far = geometry.pose([400.0, 0, 0], [1, 0, 0, 0])
        assert poses.add(at, far @ steady(at) if i == 30 else steady(at)) is (i != 30)
    assert len(poses) == 59 and said == []
    np.testing.assert_allclose(poses.at(T0 + 30 * SECOND // 50), steady(T0 + 30 * SECOND // 50))


WRONG_TWISTS = {
    "world axes": lambda pose, twist: np.array([*(pose[:3, :3] @ twist[:3]), *twist[3:]]),
    "km/h": lambda pose, twist: np.array([*(3.6 * twist[:3]), *twist[3:]]),
    "degrees": lambda pose, twist: np.array([*twist[:3], *np.rad2deg(twist[3:])]),
    "reversed": lambda pose, twist: np.array([*(-twist[:3]), *twist[3:]]),
}


@pytest.mark.parametrize("what", [*WRONG_TWISTS, "right"])
def test_positions_lead_where_a_twist_contradicts_them(what):
    said: list[str] = []
    poses = PoseBuffer(report=said.append)
    wrong = WRONG_TWISTS.get(what, lambda pose, twist: twist)
    own = np.array([*(steady(T0)[:3, :3].T @ [10, -3, 0.1]), 0, 0, 0.5])
    later = T0 + 2 * SECOND
    for stamp in range(T0, later + 1, SECOND // 50):
        turned = steady(stamp)[:3, :3].T @ [10, -3, 0.1]
        poses.add(stamp, steady(stamp), twist=wrong(steady(stamp), np.array([*turned, *own[3:]])))
    got = poses.at(later + SECOND // 10)
    assert np.linalg.norm(got[:3, 3] - steady(later + SECOND // 10)[:3, 3]) < 0.1
    assert [("contradicts its own poses" in text) for text in said] == [True] * (what != "right")


@pytest.mark.parametrize("what", [*WRONG_TWISTS, "right"])
def test_a_wrong_twist_is_told_though_no_pose_has_to_be_carried_on(what):
    said: list[str] = []
    poses = PoseBuffer(report=said.append)
    wrong = WRONG_TWISTS.get(what, lambda pose, twist: twist)
    for stamp in range(T0, T0 + 3 * SECOND, SECOND // 50):
        twist = np.array([*(steady(stamp)[:3, :3].T @ [10, -3, 0.1]), 0, 0, 0.5])
        poses.add(stamp, steady(stamp), twist=wrong(steady(stamp), twist))
    assert ["contradicts its own poses" in text for text in said] == [True] * (what != "right")


@pytest.mark.parametrize("speed, told", [(10.0, True), (0.3, False)])
def test_poses_that_are_not_filled_in_are_told(speed, told):
    said: list[str] = []
    poses = PoseBuffer(report=said.append)
    for stamp in range(T0, T0 + 3 * SECOND, SECOND // 50):
        # At a traffic light at first.
        moves = speed if stamp > T0 + SECOND // 2 else 0.0
        poses.add(stamp, np.eye(4), twist=[moves, 0, 0, 0, 0, 0])
    assert ["they stand still; are they filled in" in text for text in said] == [True] * told


@pytest.mark.parametrize("told", [True, False])
def test_after_a_gap_poses_are_carried_on_by_those_since(told):
    def place(stamp):
        """The vehicle stands for the four seconds that nothing is heard of."""
        return steady(stamp if stamp < T0 + SECOND else stamp - 4 * SECOND)

    said: list[str] = []
    poses = PoseBuffer(report=said.append)
    step, back = SECOND // 50, T0 + 5 * SECOND
    for stamp in [*range(T0, T0 + SECOND, step), back, back + step, back + 2 * step]:
        own = np.array([*(place(stamp)[:3, :3].T @ [10, -3, 0.1]), 0, 0, 0.5])
        poses.add(stamp, place(stamp), twist=own if told else None)
        at = stamp + SECOND // 20
        if stamp == back and not told:
            with pytest.raises(MotionError, match="needs two or a twist"):
                poses.at(at)
        elif stamp >= back:
            assert np.linalg.norm(poses.at(at)[:3, 3] - place(at)[:3, 3]) < 0.05
    assert said == []


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 30), st.floats(-60, 60), st.integers(0, 1000))
def test_two_publishers_of_one_odometry_are_never_mixed(behind_ms, apart, seed):
    """Whether the second one's stamps are behind the first's or ahead: one of both is believed."""
    rng, said = np.random.default_rng(seed), list[str]()
    poses = PoseBuffer(report=said.append)
    offset = np.array([apart, 5.0, 0.0])
    late = behind_ms * SECOND // 1000
    for stamp in range(T0, T0 + 4 * SECOND, SECOND // 50):
        poses.add(stamp, steady(stamp))
        if rng.random() < 0.9:
            other = steady(stamp - late)
            other[:3, 3] += offset
            poses.add(stamp - late, other)
    for at in range(T0 + SECOND, T0 + 4 * SECOND - SECOND // 20, SECOND // 70):
        moved = poses.ego_T_ego(at, at + SECOND // 100)[:3, 3]
        true = (geometry.invert(steady(at + SECOND // 100)) @ steady(at))[:3, 3]
        assert np.linalg.norm(moved - true) < 0.01
    assert "are there two publishers" in said[-1]


@pytest.mark.parametrize("late_ms", [0, 5, 35, 400])
def test_a_stray_pose_that_comes_late_is_refused(late_ms):
    poses = filled(range(T0, T0 + SECOND, SECOND // 50))
    newest = T0 + 49 * SECOND // 50
    stray = steady(newest - late_ms * SECOND // 1000)
    stray[0, 3] += 5000
    assert not poses.add(newest - late_ms * SECOND // 1000, stray)
    assert poses.add(newest - 5 * SECOND // 1000, steady(newest - 5 * SECOND // 1000))
    for at in range(T0, newest, SECOND // 77):
        np.testing.assert_allclose(poses.at(at), steady(at), atol=1e-4)


def test_stretches_of_motion_are_numbered_alike_live_and_over_a_whole_bag():
    poses, table = PoseBuffer(), PoseTable()
    live = {}
    for number, stamp in enumerate(range(T0, T0 + 3 * SECOND, SECOND // 50)):
        pose = steady(stamp)
        pose[0, 3] += 40.0 * (number // 50)
        table.add(stamp, pose)
        if poses.add(stamp, pose):
            live[stamp] = poses.stretch(stamp)
    assert set(live.values()) == {0, 1, 2}
    assert all(table.stretch(stamp) == stretch for stamp, stretch in live.items())
    poses.clear()
    assert poses.stretch(T0) == 3
    assert NoMotion().stretch(T0) == 0


def test_poses_of_a_clock_that_was_set_back_are_forgotten_when_the_sensors_say_so():
    poses = filled(range(T0, T0 + SECOND, SECOND // 50))
    # Images take their time, and bags may be played fast: poses of the new time are kept.
    poses.set_back(T0 + SECOND // 2, from_ns=T0 + 100 * SECOND)
    assert len(poses) == 50
    poses.set_back(T0 + SECOND // 2, from_ns=T0 + 9 * SECOND // 10)
    assert not len(poses) and poses.stretch(T0) == 1
    # A pose that came before the sensors told is of their time.
    poses = filled(range(T0, T0 + SECOND, SECOND // 50))
    before = T0 - 100 * SECOND
    assert not poses.add(before, steady(before))
    poses.set_back(before + SECOND // 50, from_ns=T0 + SECOND)
    assert len(poses) == 1
    np.testing.assert_array_equal(poses.at(before), steady(before))


def test_poses_of_the_old_time_that_are_still_under_way_are_set_aside():
    step = SECOND // 50
    told, back = T0 + SECOND, 6 * SECOND // 10
    poses = filled(range(T0, told, step))
    poses.set_back(told - back, from_ns=told)
    assert not any(poses.add(late, steady(late)) for late in range(told, told + 5 * step, step))
    assert not len(poses)
    # The first of the new time is earlier than the one before.
    new = range(told - back, told + SECOND, step)
    assert all(poses.add(stamp, steady(stamp)) for stamp in new) and len(poses) == len(new)
    # Odometry whose clock was not set goes on.
    poses.set_back(told, from_ns=told + SECOND)
    assert not poses.add(told + SECOND, steady(told + SECOND))
    assert poses.add(told + 3 * SECOND // 2, steady(told + 3 * SECOND // 2))
