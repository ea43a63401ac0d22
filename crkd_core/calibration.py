"""What calibrations and poses may be: one rule for data sets, Frames and messages.

Bounds are wide. What they tell apart is units and conventions: millimetres, intrinsics of an image
one pixel wide, matrices that are transposed or mirrored.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Farther from the vehicle's origin no sensor is mounted, metres.
MOUNTED = 100.0

#: What ``is_pinhole`` expects, for error texts.
PINHOLE = "[[fx, s, cx], [0, fy, cy], [0, 0, 1]] in pixels with fx and fy above 1"

#: What ``is_rigid`` expects, for error texts.
RIGID = "a rotation and a shift with the last row 0 0 0 1"

# As much as rounding to four digits takes from a rotation.
_ROUNDED = 1e-3
# What products and inverses leave in a row of zeros.
_LAST_ROW = 1e-6


def is_pinhole(matrices: ArrayLike) -> NDArray[np.bool_]:
    """Whether they are the intrinsics of images as recorded. [..., 3, 3] -> [...] bool."""
    k = np.asarray(matrices, np.float64)
    zeros = (k[..., 1, 0] == 0) & (k[..., 2, 0] == 0) & (k[..., 2, 1] == 0)
    focal = (k[..., 0, 0] > 1) & (k[..., 1, 1] > 1) & (k[..., 2, 2] == 1)
    return np.asarray(zeros & focal & np.isfinite(k).all((-2, -1)))


def is_rotation(matrices: ArrayLike) -> NDArray[np.bool_]:
    """Whether they turn, and neither scale nor mirror. [..., 3, 3] -> [...] bool."""
    r = np.asarray(matrices, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(r @ np.swapaxes(r, -1, -2) - np.eye(3)).max((-2, -1))
        return np.asarray((off <= _ROUNDED) & (np.linalg.det(r) > 0))


def is_rigid(a_T_b: ArrayLike) -> NDArray[np.bool_]:
    """Whether they turn and shift. [..., 4, 4] -> [...] bool."""
    t = np.asarray(a_T_b, np.float64)
    last = (np.abs(t[..., 3, :] - (0, 0, 0, 1)) <= _LAST_ROW).all(-1)
    return np.asarray(last & np.isfinite(t).all((-2, -1)) & is_rotation(t[..., :3, :3]))
