"""LiDAR sweeps: nuScenes ``.pcd.bin`` files to arrays, several sweeps to one cloud."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.data.records import check_metres, encode_records, read_records
from crkd_core.data.warn import warn_of_lost, warn_of_nothing

#: Columns of a file.
LIDAR_FIELDS = ("x", "y", "z", "intensity", "ring")

# Of nuScenes' LiDAR, seconds.
_PERIOD = 0.05


class LidarError(ValueError):
    """A file or a set of sweeps that is not LiDAR data as nuScenes defines it."""


def oldest_age(sweeps: int) -> float:
    """How old a sweep of a cloud of ``sweeps`` may be, seconds: older ones are not used.

    Every second one may be lost, and one period is for jitter: 0.95 s for ten.
    """
    return (2 * (sweeps - 1) + 1) * _PERIOD


@dataclass(frozen=True, kw_only=True)
class LidarSweep:
    """One sweep, not yet moved.

    Attributes:
        stamp_ns: time of the sweep, nanoseconds.
        points: [N, 5] float32, columns LIDAR_FIELDS, in the sensor frame.
        ego_T_lidar: [4, 4] sensor at its own time to ego at the reference time.
    """

    stamp_ns: int
    points: NDArray[np.float32]
    ego_T_lidar: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.points.ndim != 2 or self.points.shape[1] != len(LIDAR_FIELDS):
            raise LidarError(
                f"LidarSweep.points: expected [N, {len(LIDAR_FIELDS)}], got {self.points.shape}"
            )


def read_bin(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Read one nuScenes LiDAR file; warns of one without a point that can be used.

    Returns:
        float32 [N, 5], columns LIDAR_FIELDS: metres in the sensor frame, intensity 0..255, ring.

    Raises:
        LidarError: missing, not a whole number of 20-byte records, or not in metres; names the
            file.
    """
    points = read_records(path, LIDAR_FIELDS, what="LiDAR", error=LidarError)
    warn_of_nothing(path, points)
    # ``accumulate`` leaves points that are not finite out.
    left = np.count_nonzero(np.isfinite(points[:, :4]).all(1))
    columns = dict(zip(LIDAR_FIELDS[:4], points.T, strict=False))
    warn_of_lost(path, columns, left=int(left), what="points")
    check_metres(points, path, error=LidarError)
    return points


def encode_bin(points: NDArray[np.floating]) -> bytes:
    """[N, 5] as the bytes of a nuScenes LiDAR file.

    Raises:
        LidarError: wrong width.
    """
    return encode_records(points, LIDAR_FIELDS, what="LiDAR", error=LidarError)


def accumulate(
    sweeps: Sequence[LidarSweep], stamp_ns: int, *, close: float = 1.0
) -> NDArray[np.float32]:
    """A key sweep and the sweeps before it as one cloud in ego axes (docs/method.md 1.2).

    Args:
        sweeps: the key sweep first.
        stamp_ns: time that ages count from, that of the key sweep.
        close: of all sweeps but the first, points with |x| and |y| below this (metres, sensor
            frame) are dropped: returns from the own roof would otherwise smear along the drive.

    Returns:
        float32 [M, 5]: x, y, z, intensity, age in seconds (>= 0); points that are not finite are
        left out; [0, 5] for no sweeps.

    Raises:
        LidarError: a sweep is newer than ``stamp_ns``.
    """
    clouds = [np.zeros((0, 5), np.float32)]
    for index, sweep in enumerate(sweeps):
        if sweep.stamp_ns > stamp_ns:
            raise LidarError(
                f"LiDAR sweep at {sweep.stamp_ns} ns is newer than the key sweep at {stamp_ns} ns"
            )
        points = sweep.points
        # Column by column: a reduction over four numbers a row costs several times as much.
        finite = np.isfinite(points)
        keep = finite[:, 0] & finite[:, 1] & finite[:, 2] & finite[:, 3]
        if index:
            keep &= (np.abs(points[:, 0]) >= close) | (np.abs(points[:, 1]) >= close)
        if not keep.all():
            points = points[keep]
        cloud = np.empty((len(points), 5), np.float32)
        geometry.apply_float32(sweep.ego_T_lidar, points[:, :3], out=cloud[:, :3])
        cloud[:, 3] = points[:, 3]
        cloud[:, 4] = (stamp_ns - sweep.stamp_ns) * 1e-9
        clouds.append(cloud)
    return np.concatenate(clouds)
