"""The set-ups for View-of-Delft."""

from __future__ import annotations

import dataclasses

from crkd_core.config import (
    AugmentConfig,
    GridConfig,
    ImageConfig,
    TaskConfig,
    TrainConfig,
)
from crkd_core.data.vod.classes import VOD_SCORED
from crkd_core.presets.crkd import crkd_r50, lc_r50
from crkd_core.presets.demo import demo_student, demo_teacher

_VOD_SMALL = ImageConfig(height=224, width=352, zoom=1.0)
_VOD_LARGE = ImageConfig(height=448, width=704, zoom=1.0)
# 80 epochs of 5139 frames, as the data set's own baseline was trained (PP-Radar.md).
_VOD_STEPS = 80 * 5139 // 4


def vod_student() -> TrainConfig:
    """``demo_student`` for View-of-Delft."""
    return _vod(demo_student(), "vod_student", _VOD_SMALL)


def vod_teacher() -> TrainConfig:
    """``demo_teacher`` for View-of-Delft: LiDAR and camera."""
    return _vod(demo_teacher(), "vod_teacher", _VOD_SMALL)


def vod_r50() -> TrainConfig:
    """``crkd_r50`` for View-of-Delft. Nothing of the kind is published: the sizes are ours."""
    return dataclasses.replace(_vod(crkd_r50(), "vod_r50", _VOD_LARGE), steps=_VOD_STEPS)


def vod_lc_r50() -> TrainConfig:
    """``lc_r50`` for View-of-Delft: the teacher of ``vod_r50``."""
    return dataclasses.replace(_vod(lc_r50(), "vod_lc_r50", _VOD_LARGE), steps=_VOD_STEPS)


def _vod(run: TrainConfig, name: str, image: ImageConfig) -> TrainConfig:
    """``run`` for View-of-Delft: what lies ahead, three classes, one LiDAR sweep (docs/vod.md)."""
    detector = run.detector
    grid = GridConfig(low=(0.0, -25.6, -2.0), high=(51.2, 25.6, 4.0), cell=0.4)
    camera, radar, lidar = detector.camera, detector.radar, detector.lidar
    if camera is not None:
        camera = dataclasses.replace(camera, depth=(*(1.0, 56.0), camera.depth[2]))
        lift = None if camera.lift_cell is None else grid.cell / 2
        camera = dataclasses.replace(camera, lift_cell=lift)
    if radar is not None:
        # Its radar tells no state codes, and the clouds of a live one get those of nuScenes.
        radar = dataclasses.replace(radar, sweeps=5, codes=False)
    if lidar is not None:
        voxel = (0.05, 0.05, 0.15) if lidar.kind == "sparse" else (0.2, 0.2, 0.5)
        lidar = dataclasses.replace(lidar, sweeps=1, voxel=voxel, age_step=None)
    detector = dataclasses.replace(
        detector,
        name=name,
        grid=grid,
        image=image,
        camera=camera,
        radar=radar,
        lidar=lidar,
        head=dataclasses.replace(
            detector.head,
            tasks=tuple(TaskConfig(classes=(one,)) for one in VOD_SCORED),
            # Nobody says how fast objects are.
            code_weights=(1.0,) * 8 + (0.0,) * 2,
        ),
        classes=VOD_SCORED,
    )
    # The grid has no back that could become its front.
    augment = dataclasses.replace(
        run.augment or AugmentConfig(), bev_rotation=10.0, bev_mirror="y", image_zoom=(1.0, 1.25)
    )
    return dataclasses.replace(run, detector=detector, augment=augment, paste=None, balanced=False)
