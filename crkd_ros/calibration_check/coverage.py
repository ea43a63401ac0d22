"""Do radar returns fall into the cameras' pictures? A rule on a few seconds.

A return says where something stands but not how high, so it is projected as an upright line from
the ground to EYE_HEIGHT. Where a camera has it between its left and right border, the line must
cross the picture: it does not where the camera is pitched, at a wrong height, or has the
intrinsics of another picture. And with all six cameras there, nearly every return is in one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.sensors import CAMERAS
from crkd_ros.calibration_check.placement import Finding

Array = NDArray[np.float64]

EYE_HEIGHT = 1.5
#: Returns nearer may be below the picture, further ones are in nobody's way, metres.
_NEAREST, _FURTHEST = 6.0, 50.0
#: Returns that make a verdict, and the share that must be in the picture.
_RETURNS, _SHARE, _UNION = 100, 0.75, 0.85


class View(NamedTuple):
    """A camera in a frame: where it is, its matrix [3, 3] and its picture's size."""

    base_T_cam: Array
    intrinsics: Array
    width: int
    height: int


class CoverageRules:
    """Collects projections of radar returns; ``findings`` judges them."""

    def __init__(self) -> None:
        self._between: dict[str, int] = defaultdict(int)
        self._crossing: dict[str, int] = defaultdict(int)
        self._all = self._seen = 0

    def add(self, points: Array, views: Mapping[str, View]) -> None:
        """Take returns [N, 3] in base axes and the cameras that see at the same time."""
        distance = np.hypot(points[:, 0], points[:, 1])
        near = points[(distance > _NEAREST) & (distance < _FURTHEST)].copy()
        if not len(near):
            return
        seen = np.zeros(len(near), bool)
        for camera, view in views.items():
            between, crossing = _crossing(near, view)
            self._between[camera] += int(between.sum())
            self._crossing[camera] += int(crossing.sum())
            seen |= between
        if len(views) == len(CAMERAS):
            self._all += len(near)
            self._seen += int(seen.sum())

    @property
    def checked(self) -> list[str]:
        """What there was enough data for, in words."""
        cameras = sum(count >= _RETURNS for count in self._between.values())
        return [f"radar returns in {cameras} cameras"] * bool(cameras)

    def findings(self) -> list[Finding]:
        """Doubts about cameras."""
        findings = []
        for camera, count in self._between.items():
            share = self._crossing[camera] / max(count, 1)
            if count >= _RETURNS and share < _SHARE:
                text = (
                    f"{camera}: expected the radar returns in its field to be in its picture, "
                    f"{1 - share:.0%} of {count} are above or below it; check its pitch, its "
                    "height and its intrinsics"
                )
                findings.append(Finding(sensor=camera, text=text))
        if self._all >= _RETURNS and self._seen / self._all < _UNION:
            missed = 1 - self._seen / self._all
            text = (
                f"cameras: expected six of them to see all around, {missed:.0%} of the radar "
                "returns are in no picture; check the cameras' headings and intrinsics"
            )
            findings.append(Finding(sensor="", text=text))
        return findings


def _crossing(points: Array, view: View) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which returns lie between the borders of a picture, and which of these cross it."""
    cam_T_base = geometry.invert(view.base_T_cam)
    ends = []
    for height in (0.0, EYE_HEIGHT):
        upright = points.copy()
        upright[:, 2] = height
        x, y, depth = geometry.apply(cam_T_base, upright).T
        ahead = depth > 1.0
        depth = np.where(ahead, depth, 1.0)
        u = view.intrinsics[0, 0] * x / depth + view.intrinsics[0, 2]
        v = view.intrinsics[1, 1] * y / depth + view.intrinsics[1, 2]
        ends.append((ahead & (u >= 0) & (u < view.width), v))
    (low_inside, low), (high_inside, high) = ends
    between = low_inside | high_inside
    crossing = between & (np.minimum(low, high) < view.height) & (np.maximum(low, high) >= 0)
    return between, crossing
