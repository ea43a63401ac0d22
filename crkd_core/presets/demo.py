"""Small set-ups that two CPU cores train: the demo, the documentation, the tests."""

from __future__ import annotations

import dataclasses

from crkd_core.config import (
    AugmentConfig,
    BackboneConfig,
    CameraConfig,
    DecoderConfig,
    DetectorConfig,
    GridConfig,
    HeadConfig,
    ImageConfig,
    LidarConfig,
    RadarConfig,
    TrainConfig,
)
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.presets.crkd import SIX_TASKS


def demo_student() -> TrainConfig:
    """Small enough to train and run on two CPU cores: the demo, the documentation, the tests."""
    detector = DetectorConfig(
        name="demo_student",
        grid=GridConfig(low=(-51.2, -51.2, -5.0), high=(51.2, 51.2, 3.0), cell=0.8),
        image=ImageConfig(height=128, width=352, zoom=1.0),
        camera=CameraConfig(
            backbone=BackboneConfig(
                embedding=16, hidden=(16, 32, 64, 128), depths=(2, 2, 2, 2), layer="basic"
            ),
            neck_levels=(8, 16, 32),
            neck_channels=32,
            stride=8,
            align_corners=False,
            depth=(2.0, 58.0, 1.0),
            context_channels=24,
            z=(-5.0, 5.0),
        ),
        radar=RadarConfig(channels=(32, 24)),
        # Nothing beside the fuser sees the grid's neighbourhoods twice at full resolution: that
        # was four fifths of the cost.
        gate_kernel=1,
        fused_channels=32,
        decoder=DecoderConfig(channels=(40, 64, 64), strides=(2, 2, 1), blocks=2, out_channels=32),
        head=HeadConfig(
            tasks=SIX_TASKS,
            shared_channels=24,
            branch_channels=64,
            hidden="head",
            hidden_kernel=1,
            output_kernel=1,
        ),
        classes=NUSCENES_CLASSES,
    )
    return TrainConfig(
        detector=detector,
        # Sensors are dropped in training, so that the network survives a dead one.
        augment=AugmentConfig(
            image_zoom=(1.0, 1.25),
            image_rotation=3.0,
            bev_rotation=22.5,
            drop_camera=0.05,
            drop_radar=0.05,
            drop_all_cameras=0.08,
            drop_all_radars=0.08,
        ),
        steps=6_000,
        batch_size=4,
        learning_rate=2e-3,
        warmup_steps=300,
        depth_weight=0.5,
        boxes_alone=(0.3, 0.45),
    )


def demo_teacher() -> TrainConfig:
    """A LiDAR-camera teacher for ``demo_student``: its maps have the student's shapes."""
    run = demo_student()
    detector = dataclasses.replace(
        run.detector,
        name="demo_teacher",
        radar=None,
        lidar=LidarConfig(
            kind="pillars",
            voxel=(0.4, 0.4, 0.5),
            # Three sweeps together: finer steps would cost a voxel for every sweep.
            age_step=0.15,
            max_points=64,
            max_voxels=(80_000, 80_000),
            channels=(32, 48),
        ),
    )
    # It never runs without its sensors, so none is dropped in training.
    augment = AugmentConfig(image_zoom=(1.0, 1.25), image_rotation=3.0, bev_rotation=22.5)
    return dataclasses.replace(run, detector=detector, augment=augment)


def demo_lidar() -> TrainConfig:
    """LiDAR alone: ``demo_teacher`` without its cameras."""
    run = demo_teacher()
    detector = dataclasses.replace(run.detector, name="demo_lidar", camera=None)
    return dataclasses.replace(run, detector=detector, depth_weight=0.0)


def demo_camera() -> TrainConfig:
    """Cameras alone: ``demo_student`` without its radars."""
    run = demo_student()
    detector = dataclasses.replace(run.detector, name="demo_camera", radar=None)
    return dataclasses.replace(run, detector=detector)


def demo_radar() -> TrainConfig:
    """Radars alone: ``demo_student`` without its cameras."""
    run = demo_student()
    detector = dataclasses.replace(run.detector, name="demo_radar", camera=None)
    return dataclasses.replace(run, detector=detector, depth_weight=0.0)
