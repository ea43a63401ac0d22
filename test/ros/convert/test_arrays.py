"""Messages to arrays, of rclpy and of rosbags; one set of messages to a Frame."""

from __future__ import annotations

import numpy as np
import pytest
import ros_rig
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_core import geometry
from crkd_core.config import ImageConfig
from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros import frames
from crkd_ros.bags import message_types
from crkd_ros.convert import arrays
from crkd_ros.convert.arrays import ConvertError
from crkd_ros.convert.camera_model import CameraModel, PreparedImage, prepared_image
from crkd_ros.convert.radar_clouds import Sweep
from crkd_ros.motion.pose_buffer import PoseBuffer
from crkd_ros.motion.poses import MotionError, NoMotion
from crkd_ros.sync.history import Timed
from crkd_ros.sync.synchroniser import FrameSet

STAMP = 1_700_000_000_123_456_789
IMAGE = ImageConfig(height=64, width=160, zoom=1.0)


@settings(deadline=None)
@given(st.integers(1, 2**31 * 10**9 - 1))
def test_stamps_keep_every_nanosecond(stamp):
    fields = arrays.stamp_fields(stamp)
    assert 0 <= fields["nanosec"] < 10**9
    made = message_types.make("builtin_interfaces/msg/Time", **fields)
    assert arrays.stamp_ns(made) == stamp


def test_poses_keep_quaternion_order(make):
    want = ros_rig.map_T_base(STAMP)
    got = arrays.odometry_pose(ros_rig.odometry(make, STAMP))
    np.testing.assert_allclose(got, want, atol=1e-9)
    half = np.sqrt(0.5)
    transform = make(
        "geometry_msgs/msg/TransformStamped",
        transform=make(
            "geometry_msgs/msg/Transform",
            translation=make("geometry_msgs/msg/Vector3", x=1.0, y=2.0, z=3.0),
            rotation=make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=half, w=half),
        ),
    )
    matrix = arrays.transform_matrix(transform)
    np.testing.assert_allclose(geometry.apply(matrix, [1, 0, 0]), [1, 3, 3], atol=1e-12)
    transform.transform.rotation.z = transform.transform.rotation.w = 0.0
    with pytest.raises(ConvertError, match="not a pose"):
        arrays.transform_matrix(transform)


def item(camera, seed=0):
    message = ros_rig.compressed_image(message_types.make, camera, STAMP, seed=seed)
    return prepared_image(message, CameraModel.pinhole(ros_rig.INTRINSICS), IMAGE, camera=camera)


def test_a_frame_of_a_set_is_seen_from_its_reference_time():
    poses, rig = PoseBuffer(), ros_rig.extrinsics()
    old, older = STAMP - 40_000_000, STAMP - 90_000_000
    for stamp in (older, old, STAMP):
        poses.add(stamp, ros_rig.map_T_base(stamp))
    images = {"CAM_BACK_LEFT": Timed(STAMP, item("CAM_BACK_LEFT"))}
    images["CAM_FRONT"] = Timed(old, item("CAM_FRONT", 1))
    sweeps = {
        "RADAR_BACK_LEFT": (
            Timed(old, Sweep(points=ros_rig.radar_points(1), frame_id="radar_back_left")),
            Timed(older, Sweep(points=ros_rig.radar_points(2), frame_id="RADAR_BACK_LEFT")),
        ),
        "RADAR_FRONT": (
            Timed(STAMP, Sweep(points=np.zeros((0, 18), "f4"), frame_id="radar_front")),
        ),
    }
    frame_set = FrameSet(stamp_ns=STAMP, trigger="CAM_BACK_LEFT", images=images, sweeps=sweeps)
    frame = frames.frame_from_set(
        frame_set, extrinsics=ros_rig.calibration(), motion=poses, image=IMAGE, token="t"
    )
    assert (frame.stamp_ns, frame.token, frame.prepared) == (STAMP, "t", IMAGE)
    present = [CAMERAS[i] for i in np.flatnonzero(frame.camera_present)]
    assert present == ["CAM_FRONT", "CAM_BACK_LEFT"]
    radars = [RADARS[i] for i in np.flatnonzero(frame.radar_present)]
    assert radars == ["RADAR_FRONT", "RADAR_BACK_LEFT"]
    np.testing.assert_allclose(frame.global_T_ego, ros_rig.map_T_base(STAMP))

    # A point that the front camera sees lies, over the map, where the camera was at ITS time.
    point = np.array([1.0, -0.5, 12.0])
    over_map = geometry.apply(ros_rig.map_T_base(old) @ rig["CAM_FRONT"], point)
    in_ego = geometry.apply(frame.ego_T_cam[CAMERAS.index("CAM_FRONT")], point)
    np.testing.assert_allclose(geometry.apply(frame.global_T_ego, in_ego), over_map, atol=1e-6)

    assert len(frame.radar) == 80
    np.testing.assert_allclose(frame.radar[[0, 40], 18], [0.04, 0.09], rtol=1e-5)
    assert set(frame.radar[:, 19]) == {RADARS.index("RADAR_BACK_LEFT")}
    first = ros_rig.radar_points(2)[0]
    map_T_radar = ros_rig.map_T_base(older) @ rig["RADAR_BACK_LEFT"]
    velocity = geometry.rotate(map_T_radar, [*first[8:10], 0.0])
    moved = geometry.apply(map_T_radar, first[:3]) + velocity * 0.09
    got = geometry.apply(frame.global_T_ego, frame.radar[40, :3])
    np.testing.assert_allclose(got, moved, atol=1e-3)


def test_a_missing_transform_or_pose_is_an_error_not_the_identity():
    calibration = ros_rig.calibration()
    odd = PreparedImage(pixels=item("CAM_FRONT").pixels, intrinsics=np.eye(3), frame_id="roof")
    frame_set = FrameSet(
        stamp_ns=STAMP, trigger="CAM_FRONT", images={"CAM_FRONT": Timed(STAMP, odd)}, sweeps={}
    )
    with pytest.raises(MotionError, match="no static transform from base_link to 'roof'"):
        frames.frame_from_set(frame_set, extrinsics=calibration, motion=NoMotion(), image=IMAGE)
    known = FrameSet(
        stamp_ns=STAMP,
        trigger="CAM_FRONT",
        images={"CAM_FRONT": Timed(STAMP, item("CAM_FRONT"))},
        sweeps={},
    )
    with pytest.raises(MotionError, match="no ego pose"):
        frames.frame_from_set(known, extrinsics=calibration, motion=PoseBuffer(), image=IMAGE)
    frame = frames.frame_from_set(known, extrinsics=calibration, motion=NoMotion(), image=IMAGE)
    assert frame.global_T_ego is None
    np.testing.assert_array_equal(frame.ego_T_cam[0], ros_rig.extrinsics()["CAM_FRONT"])
