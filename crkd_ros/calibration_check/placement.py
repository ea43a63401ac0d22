"""Does a sensor sit and look where its name says? Rules on poses and intrinsics alone.

A rule does not ask for a nuScenes car: limits are wide enough for other vehicles and narrow enough
for the usual mistakes (body instead of optical axes, the inverse transform, millimetres, the other
quaternion order, two sensors swapped). A pose that breaks a rule is tried against these mistakes,
so that the text can name the one that explains it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.data.crop import horizon_row
from crkd_core.sensors import CAMERAS, RADARS

Array = NDArray[np.float64]

#: Heading of each sensor, degrees counter-clockwise from straight ahead. Cameras may be off by 45,
#: radars by 60 degrees: corner radars are mounted at 90 degrees by some and at 45 by others.
HEADINGS = {
    "CAM_FRONT": 0.0,
    "CAM_FRONT_LEFT": 55.0,
    "CAM_FRONT_RIGHT": -55.0,
    "CAM_BACK": 180.0,
    "CAM_BACK_LEFT": 110.0,
    "CAM_BACK_RIGHT": -110.0,
    "RADAR_FRONT": 0.0,
    "RADAR_FRONT_LEFT": 70.0,
    "RADAR_FRONT_RIGHT": -70.0,
    "RADAR_BACK_LEFT": 150.0,
    "RADAR_BACK_RIGHT": -150.0,
}
_HEADING_LIMIT = {"CAM": 45.0, "RADAR": 60.0}
_TILT_LIMIT = {"CAM": 30.0, "RADAR": 20.0}
#: Height of a sensor over the ground, metres: base_link lies on the ground.
_HEIGHTS = {"CAM": (0.3, 4.5), "RADAR": (0.1, 4.5)}
_FAR = 10.0
#: A left sensor may be this far right of the middle: some cameras share one mount on the roof.
_SIDE = {"CAM": 0.3, "RADAR": 0.0}
_FOV = (15.0, 150.0)
#: Ground up to this distance must be in a camera's picture, metres.
_ROAD = 40.0

#: Camera axes (z forward, x right, y down) seen from body axes (x forward, y left, z up).
OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One doubt about the calibration.

    Attributes:
        sensor: whose; "" = the ego motion's.
        text: what was expected, what came, what to do.
    """

    sensor: str
    text: str


def view_axis(sensor: str, base_T_sensor: Array) -> Array:
    """Where a sensor looks, unit vector [3] in base: z of a camera, x of a radar."""
    return base_T_sensor[:3, 2 if sensor in CAMERAS else 0]


def check_places(places: Mapping[str, Array]) -> list[Finding]:
    """Doubts about where sensors sit.

    Args:
        places: sensor -> ``base_T_sensor`` [4, 4]; any of the eleven.
    """
    findings = []
    for sensor, pose in places.items():
        if faults := _faults(sensor, pose):
            reason = _explain(sensor, pose, places)
            findings.append(
                Finding(sensor=sensor, text=f"{sensor}: {'; '.join(faults)}. {reason}")
            )
    found = {finding.sensor for finding in findings}
    if "RADAR_FRONT" in places and "RADAR_FRONT" not in found:
        for back in ("RADAR_BACK_LEFT", "RADAR_BACK_RIGHT"):
            x, front = places.get(back, np.eye(4))[0, 3], places["RADAR_FRONT"][0, 3]
            if back in places and back not in found and x >= front:
                text = f"{back}: expected behind RADAR_FRONT (x {front:.2f}), sits at x {x:.2f}"
                findings.append(Finding(sensor=back, text=f"{text}. Check its translation"))
    return findings


def check_intrinsics(camera: str, intrinsics: Array, width: int, height: int) -> list[Finding]:
    """Doubts about the intrinsics [3, 3] of a picture, as sent or prepared for the network."""
    fx, fy = intrinsics[0, 0], intrinsics[1, 1]
    fov = 2 * float(np.rad2deg(np.arctan(width / 2 / fx)))
    faults = []
    if not _FOV[0] <= fov <= _FOV[1]:
        faults.append(f"expected {_FOV[0]:g} to {_FOV[1]:g} degrees across, got {fov:.1f}")
    # Preparing crops rows at the top, columns evenly.
    if not 0.3 <= intrinsics[0, 2] / width <= 0.7 or not -0.5 <= intrinsics[1, 2] / height <= 1:
        faults.append(
            f"expected the principal point near the middle of {width} x {height} pixels, got "
            f"{intrinsics[0, 2]:.0f}, {intrinsics[1, 2]:.0f}"
        )
    if not 0.8 <= fx / fy <= 1.25:
        faults.append(f"expected square pixels, got fx {fx:.1f} and fy {fy:.1f}")
    if not faults:
        return []
    text = f"{camera}: intrinsics: {'; '.join(faults)}. Are they for another image size?"
    return [Finding(sensor=camera, text=text)]


def check_view(
    camera: str, base_T_cam: Array, intrinsics: Array, width: int, height: int
) -> list[Finding]:
    """Doubts about what a picture shows of the ground.

    Args:
        camera: its name.
        base_T_cam: [4, 4] optical axes.
        intrinsics: [3, 3] of the picture as prepared for the network.
        width: of it, pixels.
        height: the same.
    """
    row = horizon_row(intrinsics, base_T_cam[2, :3], width)
    if row is None or 0 <= row < height:
        return []
    if row >= height:
        seen = f"the horizon is {row - height:.0f} rows below it: it shows no road"
    else:
        top = np.linalg.solve(intrinsics, [(width - 1) / 2, -0.5, 1.0])
        ray = base_T_cam[:3, :3] @ top
        furthest = base_T_cam[2, 3] * float(np.hypot(ray[0], ray[1])) / max(-ray[2], 1e-9)
        if furthest >= _ROAD:
            return []
        seen = f"it ends {max(furthest, 0.0):.0f} m away, the road beyond is cut off"
    text = (
        f"{camera}: expected a picture with the horizon in it, {seen}. Tilt the camera less, cut "
        "its images elsewhere, or check its transform"
    )
    return [Finding(sensor=camera, text=text)]


def _faults(sensor: str, pose: Array) -> list[str]:
    """The rules that one pose breaks, in words."""
    kind = sensor.partition("_")[0]
    _, y, z = pose[:3, 3]
    axis = view_axis(sensor, pose)
    faults = []
    if (far := float(np.linalg.norm(pose[:3, 3]))) > _FAR:
        return [f"expected within {_FAR:g} m of base_link, sits {far:.1f} m away"]
    tilt = float(np.rad2deg(np.arcsin(np.clip(axis[2], -1, 1))))
    level = abs(tilt) <= _TILT_LIMIT[kind]
    if not level:
        faults.append(
            f"expected to look along the ground (within {_TILT_LIMIT[kind]:g} degrees), looks "
            f"{abs(tilt):.0f} degrees {'up' if tilt > 0 else 'down'}"
        )
    upright = -pose[2, 1] if sensor in CAMERAS else pose[2, 2]
    if level and upright < np.cos(np.deg2rad(30)):
        name = "y axis down" if sensor in CAMERAS else "z axis up"
        angle = np.rad2deg(np.arccos(np.clip(upright, -1, 1)))
        faults.append(f"expected its {name}, is {angle:.0f} degrees off")
    heading = float(np.rad2deg(np.arctan2(axis[1], axis[0])))
    off = float(np.rad2deg(geometry.wrap_angle(np.deg2rad(heading - HEADINGS[sensor]))))
    if level and abs(off) > _HEADING_LIMIT[kind]:
        faults.append(
            f"expected heading {HEADINGS[sensor]:g} +- {_HEADING_LIMIT[kind]:g} degrees, got "
            f"{heading:.0f}"
        )
    low, high = _HEIGHTS[kind]
    if not low <= z <= high:
        faults.append(
            f"expected {low:g} to {high:g} m over base_link, which lies on the ground, sits at "
            f"z {z:.2f}"
        )
    side = 1 if sensor.endswith("LEFT") else -1 if sensor.endswith("RIGHT") else 0
    if side * y < -_SIDE[kind]:
        where = "left (y > 0)" if side > 0 else "right (y < 0)"
        faults.append(f"expected on the {where}, sits at y {y:.2f}")
    return faults


def _swapped_order(pose: Array, *, stored_wxyz: bool) -> Array:
    """The pose if its quaternion's numbers had been read in the other order."""
    w, x, y, z = geometry.matrix_to_quat_wxyz(pose[:3, :3])
    # Numbers of one order that were read as the other: undo that reading.
    quat = [x, y, z, w] if stored_wxyz else [z, w, x, y]
    return geometry.pose(pose[:3, 3], quat)


def _turned(pose: Array, rotation: Array) -> Array:
    out = pose.copy()
    out[:3, :3] = pose[:3, :3] @ rotation
    return out


def _in_metres(pose: Array) -> Array:
    out = pose.copy()
    out[:3, 3] /= 1000
    return out


_MISTAKES: tuple[tuple[str, Callable[[Array], Array]], ...] = (
    ("its translation looks like millimetres: give metres", _in_metres),
    ("it looks like the inverse (sensor <- base): give base <- sensor", geometry.invert),
    (
        "it looks like wxyz numbers read as xyzw: check the quaternion's order",
        lambda pose: _swapped_order(pose, stored_wxyz=True),
    ),
    (
        "it looks like xyzw numbers read as wxyz: check the quaternion's order",
        lambda pose: _swapped_order(pose, stored_wxyz=False),
    ),
)
_CAMERA_MISTAKES = (
    (
        "it looks like a body frame (x forward): give the optical frame (z forward, x right, "
        "y down)",
        lambda pose: _turned(pose, OPTICAL),
    ),
)


def _about(axis: int, degrees: float) -> Array:
    """A rotation [3, 3] about an axis of the sensor's own."""
    quat = np.zeros(4)
    quat[0], quat[1 + axis] = np.cos(np.deg2rad(degrees) / 2), np.sin(np.deg2rad(degrees) / 2)
    return geometry.quat_wxyz_to_matrix(quat)


#: A right pose of an unusual mounting. Networks have seen upright pictures alone.
_CAMERA_MOUNTINGS = tuple(
    (
        f"it is mounted {how}: let the driver turn its images upright, and give intrinsics and "
        "pose of those",
        _about(2, degrees),
    )
    for how, degrees in (("upside down", 180.0), ("on its side", 90.0), ("on its side", -90.0))
)
_RADAR_MOUNTINGS = (("it is mounted upside down, which is right if it is so", _about(0, 180.0)),)


def _explain(sensor: str, pose: Array, places: Mapping[str, Array]) -> str:
    """The mistake that would make the pose plausible, or where to look."""
    mistakes = (_CAMERA_MISTAKES if sensor in CAMERAS else ()) + _MISTAKES
    hints = [text for text, undo in mistakes if not _faults(sensor, undo(pose))]
    kind = CAMERAS if sensor in CAMERAS else RADARS
    for other in kind:
        if other == sensor or other not in places or _faults(other, pose):
            continue
        if _faults(other, places[other]):
            two = not _faults(sensor, places[other])
            what = "these two swapped" if two else "sensors exchanged"
            hints.insert(0, f"it sits where {other} should: are {what}?")
            break
    mountings = _CAMERA_MOUNTINGS if sensor in CAMERAS else _RADAR_MOUNTINGS
    hints[1:] = [text for text, turn in mountings if not _faults(sensor, _turned(pose, turn))]
    if not hints:
        return "Check its transform (crkd calibration show prints a file as a table)"
    text = "; or ".join(hints[:2])
    return text[0].upper() + text[1:]
