"""Whatever odometry and transforms say: finite poses, or errors that say what is wrong."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_core.geometry import GeometryError
from crkd_ros.convert import arrays
from crkd_ros.convert.arrays import ConvertError
from crkd_ros.motion.calibration_file import Calibration
from crkd_ros.motion.odometry import OdometryMotion
from crkd_ros.motion.pose_table import PoseTable
from crkd_ros.motion.poses import MotionError
from crkd_ros.motion.transform_tree import TransformTree

START = 1_700_000_000_000_000_000
NUMBERS = st.one_of(st.floats(), st.floats(-50, 50), st.sampled_from([0.0, 1.0, 1e300, -1e-300]))
STAMPS = st.one_of(
    st.integers(0, 3_000_000_000).map(lambda one: START + one),
    st.integers(0, 2**31 * 1_000_000_000 - 1),
    st.just(0),
)
FRAMES = st.sampled_from(["map", "odom", "base_link", "/base_link", "imu", "mast", ""])


@st.composite
def message(draw):
    """One pose as messages have it, with the names of both of its frames."""
    three = [SimpleNamespace(**{a: draw(NUMBERS) for a in "xyz"}) for _ in range(3)]
    turn = SimpleNamespace(**{a: draw(NUMBERS) for a in "xyzw"})
    seconds, rest = divmod(draw(STAMPS), 1_000_000_000)
    stamp = SimpleNamespace(sec=seconds, nanosec=rest)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=stamp, frame_id=draw(FRAMES)),
        child_frame_id=draw(FRAMES),
        transform=SimpleNamespace(translation=three[0], rotation=turn),
        pose=SimpleNamespace(pose=SimpleNamespace(position=three[0], orientation=turn)),
        twist=SimpleNamespace(twist=SimpleNamespace(linear=three[1], angular=three[2])),
    )


@settings(max_examples=300, deadline=None, derandomize=True)
@given(messages=st.lists(message(), min_size=1, max_size=8), asked=st.lists(STAMPS, max_size=4))
def test_any_messages_give_finite_poses_or_errors(messages, asked) -> None:
    live, table, tree = OdometryMotion(extrinsics=Calibration()), PoseTable("t"), TransformTree()
    for one in messages:
        stamp = arrays.stamp_ns(one.header.stamp)
        try:
            pose = arrays.odometry_pose(one)
            assert np.isfinite(pose).all()
            np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-6)
            twist = arrays.odometry_twist(one)
            live.add(
                stamp, pose, parent=one.header.frame_id, child=one.child_frame_id, twist=twist
            )
            table.add(stamp, pose)
            frames = one.header.frame_id, one.child_frame_id
            tree.add(*frames, stamp, arrays.transform_matrix(one), static=stamp % 2 == 0)
        except ConvertError as error:
            assert "\n" not in str(error)
    with np.errstate(over="ignore", invalid="ignore"):
        for stamp in asked:
            for ask in (live.pose, table.pose, lambda at: tree.base_T("mast", at)):
                try:
                    answer = ask(stamp)
                except (MotionError, GeometryError) as error:
                    assert str(error)
                else:
                    assert answer is None or answer.shape == (4, 4)
        assert len(table.known(np.array(asked, np.int64))) == len(asked)
        for fixed in ("odom", "map"):
            tree.poses(fixed)
