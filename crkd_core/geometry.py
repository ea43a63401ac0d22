"""Rigid transforms and quaternions, float64, named by both ends.

``a_T_b`` is the 4x4 matrix that takes homogeneous points of frame ``b`` to frame ``a``. Frames
follow REP-103: x forward, y left, z up for the vehicle (``ego`` = ``base_link``); z forward, x
right, y down for a camera. Angles are radians, counter-clockwise from +x.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class GeometryError(ValueError):
    """A value that cannot be a rotation, a pose or a set of points."""


def quat_wxyz_to_xyzw(quat: ArrayLike) -> Array:
    """nuScenes order to ROS order. [..., 4] -> [..., 4]."""
    return np.asarray(quat, np.float64)[..., [1, 2, 3, 0]]


def quat_xyzw_to_wxyz(quat: ArrayLike) -> Array:
    """ROS order to nuScenes order. [..., 4] -> [..., 4]."""
    return np.asarray(quat, np.float64)[..., [3, 0, 1, 2]]


def quat_wxyz_to_matrix(quat: ArrayLike) -> Array:
    """Rotation matrices of quaternions (w, x, y, z), normalised first. [..., 4] -> [..., 3, 3].

    Raises:
        GeometryError: a quaternion of length zero or with non-finite parts.
    """
    q = np.asarray(quat, np.float64)
    norm = np.linalg.norm(q, axis=-1, keepdims=True)
    if q.shape[-1:] != (4,) or not np.all(np.isfinite(norm)) or np.any(norm < 1e-9):
        raise GeometryError(
            f"expected finite quaternions [..., 4] of non-zero length, got {quat!r}"
        )
    rows = _rows(*np.moveaxis(q / norm, -1, 0))
    return np.stack([np.stack(row, -1) for row in rows], -2)


def _rows(w: Any, x: Any, y: Any, z: Any) -> list[list[Any]]:
    """Rotation matrix of a unit quaternion, of numbers or of arrays."""
    return [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]


def quat_wxyz_to_yaw(quat: ArrayLike) -> Array:
    """Heading of the turned x axis, radians, as by ``quat_wxyz_to_matrix``. [..., 4] -> [...].

    Raises:
        GeometryError: a quaternion of length zero or with non-finite parts.
    """
    q = np.asarray(quat, np.float64)
    norm = np.linalg.norm(q, axis=-1, keepdims=True)
    if q.shape[-1:] != (4,) or not np.all(np.isfinite(norm)) or np.any(norm < 1e-9):
        raise GeometryError(
            f"expected finite quaternions [..., 4] of non-zero length, got {quat!r}"
        )
    w, x, y, z = np.moveaxis(q / norm, -1, 0)
    return np.asarray(np.arctan2(2 * (x * y + w * z), 1 - 2 * (y * y + z * z)))


def matrix_to_quat_wxyz(rotation: ArrayLike) -> Array:
    """Unit quaternion (w, x, y, z), w >= 0, of one rotation matrix. [3, 3] -> [4]."""
    m = np.asarray(rotation, np.float64)
    # The largest of the four squared components is chosen, so the division is never by ~0.
    squares = 1 + np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) @ np.diag(m)
    k = int(np.argmax(squares))
    w_row = [squares[0], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]]
    x_row = [w_row[1], squares[1], m[1, 0] + m[0, 1], m[0, 2] + m[2, 0]]
    y_row = [w_row[2], x_row[2], squares[2], m[2, 1] + m[1, 2]]
    z_row = [w_row[3], x_row[3], y_row[3], squares[3]]
    q = np.array([w_row, x_row, y_row, z_row][k]) / (2 * np.sqrt(squares[k]))
    q /= np.linalg.norm(q)
    return -q if q[0] < 0 else q


def yaw_to_quat_wxyz(yaw: ArrayLike) -> Array:
    """Quaternions (w, x, y, z) of turns about +z. [...] -> [..., 4]."""
    half = np.asarray(yaw, np.float64) / 2
    zero = np.zeros_like(half)
    return np.stack([np.cos(half), zero, zero, np.sin(half)], -1)


def pose(translation: Sequence[float] | Array, quat_wxyz: Sequence[float] | Array) -> Array:
    """``parent_T_child`` from the child's origin in the parent and its orientation. -> [4, 4].

    Raises:
        GeometryError: not three finite numbers, or not four of a length other than zero.
    """
    # Odometry comes a hundred times a second: plain numbers are ten times as fast as small arrays.
    try:
        w, x, y, z = map(float, quat_wxyz)
        origin = [*map(float, translation)]
    except (TypeError, ValueError) as error:
        raise GeometryError(
            f"expected a translation [3] and a quaternion [4], got {translation!r}, {quat_wxyz!r}"
        ) from error
    length = math.sqrt(w * w + x * x + y * y + z * z)
    if not math.isfinite(length) or length < 1e-9:
        raise GeometryError(f"expected a finite quaternion of non-zero length, got {quat_wxyz!r}")
    if len(origin) != 3 or not all(map(math.isfinite, origin)):
        raise GeometryError(f"expected a finite translation [3], got {translation!r}")
    rows = _rows(w / length, x / length, y / length, z / length)
    return np.array([*([*row, at] for row, at in zip(rows, origin, strict=True)), [0, 0, 0, 1]])


def invert(a_T_b: Array) -> Array:
    """``b_T_a`` of rigid transforms. [..., 4, 4] -> [..., 4, 4]."""
    inverse = np.zeros_like(a_T_b)
    rotation = np.swapaxes(a_T_b[..., :3, :3], -1, -2)
    inverse[..., :3, :3] = rotation
    inverse[..., :3, 3] = -(rotation @ a_T_b[..., :3, 3:])[..., 0]
    inverse[..., 3, 3] = 1
    return inverse


def apply(a_T_b: Array, points: ArrayLike) -> Array:
    """Move points [..., 3] from frame b to frame a."""
    return np.asarray(points, np.float64) @ a_T_b[:3, :3].T + a_T_b[:3, 3]


def apply_float32(
    a_T_b: Array, points: NDArray[np.float32], *, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """``apply`` for large clouds: float32 [N, 3] in and out, a fraction of the time.

    Within 200 m the result is less than 0.1 mm from that of ``apply``.

    Args:
        a_T_b: [4, 4].
        points: in frame b.
        out: where the result goes, ``points`` too; None = a new array.
    """
    matrix = np.asarray(a_T_b, np.float32)
    moved = points @ matrix[:3, :3].T
    out = moved if out is None else out
    # Column by column: NumPy takes several times as long for rows of three numbers.
    for axis in range(3):
        np.add(moved[:, axis], matrix[axis, 3], out=out[:, axis])
    return out


def rotate(a_T_b: Array, vectors: ArrayLike) -> Array:
    """Turn vectors [..., 3], or [..., 2] with z = 0, from frame b to frame a; same width."""
    v = np.asarray(vectors, np.float64)
    width = v.shape[-1]
    return v @ a_T_b[:width, :width].T


def yaw_of(a_T_b: Array) -> float:
    """Heading of frame b's x axis seen in frame a, radians in (-pi, pi]."""
    return float(np.arctan2(a_T_b[1, 0], a_T_b[0, 0]))


def wrap_angle(angle: ArrayLike) -> Array:
    """Angles wrapped to [-pi, pi)."""
    return (np.asarray(angle, np.float64) + np.pi) % (2 * np.pi) - np.pi


def interpolate(a_T_b0: Array, a_T_b1: Array, fraction: float) -> Array:
    """Pose between two poses (``fraction`` 0 gives the first, 1 the second), on the shorter arc.

    Translation is linear and rotation is spherical; a fraction outside [0, 1] extrapolates at
    constant speed.
    """
    q0, q1 = matrix_to_quat_wxyz(a_T_b0[:3, :3]), matrix_to_quat_wxyz(a_T_b1[:3, :3])
    cosine = float(q0 @ q1)
    if cosine < 0:
        q1, cosine = -q1, -cosine
    if cosine > 1 - 1e-9:
        q = (1 - fraction) * q0 + fraction * q1
    else:
        angle = np.arccos(cosine)
        q = (np.sin((1 - fraction) * angle) * q0 + np.sin(fraction * angle) * q1) / np.sin(angle)
    return pose((1 - fraction) * a_T_b0[:3, 3] + fraction * a_T_b1[:3, 3], q)


def wlh_to_lwh(size: ArrayLike) -> Array:
    """nuScenes size (width, length, height) to ours (length, width, height). [..., 3]."""
    return np.asarray(size, np.float64)[..., [1, 0, 2]]


def lwh_to_wlh(size: ArrayLike) -> Array:
    """Our size (length, width, height) to nuScenes (width, length, height). [..., 3]."""
    return np.asarray(size, np.float64)[..., [1, 0, 2]]
