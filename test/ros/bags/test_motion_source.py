"""Ego motion of a bag: from the source that knows the drive, along any tree, and said which."""

from __future__ import annotations

import numpy as np
import pytest
import rig_bags
import ros_rig
from rig_bags import IMAGE, SECOND, START, tf_message

from crkd_core import geometry
from crkd_core.sensors import CAMERAS
from crkd_ros.bags import survey
from crkd_ros.bags.foreign.conversion import convert_bag
from crkd_ros.bags.frames import BagProblem, Recording
from crkd_ros.bags.info import describe
from crkd_ros.bags.message_types import make
from crkd_ros.calibration_check.drive import check_bag
from crkd_ros.convert import box_messages
from crkd_ros.convert.arrays import stamp_ns
from crkd_ros.motion.twists import contradiction
from crkd_ros.parameters.framing import FramingConfig, MotionConfig

FOOTPRINT = geometry.pose([0.3, 0, 0.2], [1, 0, 0, 0])


def taken(path, **options):
    """(name of the source, its sentences, the frames)."""
    problems: list[BagProblem] = []
    with Recording(path, **options) as recording:
        found = list(recording.frames(IMAGE, problems=problems))
        return recording.source.taken.name, " | ".join(recording.sentences()), found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The frames of the drive as it is: odometry of base_link at every sensor's stamp."""
    path = rig_bags.write(tmp_path_factory.mktemp("whole") / "bag")
    return taken(path)[2]


def same_motion(found, whole, atol=1e-6) -> None:
    """Frames see the world alike, wherever their map begins."""
    others = {frame.stamp_ns: frame for frame in whole}
    assert len(found) >= len(whole) - 1
    for frame in found:
        other = others[frame.stamp_ns]
        np.testing.assert_allclose(frame.ego_T_cam, other.ego_T_cam, atol=atol)
        np.testing.assert_allclose(frame.radar[:, :3], other.radar[:, :3], atol=10 * atol + 1e-4)


def wheels(stamp: int):
    return tf_message("base_link", {f"wheel_{i}": FOOTPRINT for i in range(4)}, stamp)


def test_wheels_on_tf_do_not_displace_odometry(tmp_path, whole) -> None:
    def change(topic, message, number):
        yield topic, message
        if topic == "/odom":  # More messages than odometry has.
            for _ in range(2):
                yield "/tf", wheels(stamp_ns(message.header.stamp))

    bag = rig_bags.write(tmp_path / "bag", change)
    name, said, found = taken(bag)
    assert name == "/odom" and "100 % of the sensors' stamps" in said
    same_motion(found, whole)
    assert describe(bag, progress=False).motion.taken.name == "/odom"


def test_the_source_that_covers_the_drive_is_taken(tmp_path, whole) -> None:
    """Odometry that stops after a third; another one and /tf go on."""

    def change(topic, message, number):
        if topic != "/odom":
            yield topic, message
            return
        stamp = stamp_ns(message.header.stamp)
        if number < 40:
            yield topic, message
        yield "/localization/odometry", message
        if number % 3:
            pose = ros_rig.map_T_base(stamp)
            yield "/tf", tf_message("map", {"base_link": pose}, stamp)

    bag = rig_bags.write(tmp_path / "bag", change)
    name, said, found = taken(bag)
    assert name == "/localization/odometry", said
    assert "not taken: /odom (40 poses, known for" in said and "/tf (map -> base_link)" in said
    same_motion(found, whole)
    by_tf = FramingConfig(motion=MotionConfig(source="tf"))
    name, said, found = taken(bag, framing=by_tf)
    assert name == "/tf (map -> base_link)"
    same_motion(found, whole, atol=2e-3)
    named = taken(bag, topics={"odometry": "/odom"})
    assert named[0] == "/odom" and len(named[2]) < len(whole) - 4


@pytest.mark.parametrize("child", ["base_footprint", "imu"])
def test_odometry_may_speak_of_another_frame_of_the_vehicle(tmp_path, whole, child) -> None:
    """Of one above the base (base_footprint) or below it; live, replayed and converted alike."""

    def change(topic, message, number):
        if topic == "/tf_static":
            yield topic, message
            if child == "imu":
                yield topic, tf_message("base_link", {"imu": FOOTPRINT}, START)
            else:
                inverse = {"base_link": geometry.invert(FOOTPRINT)}
                yield topic, tf_message("base_footprint", inverse, START)
            return
        if topic == "/odom":
            pose = ros_rig.map_T_base(stamp_ns(message.header.stamp)) @ FOOTPRINT
            message.child_frame_id = child
            message.pose.pose = rig_bags.box_messages.pose_of(pose, make)
        yield topic, message

    bag = rig_bags.write(tmp_path / "bag", change)
    same_motion(taken(bag)[2], whole)
    convert_bag(bag, tmp_path / "out", kind=rig_bags.ROS2, progress=False)
    same_motion(taken(tmp_path / "out")[2], whole, atol=1e-5)


def test_motion_and_places_follow_any_chain_of_static_and_moving_links(tmp_path) -> None:
    """map -> odom -> base_footprint -> base_link -> mast -> camera; the mast turns."""
    camera = "CAM_FRONT"
    own = ros_rig.extrinsics()[camera]

    def mast(stamp: int) -> np.ndarray:
        yaw = 0.5 * np.sin((stamp - START) / SECOND)
        return geometry.pose([1.0, 0, 1.5], geometry.yaw_to_quat_wxyz(yaw))

    mast_T_camera = geometry.invert(mast(START)) @ own
    drift = geometry.pose([5, -3, 0], geometry.yaw_to_quat_wxyz(0.4))

    def change(topic, message, number):
        if topic == "/tf_static":
            places = ros_rig.extrinsics()
            del places[camera]
            yield topic, rig_bags.static_tf(places)
            yield topic, tf_message("mast", {camera.lower(): mast_T_camera}, START)
            inverse = geometry.invert(FOOTPRINT)
            yield topic, tf_message("base_footprint", {"base_link": inverse}, START)
            yield topic, tf_message("map", {"odom": drift}, START)
        elif topic == "/odom":
            stamp = stamp_ns(message.header.stamp)
            moved = geometry.invert(drift) @ ros_rig.map_T_base(stamp) @ FOOTPRINT
            yield "/tf", tf_message("odom", {"base_footprint": moved}, stamp)
            yield "/tf", tf_message("base_link", {"mast": mast(stamp)}, stamp)
        else:
            yield topic, message

    bag = rig_bags.write(tmp_path / "bag", change)
    name, _, found = taken(bag)
    assert name == "/tf (map -> base_link)" and len(found) >= 11
    index = CAMERAS.index(camera)
    for path in (bag, tmp_path / "out"):
        if path != bag:
            convert_bag(bag, path, kind=rig_bags.ROS2, progress=False)
            found = taken(path)[2]
        for frame in found:
            stamp = frame.stamp_ns - 34_000_000  # The front camera fires 34 ms earlier.
            then, now = ros_rig.map_T_base(stamp), ros_rig.map_T_base(frame.stamp_ns)
            want = geometry.invert(now) @ then @ mast(stamp) @ mast_T_camera
            np.testing.assert_allclose(frame.ego_T_cam[index], want, atol=1e-3)
            np.testing.assert_allclose(frame.global_T_ego, now, atol=1e-3)
    info = describe(bag, progress=False)
    assert info.sensors[camera].placed and info.moving == len(found) == info.frames


@pytest.mark.parametrize("top", ["base_link", "base_footprint"])
def test_odometry_may_hang_below_the_vehicle(tmp_path, whole, top) -> None:
    """Some publish the inverse, base -> odom: the base then keeps its parent, or has none."""

    def change(topic, message, number):
        if topic == "/odom":
            stamp = stamp_ns(message.header.stamp)
            pose = ros_rig.map_T_base(stamp)
            pose = pose if top == "base_link" else pose @ FOOTPRINT
            yield "/tf", tf_message(top, {"odom": geometry.invert(pose)}, stamp)
            return
        yield topic, message
        if topic == "/tf_static" and top != "base_link":
            yield topic, tf_message(top, {"base_link": geometry.invert(FOOTPRINT)}, START)

    bag = rig_bags.write(tmp_path / "bag", change)
    framing = FramingConfig(motion=MotionConfig(source="tf"))
    name, _, found = taken(bag, framing=framing)
    assert name == "/tf (odom -> base_link)"
    same_motion(found, whole, atol=2e-4)  # The map's origin is 14 km away, seen from the vehicle.
    assert describe(bag, framing=framing, progress=False).moving == len(found)
    convert_bag(bag, tmp_path / "out", kind=rig_bags.ROS2, progress=False)
    same_motion(taken(tmp_path / "out")[2], whole, atol=2e-4)
    other = FramingConfig(motion=MotionConfig(source="tf", fixed_frame="map"))
    assert not taken(bag, framing=other)[2]


def test_what_info_says_is_known_is_what_a_replay_can_use(tmp_path) -> None:
    """Poses that begin late, end early and pause; a sensor without a place."""

    def change(topic, message, number):
        at = (stamp_ns(message.header.stamp) - START) / SECOND if "static" not in topic else 0
        if topic == "/odom" and (at < 0.3 or 1.0 < at < 2.2 or at > 3.2):
            return
        yield topic, message

    bag = rig_bags.write(tmp_path / "bag", change, seconds=4.0)
    info = describe(bag, progress=False)
    found = taken(bag)[2]
    assert info.frames == 48 and 0 < info.moving == len(found) < 36

    def unplaced(topic, message, number):
        if topic == "/tf_static":
            places = ros_rig.extrinsics()
            del places["RADAR_FRONT"]
            message = rig_bags.static_tf(places)
        yield topic, message

    bag = rig_bags.write(tmp_path / "unplaced", unplaced)
    info = describe(bag, progress=False)
    assert info.moving == len(taken(bag)[2]) < info.frames
    assert info.missing == ("the place of radar_front",)


@pytest.mark.parametrize("what", ["world", "km/h"])
def test_a_twist_that_contradicts_its_poses_is_told_and_not_used(tmp_path, whole, what) -> None:
    def change(topic, message, number):
        if topic == "/odom":
            stamp = stamp_ns(message.header.stamp)
            near = ros_rig.map_T_base(stamp + 10_000_000), ros_rig.map_T_base(stamp)
            speed = (near[0] - near[1])[:3, 3] / 0.01
            own = near[1][:3, :3].T @ speed
            linear = message.twist.twist.linear
            linear.x, linear.y, linear.z = speed if what == "world" else 3.6 * own
            message.twist.twist.angular.z = 0.1
        yield topic, message

    name, said, found = taken(rig_bags.write(tmp_path / "bag", change))
    assert name == "/odom" and "its twist contradicts its own poses" in said
    assert ("axes of the world" if what == "world" else "as in km/h") in said
    same_motion(found, whole)


def test_poses_and_transforms_that_cannot_be_read_are_told(tmp_path, whole) -> None:
    def change(topic, message, number):
        if topic == "/odom" and number % 3 == 0:
            message.pose.pose.orientation.w = float("nan")
        if topic == "/tf_static":
            wrong = tf_message("base_link", {"gnss": np.eye(4)}, START)
            wrong.transforms[0].transform.rotation.w = 0.0
            yield topic, wrong
        yield topic, message

    bag = rig_bags.write(tmp_path / "bag", change)
    name, said, found = taken(bag)
    assert name == "/odom"
    assert "/odom: 46 messages cannot be used: not a pose: expected a finite quaternion" in said
    assert "/tf_static: 1 messages cannot be used: transform of gnss: not a pose" in said
    same_motion(found, whole, atol=1e-3)
    told = check_bag(bag, frames=2, framing=FramingConfig()).troubles
    assert [one.split(":")[0] for one in told] == ["/odom", "/tf_static"]


def test_a_drive_that_stands_for_long_is_looked_at_to_its_end(monkeypatch) -> None:
    monkeypatch.setattr(survey, "_TWISTS", 100)
    log = survey.OdometryLog()
    for i in range(1000):
        stamp, seconds = START + i * SECOND // 50, max(0, i - 600) / 50
        message = ros_rig.odometry(make, stamp)
        pose = geometry.pose([10 * seconds, 0, 0], [1, 0, 0, 0])
        message.pose.pose = box_messages.pose_of(pose, make)
        message.twist.twist.linear.x = 36.0 if seconds else 0.01
        log.take(message, "/odom", stamp)
    frames = log.most()
    twists = log.twists[frames].kept
    assert 50 <= len(twists) < 100
    assert np.ptp(np.diff([stamp for stamp, _ in twists])) == 0
    assert "as in km/h" in contradiction(log.tables[frames], twists)


def test_odometry_that_is_a_twist_alone_is_told(tmp_path) -> None:
    def change(topic, message, number):
        if topic == "/odom":
            rest = ros_rig.odometry(make, START)
            rest.header = message.header
            for part in (rest.pose.pose.position, rest.pose.pose.orientation):
                part.x = part.y = part.z = 0.0
            rest.pose.pose.orientation.w = 1.0
            # It stands at first, and then drives.
            rest.twist.twist.linear.x = 0.01 if number < 70 else 10.0
            message = rest
        yield topic, message

    _, said, _ = taken(rig_bags.write(tmp_path / "bag", change))
    assert "its twist contradicts its own poses, which are believed: they stand still" in said


@pytest.mark.parametrize("told", ["clockwise from north", "not at all"])
def test_a_heading_of_another_convention_is_said(told, tmp_path):
    def change(topic, message, number):
        if topic == "/odom":
            pose = ros_rig.map_T_base(stamp_ns(message.header.stamp))
            yaw = np.pi / 2 - geometry.yaw_of(pose) if told == "clockwise from north" else 0.0
            wrong = geometry.pose(pose[:3, 3], geometry.yaw_to_quat_wxyz(yaw))
            message.pose.pose = box_messages.pose_of(wrong, make)
        yield topic, message

    _, said, _ = taken(rig_bags.write(tmp_path / "bag", change, seconds=0.5))
    assert "degrees off its own x axis, which is forward; is its heading of another" in said
    _, said, _ = taken(rig_bags.write(tmp_path / "right", seconds=0.5))
    assert "off its own x axis" not in said
