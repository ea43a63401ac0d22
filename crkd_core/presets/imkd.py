"""Set-ups of IMKD: its students, and the LiDAR teacher."""

from __future__ import annotations

import dataclasses

from crkd_core.config import (
    AugmentConfig,
    CameraConfig,
    DecoderConfig,
    DetectorConfig,
    GridConfig,
    GuideConfig,
    HeadConfig,
    ImageConfig,
    LidarConfig,
    RadarConfig,
    RadarViewConfig,
    SegmentsConfig,
    TemporalConfig,
    TrainConfig,
)
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.presets.crkd import PUBLISHED_HEAD, SIX_TASKS, published_paste
from crkd_core.presets.demo import demo_student


def demo_imkd() -> TrainConfig:
    """The demo's student of IMKD: radar in the image, guided fusion, a short memory."""
    run = demo_student()
    camera = run.detector.camera
    assert camera is not None
    view = RadarViewConfig(channels=(16, 16), blocks=1, context_channels=16)
    detector = dataclasses.replace(
        run.detector,
        name="demo_imkd",
        camera=dataclasses.replace(camera, radar_view=view),
        guide=GuideConfig(),
        temporal=TemporalConfig(frames=2),
        fused_channels=33,
    )
    return dataclasses.replace(run, detector=detector)


def demo_imkd_segments() -> TrainConfig:
    """``demo_imkd`` with the second head: vehicle and drivable cells (docs/method.md 1.11)."""
    run = demo_imkd()
    segments = SegmentsConfig(channels=32)
    detector = dataclasses.replace(run.detector, name="demo_imkd_segments", segments=segments)
    return dataclasses.replace(run, detector=detector)


def imkd_r50() -> TrainConfig:
    """IMKD's student with ResNet-50 on CRN's base (docs/method.md 1.10)."""
    detector = DetectorConfig(
        name="imkd_r50",
        grid=GridConfig(low=(-51.2, -51.2, -5.0), high=(51.2, 51.2, 3.0), cell=0.8),
        image=ImageConfig(zoom=1.0),
        camera=CameraConfig(
            stride=16,
            align_corners=False,
            depth=(2.0, 58.0, 0.8),
            z=(-5.0, 3.0),
            radar_view=RadarViewConfig(),
        ),
        radar=RadarConfig(channels=(64, 64, 80)),
        guide=GuideConfig(),
        fuser="attention",
        temporal=TemporalConfig(),
        # A multiple of three, for the thirds of the channels, and of four, for the heads.
        fused_channels=144,
        decoder=DecoderConfig(channels=(160, 320, 640), strides=(2, 2, 2)),
        head=HeadConfig(tasks=SIX_TASKS),
        classes=NUSCENES_CLASSES,
    )
    # 24 epochs of 28 130 frames, 16 samples a step, each as often as it is: no balancing.
    return TrainConfig(
        detector=detector,
        augment=AugmentConfig(bev_rotation=22.5, image_rotation=0.0),
        batch_size=4,
        accumulate=4,
        steps=42_200,
        clip_norm=5.0,
        depth_weight=3.0,
        average=0.999,
    )


def lidar_centerpoint() -> TrainConfig:
    """LiDAR alone, the size of a CenterPoint: IMKD's teacher (docs/method.md 1.10)."""
    run = imkd_r50()
    detector = dataclasses.replace(
        run.detector,
        name="lidar_centerpoint",
        camera=None,
        radar=None,
        lidar=LidarConfig(voxel=(0.1, 0.1, 0.2)),
        guide=None,
        fuser="gated",
        temporal=None,
        fused_channels=256,
        decoder=DecoderConfig(),
        head=PUBLISHED_HEAD,
    )
    steps = 35_200  # 20 epochs.
    return dataclasses.replace(
        run,
        detector=detector,
        augment=AugmentConfig(bev_rotation=45.0),
        steps=steps,
        depth_weight=0.0,
        paste=published_paste(steps),
    )
