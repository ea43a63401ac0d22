"""TfMotion over the real tf2, where ROS 2 is installed."""

from __future__ import annotations

import numpy as np
import pytest

tf2_ros = pytest.importorskip("tf2_ros")

from rclpy.duration import Duration  # noqa: E402
from rclpy.time import Time  # noqa: E402

from crkd_core import geometry  # noqa: E402
from crkd_ros.convert import arrays, ros_packages  # noqa: E402
from crkd_ros.motion.pose_buffer import PoseBuffer  # noqa: E402
from crkd_ros.motion.poses import MotionError  # noqa: E402
from crkd_ros.motion.tf_tree import TfMotion  # noqa: E402

SECOND = 1_000_000_000
T0 = 1_700_000_000 * SECOND
STEP = SECOND // 20

ROOF = geometry.pose([1.0, 0, 1.6], geometry.yaw_to_quat_wxyz(0.4))
CAMERA = geometry.pose([0.2, 0.1, 0], [0.5, -0.5, 0.5, -0.5])


def drive(stamp_ns: int) -> np.ndarray:
    t = (stamp_ns - T0) / SECOND
    return geometry.pose([50 + 9 * t, 90 - 2 * t, 0], geometry.yaw_to_quat_wxyz(0.3 * t))


def stamped(parent: str, child: str, pose: np.ndarray, stamp_ns: int = 0):
    message = ros_packages.message_class("geometry_msgs/msg/TransformStamped")()
    message.header.frame_id, message.child_frame_id = parent, child
    message.header.stamp = Time(nanoseconds=stamp_ns).to_msg()
    place, turn = message.transform.translation, message.transform.rotation
    place.x, place.y, place.z = (float(value) for value in pose[:3, 3])
    turn.w, turn.x, turn.y, turn.z = (
        float(value) for value in geometry.matrix_to_quat_wxyz(pose[:3, :3])
    )
    return message


@pytest.fixture
def buffer():
    buffer = tf2_ros.Buffer()
    buffer.set_transform_static(stamped("base_link", "roof", ROOF), "test")
    buffer.set_transform_static(stamped("roof", "cam_front", CAMERA), "test")
    for stamp in range(T0, T0 + SECOND + 1, STEP):
        buffer.set_transform(stamped("odom", "base_link", drive(stamp), stamp), "test")
    return buffer


def motion(buffer, **changes) -> TfMotion:
    return TfMotion(
        buffer=buffer,
        time=lambda stamp_ns: Time(nanoseconds=stamp_ns),
        timeout=Duration(seconds=0.05),
        error=ros_packages.tf_error(),
        stamped_to_matrix=arrays.transform_matrix,
        **changes,
    )


def test_it_answers_as_the_calibration_and_the_pose_buffer_do(buffer):
    tf, poses = motion(buffer), PoseBuffer()
    np.testing.assert_allclose(tf.base_T("cam_front"), ROOF @ CAMERA, atol=1e-9)
    np.testing.assert_allclose(tf.base_T("/cam_front"), ROOF @ CAMERA, atol=1e-9)
    for stamp in range(T0, T0 + SECOND + 1, STEP):
        poses.add(stamp, drive(stamp))
    for stamp in (T0, T0 + SECOND // 3, T0 + SECOND):
        np.testing.assert_allclose(tf.pose(stamp), poses.pose(stamp), atol=1e-6)
        np.testing.assert_allclose(
            tf.ego_T_ego(stamp, T0 + SECOND), poses.ego_T_ego(stamp, T0 + SECOND), atol=1e-6
        )


def test_what_is_missing_is_an_error_that_says_what_to_do(buffer):
    with pytest.raises(MotionError, match=r"base_link <- radar_front.*view_frames"):
        motion(buffer).base_T("radar_front")
    with pytest.raises(MotionError, match=r"odom <- base_link.*publisher alive"):
        motion(buffer).pose(T0 + 2 * SECOND)
    with pytest.raises(MotionError, match=r"base_link over map"):
        motion(buffer, fixed="map").ego_T_ego(T0, T0 + SECOND)
    buffer.set_transform_static(stamped("island", "cam_back", CAMERA), "test")
    with pytest.raises(MotionError, match=r"two trees"):
        motion(buffer).base_T("cam_back")


def test_a_new_calibration_is_used_and_reported(buffer):
    said: list[str] = []
    now = [0.0]
    tf = motion(buffer, clock=lambda: now[0], report=said.append)
    tf.base_T("cam_front")
    moved = ROOF @ geometry.pose([0, 0, 0.05], [1, 0, 0, 0])
    buffer.set_transform_static(stamped("base_link", "roof", moved), "test")
    np.testing.assert_allclose(tf.base_T("cam_front"), ROOF @ CAMERA, atol=1e-9)
    now[0] = 1.1
    np.testing.assert_allclose(tf.base_T("cam_front"), moved @ CAMERA, atol=1e-9)
    assert said == [
        "the calibration of cam_front changed by 0.050 m and 0.00 degrees; the new one is used "
        "from now on"
    ]


def test_after_time_was_set_back_sensors_stay_and_motion_is_forgotten(buffer):
    tf = motion(buffer)
    tf.clear()
    np.testing.assert_allclose(tf.base_T("cam_front"), ROOF @ CAMERA, atol=1e-9)
    with pytest.raises(MotionError):
        tf.pose(T0 + SECOND // 2)
    earlier = T0 - 100 * SECOND
    for stamp in (earlier, earlier + STEP):
        buffer.set_transform(stamped("odom", "base_link", drive(stamp), stamp), "test")
    np.testing.assert_allclose(tf.pose(earlier), drive(earlier), atol=1e-6)


def test_a_node_listens_and_stops_listening():
    rclpy = pytest.importorskip("rclpy")
    rclpy.init()
    try:
        node = rclpy.create_node("tf_listener_of_a_test")
        buffer = ros_packages.tf_buffer(node)
        topics = {subscription.topic_name for subscription in node.subscriptions}
        assert {"/tf", "/tf_static"} <= topics
        ros_packages.close_tf(node, buffer)
        topics = {subscription.topic_name for subscription in node.subscriptions}
        assert not {"/tf", "/tf_static"} & topics
        # Configured again, as a lifecycle node may be.
        ros_packages.close_tf(node, ros_packages.tf_buffer(node))
        node.destroy_node()
    finally:
        rclpy.try_shutdown()
