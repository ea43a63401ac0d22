"""Calibration files: KITTI's text, where the third line is the camera and the sixth the sensor.

``P2`` is the camera's [3, 4] matrix, ``Tr_velo_to_cam`` the [3, 4] pose of the folder's own sensor
in the camera: that of the LiDAR in ``lidar/``, that of the radar in the radar folders.
``R0_rect``, which KITTI turns by between the two, is the identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_core.calibration import MOUNTED, PINHOLE, is_pinhole, is_rotation
from crkd_core.data.vod.errors import VodError
from crkd_core.files import read_file

_CAMERA, _SENSOR, _RECTIFIED = "P2", "Tr_velo_to_cam", "R0_rect"
# As much as rounding to six digits takes from the identity.
_SAME = 1e-6


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What one calibration file says.

    Attributes:
        intrinsics: [3, 3] pixels.
        camera_T_sensor: [4, 4] of the folder's sensor, metres.
    """

    intrinsics: NDArray[np.float64]
    camera_T_sensor: NDArray[np.float64]


def read_calibration(path: Path) -> Calibration:
    """Read one file.

    Raises:
        VodError: missing, without one of the two matrices, of a camera that is no pinhole or is
            shifted (a fourth column of P2 that is not 0), or turned (R0_rect), or a pose that does
            not turn and move, by at most MOUNTED; names the file.
    """
    try:
        lines = read_file(path).decode("ascii", "replace").splitlines()
    except OSError as error:
        raise VodError(f"{path}: cannot read the calibration: {error.strerror}") from error
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    camera, sensor = (_matrix(path, found, name) for name in (_CAMERA, _SENSOR))
    if np.any(camera[:, 3]) or not is_pinhole(camera[:, :3]):
        raise VodError(
            f"{path}: {_CAMERA}: expected a matrix [K 0] of a rectified camera, K {PINHOLE}, got "
            f"{camera.tolist()}"
        )
    if _RECTIFIED in found:
        rectified = _matrix(path, found, _RECTIFIED, columns=3)
        if np.abs(rectified - np.eye(3)).max() > _SAME:
            raise VodError(
                f"{path}: {_RECTIFIED}: expected the identity, as in View-of-Delft, got "
                f"{rectified.tolist()}; multiply {_SENSOR} by it from the left"
            )
    turn = sensor[:, :3]
    if not is_rotation(turn) or np.abs(sensor[:, 3]).max() > MOUNTED:
        raise VodError(
            f"{path}: {_SENSOR}: expected a rotation and a shift of at most {MOUNTED:g} m, got "
            f"{sensor.tolist()}"
        )
    pose = np.eye(4)
    # Written with few digits: to the nearest rotation, so that inverting is transposing.
    left, _, right = np.linalg.svd(turn)
    pose[:3, :3] = left @ right
    pose[:3, 3] = sensor[:, 3]
    return Calibration(intrinsics=camera[:, :3], camera_T_sensor=pose)


def encode_calibration(calibration: Calibration) -> str:
    """The text of a file; a reader gets equal numbers back."""
    camera = np.hstack([calibration.intrinsics, np.zeros((3, 1))])
    rows = {f"P{i}": camera for i in range(4)}
    rows[_RECTIFIED] = np.eye(3)
    rows[_SENSOR] = calibration.camera_T_sensor[:3]
    lines = [
        f"{name}: {' '.join(repr(float(value)) for value in matrix.ravel())}"
        for name, matrix in rows.items()
    ]
    return "\n".join([*lines, "Tr_imu_to_velo:", ""])


def _matrix(
    path: Path, found: dict[str, str], name: str, *, columns: int = 4
) -> NDArray[np.float64]:
    """[3, columns] of one line."""
    try:
        values = [float(word) for word in found[name].split()]
        matrix = np.array(values).reshape(3, columns)
    except KeyError as error:
        raise VodError(
            f"{path}: no line {name!r}; found {', '.join(found) or 'nothing'}"
        ) from error
    except ValueError as error:
        raise VodError(
            f"{path}: {name}: expected {3 * columns} numbers, got {found[name].strip()!r}"
        ) from error
    if not np.isfinite(matrix).all():
        raise VodError(f"{path}: {name}: expected finite numbers, got {found[name].strip()!r}")
    return matrix
