"""The sensor rig of the synthetic car, and when each sensor fires.

Positions and angles are close to those of the nuScenes cars. Time is integer microseconds, counted
from the first key frame (``0``); a drive starts LEAD_IN_US before it, so that the first key frame
already has LiDAR and radar sweeps behind it.

The LiDAR turns at 20 Hz and its stamp is the end of a rotation. A camera fires when the LiDAR
passes the centre of its picture, so within one rotation the six images come one after another
and CAM_BACK_LEFT is last. Cameras use three of every five rotations (12 Hz). Radars run free at
13 Hz.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.sensors import CAMERAS, CHANNELS, LIDAR, RADARS

ROTATION_US = 50_000
KEY_ROTATIONS = 10
KEY_US = KEY_ROTATIONS * ROTATION_US
LEAD_IN_US = KEY_US

#: Microseconds from the start of a rotation to the trigger of each camera.
CAMERA_PHASE_US = {
    "CAM_FRONT_LEFT": 7_000,
    "CAM_FRONT": 15_000,
    "CAM_FRONT_RIGHT": 22_000,
    "CAM_BACK_RIGHT": 31_000,
    "CAM_BACK": 40_000,
    "CAM_BACK_LEFT": 49_000,
}
#: Which of five rotations have images. 0 must be one of them: key frames fall on it.
CAMERA_ROTATIONS = (0, 2, 3)
RADAR_HZ = 13

#: x, y, z of the optical centre, yaw of the view in degrees, focal length at 1600 pixels width.
_CAMERA_MOUNT = {
    "CAM_FRONT": (1.70, 0.02, 1.51, 0.0, 1266.0),
    "CAM_FRONT_RIGHT": (1.55, -0.49, 1.50, -56.0, 1261.0),
    "CAM_FRONT_LEFT": (1.52, 0.49, 1.51, 55.0, 1272.0),
    "CAM_BACK": (0.03, 0.0, 1.57, 180.0, 809.0),
    "CAM_BACK_LEFT": (1.04, 0.48, 1.59, 109.0, 1257.0),
    "CAM_BACK_RIGHT": (1.01, -0.48, 1.56, -110.0, 1259.0),
}
#: x, y, z, yaw in degrees.
_RADAR_MOUNT = {
    "RADAR_FRONT": (3.41, 0.0, 0.50, 0.0),
    "RADAR_FRONT_LEFT": (2.42, 0.80, 0.78, 90.0),
    "RADAR_FRONT_RIGHT": (2.42, -0.80, 0.77, -90.0),
    "RADAR_BACK_LEFT": (-0.56, 0.63, 0.53, 175.0),
    "RADAR_BACK_RIGHT": (-0.56, -0.62, 0.53, -176.0),
}
#: LIDAR_TOP looks to the right of the car with its x axis: x right, y forward, z up.
_LIDAR_MOUNT = (0.94, 0.0, 1.84, -90.0)

_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


@dataclass(frozen=True, kw_only=True)
class Mount:
    """One sensor on the car.

    Attributes:
        channel: nuScenes channel name.
        modality: camera, radar or lidar.
        ego_T_sensor: [4, 4]; a camera has optical axes (z forward).
        intrinsics: [3, 3] pixels, or None.
        width, height: picture size in pixels, 0 for other sensors.
    """

    channel: str
    modality: str
    ego_T_sensor: NDArray[np.float64]
    intrinsics: NDArray[np.float64] | None = None
    width: int = 0
    height: int = 0


def _yawed(x: float, y: float, z: float, degrees: float) -> NDArray[np.float64]:
    return geometry.pose([x, y, z], geometry.yaw_to_quat_wxyz(np.deg2rad(degrees)))


def build_rig(image_width: int) -> dict[str, Mount]:
    """The twelve sensors, keyed by channel; pictures are ``image_width`` wide and 16:9."""
    height = image_width * 9 // 16
    rig: dict[str, Mount] = {}
    for name in CAMERAS:
        x, y, z, yaw, focal = _CAMERA_MOUNT[name]
        matrix = _yawed(x, y, z, yaw)
        matrix[:3, :3] = matrix[:3, :3] @ _OPTICAL
        scale = image_width / 1600
        # The real principal point lies some pixels below and beside the centre; ours too.
        centre = [(816 + 0.5) * scale - 0.5, (491 + 0.5) * scale - 0.5]
        intrinsics = np.array(
            [[focal * scale, 0, centre[0]], [0, focal * scale, centre[1]], [0, 0, 1]]
        )
        rig[name] = Mount(
            channel=name,
            modality="camera",
            ego_T_sensor=matrix,
            intrinsics=intrinsics,
            width=image_width,
            height=height,
        )
    for name in RADARS:
        rig[name] = Mount(channel=name, modality="radar", ego_T_sensor=_yawed(*_RADAR_MOUNT[name]))
    rig[LIDAR] = Mount(channel=LIDAR, modality="lidar", ego_T_sensor=_yawed(*_LIDAR_MOUNT))
    return rig


@dataclass(frozen=True, order=True)
class Shot:
    """One sensor firing once.

    Attributes:
        time_us: microseconds after the first key frame (negative in the lead-in).
        channel: which sensor.
        sample: index of the key frame that it is part of, or that follows it.
        is_key: whether it is part of that key frame.
    """

    time_us: int
    channel: str
    sample: int
    is_key: bool


@dataclass(frozen=True, kw_only=True)
class Sweeps:
    """What is written of whom, and between key frames.

    Attributes:
        cameras: the images.
        lidar, radar: so many sweeps of a sensor before each of its key sweeps.
        channels: the sensors that the car has; of the others nothing is written.
    """

    cameras: bool = True
    lidar: int = KEY_ROTATIONS - 1
    radar: int = RADAR_HZ
    channels: tuple[str, ...] = CHANNELS


def schedule(
    key_frames: int, *, phases: NDArray[np.float64], sweeps: Sweeps = Sweeps()
) -> list[Shot]:
    """Every firing of a drive with ``key_frames`` key frames, sorted by time.

    Args:
        key_frames: how many key frames, 0.5 s apart.
        phases: [5] in [0, 1), the phase of each radar as a fraction of its period.
        sweeps: which of those between key frames.
    """
    shots: list[Shot] = []
    last_us = (key_frames - 1) * KEY_US
    for rotation in range(-KEY_ROTATIONS + 1, (key_frames - 1) * KEY_ROTATIONS + 1):
        end_us = rotation * ROTATION_US
        is_key = rotation >= 0 and rotation % KEY_ROTATIONS == 0
        sample = max(0, -(-rotation // KEY_ROTATIONS))
        if -rotation % KEY_ROTATIONS <= sweeps.lidar:
            shots.append(Shot(end_us, LIDAR, sample, is_key))
        if rotation % 5 not in CAMERA_ROTATIONS or not (sweeps.cameras or is_key):
            continue
        for name in CAMERAS:
            time_us = end_us - ROTATION_US + CAMERA_PHASE_US[name]
            shots.append(Shot(time_us, name, sample, is_key))
    for name, phase in zip(RADARS, phases, strict=True):
        period = 1e6 / RADAR_HZ
        count = int((last_us + LEAD_IN_US) / period) + 2
        times = np.rint(-LEAD_IN_US + (np.arange(count) + phase) * period).astype(np.int64)
        keys = np.abs(times[None] - np.arange(key_frames)[:, None] * KEY_US).argmin(1)
        for i in range(int(keys[-1]) + 1):
            sample = int(np.searchsorted(keys, i))
            if keys[sample] - i > sweeps.radar:
                continue
            shots.append(Shot(int(times[i]), name, sample, bool(keys[sample] == i)))
    return sorted(shot for shot in shots if shot.channel in sweeps.channels)
