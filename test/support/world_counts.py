"""Counts of the synthetic world without cameras and files, of a few key frames."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from crkd_core import geometry
from crkd_core.census.boxes import BoxCounts
from crkd_core.sensors import CAMERAS, RADARS
from crkd_core.world import rig, truth
from crkd_core.world.content.scene import Scene
from crkd_core.world.sensors.caster import Caster
from crkd_core.world.sensors.lidar import Lidar
from crkd_core.world.sensors.radar.sweep import Radar

Sweeps = list[np.ndarray]


def count(scenes: Iterable[Scene], key_frames: Iterable[int]) -> tuple[BoxCounts, Sweeps, Sweeps]:
    """Boxes, radar sweeps and LiDAR sweeps of these key frames of these drives.

    A box counts where its own key frame shows it: gaps between key frames are not filled.
    """
    mounts = rig.build_rig(160)
    rows: list[tuple[int, float, int, int]] = []
    radar_sweeps: Sweeps = []
    lidar_sweeps: Sweeps = []
    key_frames = list(key_frames)
    samples = 0
    for scene in scenes:
        caster = Caster(scene)
        annotator = truth.Annotator(scene=scene, mounts=[mounts[name] for name in CAMERAS])
        lidar = Lidar(scene=scene, mount=mounts[rig.LIDAR])
        radars = {name: Radar(scene=scene, mount=mounts[name]) for name in RADARS}
        for k in key_frames:
            t = k * rig.KEY_US / 1e6
            moment, local_T_ego = caster.at(t), scene.ego_pose(t)
            lidar_sweeps.append(lidar.sweep(moment, np.random.default_rng([scene.key, k])))
            returns = []
            for i, (name, radar) in enumerate(radars.items()):
                sweep = radar.sweep(moment, np.random.default_rng([scene.key, k, i]))
                radar_sweeps.append(sweep)
                returns.append(
                    geometry.apply(local_T_ego @ mounts[name].ego_T_sensor, sweep[:, :3])
                )
            points = lidar_sweeps[-1][:, :3]
            boxes = annotator.annotate(
                moment,
                lidar=geometry.apply(local_T_ego @ mounts[rig.LIDAR].ego_T_sensor, points),
                radar=np.concatenate(returns),
            )
            samples += 1
            here = (scene.global_T_local @ local_T_ego)[:2, 3]
            for box in truth.noticed({k: boxes})[k]:
                distance = float(np.hypot(*(np.array(box.translation[:2]) - here)))
                rows.append((int(scene.labels[box.actor]), distance, box.lidar, box.radar))
    label, distance, lidar_points, radar_points = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    counts = BoxCounts(
        samples=samples, label=label, distance=distance, lidar=lidar_points, radar=radar_points
    )
    return counts, radar_sweeps, lidar_sweeps
