"""Where the sensors of one drive are, and where its calibration says that they are.

Every drive is of a car of its own: mounts and focal lengths differ a little from drive to drive,
and the calibration knows it. It is not exact: the true mounts are off by one or two centimetres
and a tenth or two of a degree, as after a careful calibration of a real car.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from crkd_core.world import rig
from crkd_core.world.rig import Mount

#: Standard deviations an axis, degrees and metres, by modality: from car to car, and the error of
#: the calibration. Radars and the LiDAR stay level.
_CAR = {"camera": (0.4, 0.02), "radar": (0.5, 0.02), "lidar": (0.3, 0.01)}
_ERROR = {"camera": (0.1, 0.009), "radar": (0.15, 0.012), "lidar": (0.06, 0.006)}
_FOCAL = 0.004


def recorded_rig(key: int, image_width: int) -> dict[str, Mount]:
    """The twelve sensors as the calibration of a drive has them, keyed by channel.

    Args:
        key: of the drive (``Scene.key``).
        image_width: pixels.
    """
    result = {}
    for i, (channel, mount) in enumerate(rig.build_rig(image_width).items()):
        rng = np.random.default_rng([key, 5, i])
        moved = _moved(mount, *_CAR[mount.modality], rng)
        if mount.intrinsics is not None:
            intrinsics = mount.intrinsics.copy()
            intrinsics[[0, 1], [0, 1]] *= 1 + rng.normal(0, _FOCAL)
            intrinsics[:2, 2] += rng.normal(0, 3, 2) * image_width / 1600
            moved = dataclasses.replace(moved, intrinsics=intrinsics)
        result[channel] = moved
    return result


def mounted(recorded: dict[str, Mount], key: int) -> dict[str, Mount]:
    """The sensors of a drive where they truly are."""
    return {
        channel: _moved(mount, *_ERROR[mount.modality], np.random.default_rng([key, 6, i]))
        for i, (channel, mount) in enumerate(recorded.items())
    }


def _moved(mount: Mount, degrees: float, metres: float, rng: np.random.Generator) -> Mount:
    pose = mount.ego_T_sensor.copy()
    angles = np.deg2rad(rng.normal(0, degrees, 3))
    if mount.modality != "camera":
        angles[:2] = 0
    pose[:3, :3] = _turn(angles) @ pose[:3, :3]
    pose[:3, 3] += rng.normal(0, metres, 3)
    return dataclasses.replace(mount, ego_T_sensor=pose)


def _turn(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """[3, 3] rotation by a small rotation vector, ego axes (Rodrigues)."""
    angle = float(np.linalg.norm(angles))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = angles / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
