"""Radar clouds of View-of-Delft: files to scans, scans to the columns of a Frame.

A file is float32 [N, 7]: x, y, z in the radar's axes (metres, with a real height), RCS, radial
speed against the sensor, radial speed with the vehicle's own motion taken out (m/s, away from the
radar is positive), and the scan: 0 the last one, -1 the one before it. The clouds of several scans
lie in the axes of the last one, and all are moved to the camera's time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.data.radar import without_codes
from crkd_core.data.records import FARTHEST, encode_records, read_records
from crkd_core.data.vod.errors import VodError
from crkd_core.data.vod.layout import RADAR
from crkd_core.data.warn import warn_of_lost
from crkd_core.sensors import (
    RADAR_AGE,
    RADAR_COLUMN,
    RADAR_COLUMNS,
    RADAR_COMPENSATED,
    RADAR_SENSOR,
    RADAR_VELOCITY,
    RADAR_XYZ,
    RADARS,
)

#: Columns of a file.
SCAN_FIELDS = ("x", "y", "z", "rcs", "v_r", "v_r_compensated", "time")

#: Scans a second. Files number scans and do not time them.
SCAN_HZ = 13.0

# Faster than anything, m/s: what tells units apart.
_FASTEST = 200.0


def read_scans(path: Path) -> NDArray[np.float32]:
    """Read one file; warns where none of its returns can be used.

    Returns:
        float32 [N, 7], columns SCAN_FIELDS, without returns that have a value that is not finite.

    Raises:
        VodError: missing, not a whole number of 28-byte records, in other units, or scans that
            are not numbered 0, -1, ...; names the file.
    """
    points = read_records(path, SCAN_FIELDS, what="radar", error=VodError)
    read = dict(zip(SCAN_FIELDS, points.T, strict=True))
    points = points[np.isfinite(points).all(1)]
    warn_of_lost(path, read, left=len(points), what="points")
    for columns, limit, what in ((slice(3), FARTHEST, "x, y, z"), (slice(4, 6), _FASTEST, "v_r")):
        most = np.abs(points[:, columns]).max(initial=0.0)
        if most > limit:
            raise VodError(
                f"{path}: {what}: expected at most {limit:g} (m, m/s), got {most:g}; the file is "
                "damaged or has other columns"
            )
    scan = points[:, 6]
    if np.any(scan > 0) or np.any(scan != np.rint(scan)):
        raise VodError(
            f"{path}: time: expected the number of a scan, 0, -1, -2, ..., got "
            f"{scan.min(initial=0):g} to {scan.max(initial=0):g}"
        )
    return points


def encode_scans(points: NDArray[np.floating]) -> bytes:
    """What a file of these scans [N, 7] holds.

    Raises:
        VodError: wrong width.
    """
    return encode_records(points, SCAN_FIELDS, what="radar", error=VodError)


def to_frame(points: NDArray[np.float32], ego_T_radar: NDArray[np.float64]) -> NDArray[np.float32]:
    """Scans as the radar of a Frame.

    A radial speed becomes a velocity along the ray from where the radar is now, height and all, of
    which x and y are told, as of clouds of a node; that of an older scan was measured from some
    metres away, which files do not tell. As in every Frame, a return is moved by its velocity
    times its age.

    Args:
        points: [N, 7] columns SCAN_FIELDS.
        ego_T_radar: [4, 4].

    Returns:
        float32 [N, 20] columns RADAR_COLUMNS; ages count from the last scan.
    """
    frame = np.zeros((len(points), len(RADAR_COLUMNS)), np.float32)
    frame = without_codes(frame)
    frame[:, RADAR_COLUMN["rcs"]] = points[:, 3]
    distance = np.maximum(np.linalg.norm(points[:, :3], axis=1, keepdims=True), 1e-6)
    ray = geometry.rotate(ego_T_radar, points[:, :2] / distance)
    velocity = ray * points[:, 5:6]
    frame[:, RADAR_VELOCITY] = ray * points[:, 4:5]
    frame[:, RADAR_COMPENSATED] = velocity
    age = -points[:, 6] / SCAN_HZ
    place = geometry.apply(ego_T_radar, points[:, :3])
    place[:, :2] += velocity * age[:, None]
    frame[:, RADAR_XYZ] = place
    frame[:, RADAR_AGE] = age
    frame[:, RADAR_SENSOR] = RADARS.index(RADAR)
    return frame
