"""Set-ups of CRKD as published: students and teachers with ResNet-50 and Swin-T."""

from __future__ import annotations

import dataclasses

from crkd_core.config import (
    AugmentConfig,
    BackboneConfig,
    CameraConfig,
    DetectorConfig,
    HeadConfig,
    LidarConfig,
    PasteConfig,
    TaskConfig,
    TrainConfig,
)
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES

#: The six tasks of CRKD and BEVFusion with CenterHead, on nuScenes (docs/method.md 1.6).
SIX_TASKS = (
    TaskConfig(classes=("car",), nms="circle", nms_threshold=2.0),
    TaskConfig(classes=("truck", "construction_vehicle")),
    TaskConfig(classes=("bus", "trailer")),
    TaskConfig(classes=("barrier",), nms="circle", nms_threshold=1.0),
    TaskConfig(classes=("motorcycle", "bicycle")),
    TaskConfig(classes=("pedestrian", "traffic_cone"), nms_scale=(2.5, 4.0)),
)

#: Swin-T (Liu et al. 2021).
SWIN_T = BackboneConfig(kind="swin", embedding=96, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24))

#: Camera branches of CRKD with ResNet-50: the student's and the teacher's.
CR_CAMERA = CameraConfig()
LC_CAMERA = CameraConfig(neck_channels=64, depth=(1.0, 60.0, 0.5), lidar_depth=True, lift_cell=0.3)


def crkd_r50() -> TrainConfig:
    """The camera-radar student of CRKD with ResNet-50 (docs/method.md 1.1, 1.4-1.6, 1.8)."""
    detector = DetectorConfig(
        name="crkd_r50",
        camera=CR_CAMERA,
        head=HeadConfig(tasks=SIX_TASKS),
        classes=NUSCENES_CLASSES,
    )
    # 20 epochs of 123 580 frames, the training split balanced by classes.
    return TrainConfig(detector=detector, batch_size=4, steps=617_900, balanced=True)


def crkd_swint() -> TrainConfig:
    """The camera-radar student of CRKD with Swin-T (docs/method.md 1.1, 1.4-1.6, 1.8)."""
    run = crkd_r50()
    camera = dataclasses.replace(
        CR_CAMERA, backbone=SWIN_T, neck="lss_fpn", neck_levels=(8, 16, 32), neck_channels=512
    )
    detector = dataclasses.replace(run.detector, name="crkd_swint", camera=camera)
    return dataclasses.replace(run, detector=detector, batch_size=8, steps=308_960)


#: Velocities count a fifth.
PUBLISHED_HEAD = HeadConfig(tasks=SIX_TASKS, code_weights=(1.0,) * 8 + (0.2, 0.2))


def published_paste(steps: int) -> PasteConfig:
    """Objects of each class for every Frame, until three quarters of a training are over."""
    return PasteConfig(counts=(2, 3, 4, 6, 7, 2, 6, 6, 2, 2), stop_step=round(0.75 * steps))


def lc_r50() -> TrainConfig:
    """The LiDAR-camera teacher of CRKD with ResNet-50 (docs/method.md 1.1, 1.3, 1.5, 1.6, 1.8)."""
    run = crkd_r50()
    detector = dataclasses.replace(
        run.detector,
        name="lc_r50",
        camera=LC_CAMERA,
        radar=None,
        lidar=LidarConfig(),
        head=PUBLISHED_HEAD,
    )
    return dataclasses.replace(
        run,
        detector=detector,
        augment=AugmentConfig(bev_rotation=45.0),
        paste=published_paste(run.steps),
    )


def lc_swint() -> TrainConfig:
    """The LiDAR-camera teacher of CRKD with Swin-T (docs/method.md 1.1, 1.3, 1.5, 1.6, 1.8)."""
    run = lc_r50()
    camera = dataclasses.replace(
        LC_CAMERA, backbone=SWIN_T, neck="lss_fpn", neck_levels=(8, 16, 32), neck_channels=256
    )
    detector = dataclasses.replace(run.detector, name="lc_swint", camera=camera)
    return dataclasses.replace(run, detector=detector)
