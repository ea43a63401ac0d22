"""LiDAR clouds of View-of-Delft: float32 [N, 4] x, y, z, reflectance in the LiDAR's axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.data.records import check_metres, encode_records, read_records
from crkd_core.data.vod.errors import VodError
from crkd_core.data.warn import warn_of_lost, warn_of_nothing

#: Columns of a file.
CLOUD_FIELDS = ("x", "y", "z", "reflectance")

#: Height of the LiDAR over the ground, metres. Files do not tell it; boxes that stand on the road
#: begin so far below the LiDAR in the documentation's example frame. Ego is on the ground below.
LIDAR_HEIGHT = 1.75

#: LiDAR to ego: parallel axes, x forward, y left, z up.
EGO_T_LIDAR = np.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, LIDAR_HEIGHT], [0, 0, 0, 1.0]])


def read_cloud(path: Path) -> NDArray[np.float32]:
    """Read one file; warns of one without a point that can be used.

    Returns:
        float32 [N, 4], columns CLOUD_FIELDS, without points that are not finite; reflectance is
        brought to 0..255 where a file has it in 0..1, as KITTI's have.

    Raises:
        VodError: missing, not a whole number of 16-byte records, or not in metres; names the file.
    """
    points = read_records(path, CLOUD_FIELDS, what="LiDAR", error=VodError)
    warn_of_nothing(path, points)
    columns = dict(zip(CLOUD_FIELDS, points.T, strict=True))
    points = points[np.isfinite(points).all(1)]
    warn_of_lost(path, columns, left=len(points), what="points")
    check_metres(points, path, error=VodError)
    if points[:, 3].max(initial=0.0) <= 1:
        points[:, 3] *= 255
    return points


def encode_cloud(points: NDArray[np.floating]) -> bytes:
    """What a file of these points [N, 4] holds.

    Raises:
        VodError: wrong width.
    """
    return encode_records(points, CLOUD_FIELDS, what="LiDAR", error=VodError)


def to_frame(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """A cloud as the LiDAR of a Frame, [N, 5] x, y, z, intensity, age 0, ego axes."""
    frame = np.zeros((len(points), 5), np.float32)
    frame[:, :3] = geometry.apply(EGO_T_LIDAR, points[:, :3])
    frame[:, 3] = points[:, 3]
    return frame
