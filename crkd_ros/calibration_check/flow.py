"""Do the pictures move as extrinsics and ego motion predict? A rule on pairs of images.

Between two images of a camera on a moving vehicle, what stands still moves away from the point
that the camera moves towards. Tracked corners give that direction (the translation of the
essential matrix, its rotation taken from the ego motion), extrinsics and ego motion predict it.
This sees a camera that is turned, two that are swapped, a wrong sign of the motion; it does not
see where the camera sits, nor a turn about the direction of travel.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_ros.calibration_check.doppler import middle_angle
from crkd_ros.calibration_check.placement import Finding
from crkd_ros.motion.poses import Array

#: The vehicle must move this far between two images, metres.
_GONE = 0.25
_CORNERS, _TRACKS = 250, 25
#: A track agrees with a direction this close to its line, pixels, if it is at least this long.
_AGREES, _LONGEST_STILL = 0.7, 1.0
_PROPOSALS = 60
#: Pairs that make a verdict, and degrees that may be between measured and predicted.
_PAIRS, _LIMIT = 5, 6.0


class Shot(NamedTuple):
    """One image: grey pixels [H, W], matrix [3, 3], where its camera is said to sit."""

    grey: NDArray[np.uint8]
    intrinsics: Array
    base_T_cam: Array


class FlowRules:
    """Collects directions of travel seen by cameras; ``findings`` judges them."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self._directions: dict[str, list[tuple[Array, Array]]] = defaultdict(list)

    def add(self, camera: str, before: Shot, now: Shot, now_T_before: Array) -> None:
        """Take two images of a camera and how the base moved between them, [4, 4]."""
        if np.linalg.norm(now_T_before[:3, 3]) < _GONE:
            return
        moved = geometry.invert(now.base_T_cam) @ now_T_before @ before.base_T_cam
        measured = travel(before, now, moved[:3, :3], self._rng)
        if measured is None:
            return
        # What stands still moves against the vehicle.
        base_R_cam = now.base_T_cam[:3, :3]
        expected = -moved[:3, 3] / np.linalg.norm(moved[:3, 3])
        self._directions[camera].append((base_R_cam @ expected, base_R_cam @ -measured))

    @property
    def checked(self) -> list[str]:
        """What there was enough data for, in words."""
        cameras = sum(len(pairs) >= _PAIRS for pairs in self._directions.values())
        return [f"image motion of {cameras} cameras"] * bool(cameras)

    def errors(self) -> dict[str, tuple[float, float]]:
        """Camera -> degrees (counter-clockwise, upwards) that it seems to be turned by."""
        found = {}
        for camera, pairs in self._directions.items():
            if len(pairs) < _PAIRS:
                continue
            expected, measured = (np.array(column) for column in zip(*pairs, strict=True))
            turn = middle_angle(_azimuth(measured) - _azimuth(expected))
            tilt = middle_angle(_elevation(measured) - _elevation(expected))
            found[camera] = float(np.rad2deg(turn)), float(np.rad2deg(tilt))
        return found

    def findings(self) -> list[Finding]:
        """Doubts about cameras."""
        findings = []
        for camera, (turn, tilt) in self.errors().items():
            if max(abs(turn), abs(tilt)) <= _LIMIT:
                continue
            text = (
                f"{camera}: expected its picture to move as the ego motion says, it moves as if "
                f"the calibration had the camera turned by {turn:+.0f} degrees to the left and "
                f"{tilt:+.0f} degrees up; check its rotation, or whether two are swapped"
            )
            findings.append(Finding(sensor=camera, text=text))
        return findings


def travel(before: Shot, now: Shot, now_R_before: Array, rng: np.random.Generator) -> Array | None:
    """Unit vector [3], camera axes: where a standing world moves; None where that is unclear."""
    first, second = _tracks(before.grey, now.grey)
    if len(first) < _TRACKS:
        return None
    focal = float(now.intrinsics[0, 0])
    start = _rays(before.intrinsics, first) @ now_R_before.T
    end = _rays(now.intrinsics, second)
    normal = np.cross(start, end)
    length = np.linalg.norm(normal, axis=1)
    long = length * focal > _LONGEST_STILL
    if long.sum() < _TRACKS:
        return None
    start, end, normal = start[long], end[long], normal[long] / length[long, None]
    # Every pair of tracks proposes the one direction that both lead along.
    pairs = rng.integers(0, len(start), (_PROPOSALS, 2))
    guesses = np.cross(normal[pairs[:, 0]], normal[pairs[:, 1]])
    size = np.linalg.norm(guesses, axis=1)
    if not (size > 0.05).any():
        return None
    guesses = guesses[size > 0.05] / size[size > 0.05, None]
    guesses = np.concatenate([guesses, -guesses])
    good = _agreeing(guesses, start, end, focal)
    best = good.sum(1).argmax()
    agree = good[best]
    if agree.sum() < max(_TRACKS, 0.5 * len(start)):
        return None
    # The plane normals of all that agree leave one direction: the least singular vector.
    direction = np.linalg.svd(normal[agree] * length[long][agree, None])[2][-1]
    return direction if direction @ guesses[best] > 0 else -direction


def _agreeing(directions: Array, start: Array, end: Array, focal: float) -> NDArray[np.bool_]:
    """[D, N]: tracks that lie on a line through a direction [D, 3] and lead towards it."""
    # normal . end / |normal| with normal = direction x start, without making all the normals.
    off = np.abs(directions @ np.cross(start, end).T)
    size = np.sqrt(np.maximum(1 - (directions @ start.T) ** 2, 1e-12))
    towards = directions @ (end - start).T > 0
    return (off < _AGREES / focal * size) & towards & (size > 0.02)


def _tracks(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> tuple[Array, Array]:
    """Corners of the first image and where they are in the second, [N, 2] pixels each."""
    lucas_kanade: Any = cv2.calcOpticalFlowPyrLK
    corners: Any = cv2.goodFeaturesToTrack(before, _CORNERS, 0.01, 7)
    if corners is None:
        return np.zeros((0, 2)), np.zeros((0, 2))
    options = {"winSize": (21, 21), "maxLevel": 3}
    moved, found, _ = lucas_kanade(before, now, corners, None, **options)
    back, returned, _ = lucas_kanade(now, before, moved, None, **options)
    sure = (found & returned).astype(bool)[:, 0]
    sure &= np.linalg.norm((back - corners)[:, 0], axis=1) < 0.5
    return corners[sure, 0].astype(np.float64), moved[sure, 0].astype(np.float64)


def _rays(intrinsics: Array, pixels: Array) -> Array:
    """Unit vectors [N, 3] of pixels [N, 2]."""
    rays = np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(intrinsics).T
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def _azimuth(vectors: Array) -> Array:
    return np.arctan2(vectors[:, 1], vectors[:, 0])


def _elevation(vectors: Array) -> Array:
    return np.arcsin(np.clip(vectors[:, 2], -1, 1))
