import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from crkd_core import geometry
from crkd_core.boxes import BoxError, Boxes, Detections
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES

numbers = st.floats(-10, 10, allow_nan=False)
quats = st.tuples(numbers, numbers, numbers, numbers).filter(lambda q: np.linalg.norm(q) > 1e-3)
points = st.tuples(numbers, numbers, numbers)


@settings(deadline=None)
@given(q=quats)
def test_quaternions_agree_with_scipy_and_come_back(q):
    matrix = geometry.quat_wxyz_to_matrix(q)
    oracle = Rotation.from_quat(geometry.quat_wxyz_to_xyzw(q))
    np.testing.assert_allclose(matrix, oracle.as_matrix(), atol=1e-12)
    back = geometry.matrix_to_quat_wxyz(matrix)
    assert back[0] >= 0
    np.testing.assert_allclose(geometry.quat_wxyz_to_matrix(back), matrix, atol=1e-9)


@settings(deadline=None)
@given(q=quats, t=points, p=points)
def test_invert_undoes_apply(q, t, p):
    a_T_b = geometry.pose(t, q)
    there = geometry.apply(a_T_b, p)
    np.testing.assert_allclose(geometry.apply(geometry.invert(a_T_b), there), p, atol=1e-9)


@settings(deadline=None)
@given(q=quats, t=points, p=st.lists(st.tuples(*[st.floats(-200, 200)] * 3), max_size=5))
def test_large_clouds_move_as_single_points_do(q, t, p):
    cloud = np.array(p, np.float32).reshape(-1, 3)
    moved = geometry.apply_float32(geometry.pose(t, q), cloud)
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved, geometry.apply(geometry.pose(t, q), cloud), atol=1e-4)


@settings(deadline=None)
@given(q0=quats, q1=quats, fraction=st.floats(0, 1))
def test_interpolation_agrees_with_scipy(q0, q1, fraction):
    a, b = geometry.pose([0, 0, 0], q0), geometry.pose([1, 2, 3], q1)
    if np.trace(a[:3, :3].T @ b[:3, :3]) < -0.99:
        return  # opposite orientations: two arcs of the same length
    found = geometry.interpolate(a, b, fraction)
    oracle = Slerp([0, 1], Rotation.from_matrix([a[:3, :3], b[:3, :3]]))(fraction)
    np.testing.assert_allclose(found[:3, :3], oracle.as_matrix(), atol=1e-6)
    np.testing.assert_allclose(found[:3, 3], fraction * np.array([1, 2, 3]), atol=1e-12)


def test_quaternion_orders_are_named_by_both_ends():
    np.testing.assert_array_equal(geometry.quat_wxyz_to_xyzw([1, 2, 3, 4]), [2, 3, 4, 1])
    np.testing.assert_array_equal(geometry.quat_xyzw_to_wxyz([2, 3, 4, 1]), [1, 2, 3, 4])
    np.testing.assert_array_equal(geometry.wlh_to_lwh([2, 4, 1]), [4, 2, 1])


def test_zero_quaternion_and_nan_translation_are_refused():
    with pytest.raises(geometry.GeometryError, match="non-zero length"):
        geometry.quat_wxyz_to_matrix([0, 0, 0, 0])
    with pytest.raises(geometry.GeometryError, match="finite translation"):
        geometry.pose([np.nan, 0, 0], [1, 0, 0, 0])


def a_box(yaw=0.0):
    return Boxes(
        center=np.array([[10.0, 2.0, 1.0]]),
        size=np.array([[4.0, 2.0, 1.5]]),
        yaw=np.array([yaw]),
        velocity=np.array([[5.0, 0.0]]),
        label=np.array([0]),
        classes=NUSCENES_CLASSES,
    )


@settings(deadline=None)
@given(yaw=st.floats(-3, 3), turn=st.floats(-3, 3), t=points)
def test_moving_a_box_moves_its_corners(yaw, turn, t):
    a_T_b = geometry.pose(t, geometry.yaw_to_quat_wxyz(turn))
    boxes = a_box(yaw)
    np.testing.assert_allclose(
        boxes.transformed(a_T_b).corners(), geometry.apply(a_T_b, boxes.corners()), atol=1e-9
    )
    speed = np.linalg.norm(boxes.transformed(a_T_b).velocity)
    assert speed == pytest.approx(5.0)


def test_contains_agrees_with_the_corners():
    boxes = a_box(0.7)
    corners = boxes.corners()[0]
    inside = boxes.center + 0.999 * (corners - boxes.center)
    outside = boxes.center + 1.001 * (corners - boxes.center)
    assert boxes.contains(inside).all()
    assert not boxes.contains(outside).any()


def test_mismatched_arrays_are_refused():
    with pytest.raises(BoxError, match=r"Boxes.yaw: expected shape \(1,\)"):
        Boxes(
            center=np.zeros((1, 3)),
            size=np.ones((1, 3)),
            yaw=np.zeros(2),
            velocity=np.zeros((1, 2)),
            label=np.zeros(1, int),
            classes=NUSCENES_CLASSES,
        )


def test_empty_boxes_have_every_field():
    assert len(Detections.empty(NUSCENES_CLASSES)) == 0
    assert Detections.empty(NUSCENES_CLASSES).score.shape == (0,)
