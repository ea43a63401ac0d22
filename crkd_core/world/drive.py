"""Fires the sensors of one stretch of a drive and writes their files."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.data.lidar import encode_bin
from crkd_core.data.radar_file import encode_pcd
from crkd_core.sensors import CAMERAS, CHANNELS, LIDAR, RADARS
from crkd_core.world import rig
from crkd_core.world.calibration import mounted, recorded_rig
from crkd_core.world.content.mix import MIXES
from crkd_core.world.content.scene import Scene
from crkd_core.world.map_files import write_map
from crkd_core.world.rig import Shot, Sweeps
from crkd_core.world.sensors.camera import Camera
from crkd_core.world.sensors.caster import Caster
from crkd_core.world.sensors.lens import encode_jpeg
from crkd_core.world.sensors.lidar import Lidar
from crkd_core.world.sensors.radar.sweep import Radar
from crkd_core.world.truth import Annotation, Annotator


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A job: the key frames ``first`` to ``last - 1`` of one drive, and the sweeps before each.

    Attributes:
        seed: of the world.
        number: of the drive.
        name: of the drive (``scene-0061``).
        key_frames: of the whole drive.
        first, last: range of key frames of this job.
        base_us: timestamp of the first key frame, microseconds.
        image_width: pixels.
        sweeps: what is written between key frames.
        mix: name of the mix of classes.
        weather: kind of weather.
        out: root of the dataset.
    """

    seed: int
    number: int
    name: str
    key_frames: int
    first: int
    last: int
    base_us: int
    image_width: int
    sweeps: Sweeps
    mix: str
    weather: str
    out: Path


@dataclass(frozen=True, kw_only=True)
class ActorInfo:
    """What the tables say of an actor besides where it is."""

    category: str
    size_wlh: list[float]


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What a job did.

    Attributes:
        stretch: the job.
        description: of the drive.
        shots: every firing with the ego pose at its time (translation, quaternion wxyz).
        truth: annotations by key frame.
        actors: by index, those that were annotated.
    """

    stretch: Stretch
    description: str
    shots: list[tuple[Shot, list[float], list[float]]] = field(default_factory=list)
    truth: dict[int, list[Annotation]] = field(default_factory=dict)
    actors: dict[int, ActorInfo] = field(default_factory=dict)


def log_name(seed: int, name: str) -> str:
    """Name of the log that a drive was cut from; begins every file name."""
    return f"world-{seed}-{name}"


def shot_file(stretch: Stretch, shot: Shot) -> str:
    """Path of a sensor file relative to the dataset."""
    folder = "samples" if shot.is_key else "sweeps"
    ending = "jpg" if shot.channel in CAMERAS else "pcd" if shot.channel in RADARS else "pcd.bin"
    stem = (
        f"{log_name(stretch.seed, stretch.name)}__{shot.channel}__{stretch.base_us + shot.time_us}"
    )
    return f"{folder}/{shot.channel}/{stem}.{ending}"


class _Drive:
    """A scene with its caster and sensors, where they truly are and where they are said to be."""

    def __init__(
        self, *, seed: int, number: int, key_frames: int, image_width: int, mix: str, weather: str
    ) -> None:
        self.scene = Scene(
            seed=seed, number=number, key_frames=key_frames, mix=MIXES[mix], weather=weather
        )
        self.caster = Caster(self.scene)
        self.recorded = recorded_rig(self.scene.key, image_width)
        true = mounted(self.recorded, self.scene.key)
        self.cameras = {n: Camera(scene=self.scene, mount=true[n]) for n in CAMERAS}
        self.radars = {n: Radar(scene=self.scene, mount=true[n]) for n in RADARS}
        self.lidar = Lidar(scene=self.scene, mount=true[LIDAR])
        self.annotator = Annotator(scene=self.scene, mounts=[self.recorded[n] for n in CAMERAS])


# A worker gets several stretches of one drive after another; the last drive is kept.
@lru_cache(maxsize=1)
def _open(
    seed: int, number: int, key_frames: int, image_width: int, mix: str, weather: str
) -> _Drive:
    return _Drive(
        seed=seed, number=number, key_frames=key_frames, image_width=image_width, mix=mix,
        weather=weather,
    )  # fmt: skip


def record(stretch: Stretch) -> Recorded:
    """Fire every sensor of a stretch. Pure: the same job writes the same bytes in any process."""
    cv2.setNumThreads(1)
    drive = _open(
        stretch.seed, stretch.number, stretch.key_frames, stretch.image_width, stretch.mix,
        stretch.weather,
    )  # fmt: skip
    scene = drive.scene
    result = Recorded(stretch=stretch, description=scene.description)
    clouds: dict[int, dict[str, NDArray[Any]]] = {
        k: {} for k in range(stretch.first, stretch.last)
    }
    shots = rig.schedule(stretch.key_frames, phases=scene.radar_phases, sweeps=stretch.sweeps)
    for shot in shots:
        if not stretch.first <= shot.sample < stretch.last:
            continue
        t = shot.time_us / 1e6
        local_T_ego = scene.ego_pose(t)
        global_T_ego = scene.global_T_local @ local_T_ego
        quat = geometry.matrix_to_quat_wxyz(global_T_ego[:3, :3])
        result.shots.append((shot, global_T_ego[:3, 3].tolist(), quat.tolist()))
        points = _fire(drive, stretch, shot)
        if shot.is_key and points is not None:
            local_T_sensor = local_T_ego @ drive.recorded[shot.channel].ego_T_sensor
            clouds[shot.sample][shot.channel] = geometry.apply(local_T_sensor, points[:, :3])
    for k, by_channel in clouds.items():
        result.truth[k] = drive.annotator.annotate(
            drive.caster.at(k * rig.KEY_US / 1e6),
            lidar=by_channel[LIDAR],
            # A car may have no radar.
            radar=np.concatenate(
                [np.zeros((0, 3)), *(by_channel[n] for n in RADARS if n in by_channel)]
            ),
        )
        for row in result.truth[k]:
            actor = scene.actors[row.actor]
            result.actors[row.actor] = ActorInfo(
                category=actor.category,
                size_wlh=geometry.lwh_to_wlh(actor.size).tolist(),
            )
    if stretch.first == 0:
        write_map(scene, stretch.out, log_name(stretch.seed, stretch.name))
    return result


def _fire(drive: _Drive, stretch: Stretch, shot: Shot) -> NDArray[Any] | None:
    """Write one sensor file; the points of a LiDAR or radar sweep, None for a camera.

    The folder of the whole set gets its name last (writer.py), so that files need no care.
    """
    code = CHANNELS.index(shot.channel)
    # Time is moved into the positive: seeds are not negative.
    stamp = shot.time_us + 10 * rig.LEAD_IN_US
    rng = np.random.default_rng([stretch.seed, stretch.number, 2, code, stamp])
    moment = drive.caster.at(shot.time_us / 1e6)
    path = stretch.out / shot_file(stretch, shot)
    if shot.channel in CAMERAS:
        path.write_bytes(encode_jpeg(drive.cameras[shot.channel].render(moment, rng)))
        return None
    if shot.channel == LIDAR:
        points = drive.lidar.sweep(moment, rng)
        path.write_bytes(encode_bin(points))
    else:
        points = drive.radars[shot.channel].sweep(moment, rng)
        path.write_bytes(encode_pcd(points))
    return points
