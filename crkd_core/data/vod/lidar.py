"""LiDAR clouds of View-of-Delft: float32 [N, 4] x, y, z, reflectance in the LiDAR's axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.data.vod.errors import VodError
from crkd_core.files import read_file

#: Columns of a file.
CLOUD_FIELDS = ("x", "y", "z", "reflectance")

#: Height of the LiDAR over the ground, metres. Files do not tell it; boxes that stand on the road
#: begin so far below the LiDAR in the documentation's example frame. Ego is on the ground below.
LIDAR_HEIGHT = 1.75

#: LiDAR to ego: parallel axes, x forward, y left, z up.
EGO_T_LIDAR = np.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, LIDAR_HEIGHT], [0, 0, 0, 1.0]])

_RECORD = 4 * len(CLOUD_FIELDS)
# Farther than any LiDAR sees, metres: what tells units apart.
_FARTHEST = 1000.0


def read_cloud(path: Path) -> NDArray[np.float32]:
    """Read one file.

    Returns:
        float32 [N, 4], columns CLOUD_FIELDS, without points that are not finite; reflectance is
        brought to 0..255 where a file has it in 0..1, as KITTI's have.

    Raises:
        VodError: missing, not a whole number of 16-byte records, or not in metres; names the file.
    """
    try:
        data = read_file(path)
    except OSError as error:
        raise VodError(f"{path}: cannot read LiDAR file: {error.strerror}") from error
    if len(data) % _RECORD:
        raise VodError(
            f"{path}: truncated, expected a multiple of {_RECORD} bytes ({len(CLOUD_FIELDS)} "
            f"float32 a point), got {len(data)}"
        )
    points = np.frombuffer(data, "<f4").reshape(-1, len(CLOUD_FIELDS)).astype(np.float32)
    points = points[np.isfinite(points).all(1)]
    far = np.abs(points[:, :3]).max(1) if len(points) else np.zeros(1)
    if np.median(far) > _FARTHEST:
        raise VodError(
            f"{path}: x, y, z: expected metres; read so, half of the points lie beyond "
            f"{np.median(far):.3g} m"
        )
    if points[:, 3].max(initial=0.0) <= 1:
        points[:, 3] *= 255
    return points


def encode_cloud(points: NDArray[np.floating]) -> bytes:
    """What a file of these points [N, 4] holds.

    Raises:
        VodError: wrong width.
    """
    points = np.asarray(points)
    if points.ndim != 2 or points.shape[1] != len(CLOUD_FIELDS):
        raise VodError(f"expected LiDAR points [N, {len(CLOUD_FIELDS)}], got {points.shape}")
    return np.ascontiguousarray(points, "<f4").tobytes()


def to_frame(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """A cloud as the LiDAR of a Frame, [N, 5] x, y, z, intensity, age 0, ego axes."""
    frame = np.zeros((len(points), 5), np.float32)
    frame[:, :3] = geometry.apply(EGO_T_LIDAR, points[:, :3])
    frame[:, 3] = points[:, 3]
    return frame
