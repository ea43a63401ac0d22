"""Any chain of static and moving links, and poses that no vehicle can reach."""

from __future__ import annotations

import numpy as np
import pytest

from crkd_core import geometry
from crkd_ros.motion.pose_table import PoseTable
from crkd_ros.motion.poses import MotionError
from crkd_ros.motion.transform_tree import TransformTree

SECOND = 10**9
T0 = 1_700_000_000 * SECOND


def turned(x=0.0, y=0.0, z=0.0, yaw=0.0) -> np.ndarray:
    return geometry.pose([x, y, z], geometry.yaw_to_quat_wxyz(yaw))


def odom_T_base(t: float) -> np.ndarray:
    return turned(5 * t, 0.3 * t, 0, 0.1 * t)


def mast(t: float) -> np.ndarray:
    return turned(0.5, 0, 1.5, 0.4 * t)


FOOTPRINT, CAMERA, CORRECTION = turned(z=0.2), turned(0.1, 0, 0.3, 0.2), turned(3, 4, 0, 1.0)


@pytest.fixture
def tree() -> TransformTree:
    """map -> odom -> base_footprint -> base_link -> mast -> camera."""
    tree = TransformTree()
    tree.add("map", "odom", T0, CORRECTION, static=True)
    tree.add("/base_footprint", "base_link", T0, FOOTPRINT, static=True)
    tree.add("mast", "camera", T0, CAMERA, static=True)
    for i in range(21):
        at = T0 + i * SECOND // 20
        tree.add("odom", "base_footprint", at, odom_T_base(i / 20), static=False)
        tree.add("base_link", "mast", at, mast(i / 20), static=False)
    return tree


def test_poses_follow_the_whole_chain(tree) -> None:
    poses = tree.poses("odom")
    assert tree.still("odom") == "map" and len(poses) == 21
    for t in (0.0, 0.25, 1.0):
        want = CORRECTION @ odom_T_base(t) @ FOOTPRINT
        np.testing.assert_allclose(poses.at(T0 + round(t * SECOND)), want, atol=1e-6)


def test_places_move_with_their_links(tree) -> None:
    assert tree.moving("camera") == ["mast"] and tree.moving("base_footprint") == []
    for t in (0.0, 0.125, 0.95):
        at = T0 + round(t * SECOND)
        np.testing.assert_allclose(tree.base_T("CAMERA", at), mast(t) @ CAMERA, atol=1e-4)
    np.testing.assert_allclose(tree.base_T("camera"), mast(1.0) @ CAMERA, atol=1e-6)
    # Down the tree too: a frame above the base.
    np.testing.assert_allclose(tree.base_T("base_footprint"), geometry.invert(FOOTPRINT))
    with pytest.raises(MotionError, match=r"beyond the newest of 21 .*base_link -> mast"):
        tree.base_T("camera", T0 + 2 * SECOND)


def test_a_map_that_corrects_itself_is_not_the_frame_of_motion(tree) -> None:
    tree.add("map", "odom", T0 + SECOND // 2, turned(9, 4, 0, 1.0), static=False)
    assert tree.still("odom") == "odom"
    np.testing.assert_allclose(tree.poses("odom").at(T0), odom_T_base(0) @ FOOTPRINT, atol=1e-9)


def test_two_moving_links_are_joined_where_both_are_known() -> None:
    tree = TransformTree(base="base")
    for i in range(11):
        tree.add("odom", "arm", T0 + i * SECOND // 10, turned(i / 10), static=False)
    for i in range(5, 16):
        tree.add("arm", "base", T0 + i * SECOND // 10, turned(0, i / 10), static=False)
    poses = tree.poses("odom")
    # Each is carried on for 0.1 s.
    assert (poses.stamps - T0).tolist() == [i * SECOND // 10 for i in range(4, 12)]
    np.testing.assert_allclose(poses.at(T0 + SECOND * 3 // 4)[:2, 3], [0.75, 0.75], atol=1e-9)


def test_trees_that_do_not_hang_together_and_circles_are_errors() -> None:
    tree = TransformTree()
    tree.add("a", "b", T0, np.eye(4), static=True)
    tree.add("b", "a", T0, np.eye(4), static=True)
    with pytest.raises(MotionError, match=r"no transform from base_link to 'b'; known .* a, b"):
        tree.base_T("b")
    assert len(tree.poses("odom")) == 0
    # Of two parents the one that is named more often counts.
    for parent, count in (("old", 1), ("base_link", 3)):
        for i in range(count):
            tree.add(parent, "cam", T0 + i, turned(1.0), static=False)
    np.testing.assert_allclose(tree.base_T("cam"), turned(1.0))


def table(*xs: float, step=SECOND // 20) -> PoseTable:
    poses = PoseTable()
    for i, x in enumerate(xs):
        poses.add(T0 + i * step, turned(x))
    return poses


def test_poses_that_no_vehicle_can_reach_are_left_out() -> None:
    steady = [0.5 * i for i in range(40)]
    for place in (5, 20, 38):
        wrong = list(steady)
        wrong[place] += 1000
        poses = table(*wrong)
        assert (len(poses), poses.outliers, poses.leaps) == (39, 1, [])
        got = poses.at(T0 + place * SECOND // 20)
        np.testing.assert_allclose(got[0, 3], steady[place], atol=1e-6)
    burst = [x + 500 * (10 <= i < 14) for i, x in enumerate(steady)]
    assert table(*burst).outliers == 4


def test_a_map_that_jumps_for_good_joins_nothing_across() -> None:
    poses = table(*[0.5 * i + 200 * (i >= 20) for i in range(40)])
    after = T0 + 20 * SECOND // 20
    assert poses.leaps == [after] and poses.outliers == 0
    assert poses.at(after - SECOND // 40) is None and poses.at(after - SECOND // 20) is not None
    with pytest.raises(MotionError, match="the ego pose jumped between"):
        poses.ego_T_ego(after - SECOND // 20, after)
    moved = poses.ego_T_ego(after, after + SECOND // 20)
    np.testing.assert_allclose(moved[:3, 3], [-0.5, 0, 0], atol=1e-9)


def test_known_is_what_at_answers() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        stamps = T0 + np.unique(rng.integers(0, 5 * SECOND, rng.integers(0, 9)))
        poses = PoseTable()
        for stamp in stamps.tolist():
            poses.add(stamp, turned(300.0 * rng.integers(0, 2)))
        asked = T0 + rng.integers(-SECOND // 5, 5 * SECOND + SECOND // 5, 200)
        asked = np.concatenate([asked, stamps, stamps + 1])
        want = [poses.at(int(stamp)) is not None for stamp in asked]
        np.testing.assert_array_equal(poses.known(asked), want)


def test_composed_tables_are_the_products() -> None:
    poses = PoseTable()
    for i in range(10):
        poses.add(T0 + i * SECOND // 10, odom_T_base(i / 10))
    left, right = turned(1, 2, 3, 0.5), turned(-1, 0.5, 0.2, -2.0)
    both = poses.composed(left=left, right=right)
    for i in range(10):
        at = T0 + i * SECOND // 10
        np.testing.assert_allclose(both.at(at), left @ odom_T_base(i / 10) @ right, atol=1e-9)


def test_what_moves_without_stamps_is_known_at_no_time() -> None:
    tree = TransformTree()
    for x in (0.0, 1.0):
        tree.add("base_link", "mast", 0, turned(x), static=False)
    for stamp in (None, T0):
        with pytest.raises(
            MotionError, match=r"base_link -> mast on /tf: it moves, and its .* no"
        ):
            tree.base_T("mast", stamp)
