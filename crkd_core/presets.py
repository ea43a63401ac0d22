"""One function per published set-up. A preset holds the numbers; the model files hold none."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable

from crkd_core.config import (
    AugmentConfig,
    BackboneConfig,
    CameraConfig,
    ConfigError,
    DecoderConfig,
    DetectorConfig,
    GridConfig,
    GuideConfig,
    HeadConfig,
    ImageConfig,
    LidarConfig,
    PasteConfig,
    RadarConfig,
    RadarViewConfig,
    SegmentsConfig,
    TaskConfig,
    TemporalConfig,
    TrainConfig,
)
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.data.vod.classes import VOD_SCORED

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


def demo_student() -> TrainConfig:
    """Small enough to train and run on two CPU cores: the demo, the documentation, the tests."""
    detector = DetectorConfig(
        name="demo_student",
        grid=GridConfig(),
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


def crkd_r50() -> TrainConfig:
    """The camera-radar student of CRKD with ResNet-50 (docs/method.md 1.1, 1.4-1.6, 1.8)."""
    detector = DetectorConfig(
        name="crkd_r50",
        grid=GridConfig(low=(-54.0, -54.0, -5.0), high=(54.0, 54.0, 3.0), cell=0.6),
        camera=CR_CAMERA,
        radar=RadarConfig(),
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


def lc_r50() -> TrainConfig:
    """The LiDAR-camera teacher of CRKD with ResNet-50 (docs/method.md 1.1, 1.3, 1.5, 1.6, 1.8)."""
    run = crkd_r50()
    detector = dataclasses.replace(
        run.detector,
        name="lc_r50",
        camera=LC_CAMERA,
        radar=None,
        lidar=LidarConfig(),
        head=HeadConfig(tasks=SIX_TASKS, code_weights=(1.0,) * 8 + (0.2, 0.2)),
    )
    return dataclasses.replace(
        run,
        detector=detector,
        augment=AugmentConfig(bev_rotation=45.0),
        paste=PasteConfig(
            counts=(2, 3, 4, 6, 7, 2, 6, 6, 2, 2), stop_step=round(0.75 * run.steps)
        ),
    )


def lc_swint() -> TrainConfig:
    """The LiDAR-camera teacher of CRKD with Swin-T (docs/method.md 1.1, 1.3, 1.5, 1.6, 1.8)."""
    run = lc_r50()
    camera = dataclasses.replace(
        LC_CAMERA, backbone=SWIN_T, neck="lss_fpn", neck_levels=(8, 16, 32), neck_channels=256
    )
    detector = dataclasses.replace(run.detector, name="lc_swint", camera=camera)
    return dataclasses.replace(run, detector=detector)


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
        radar = dataclasses.replace(radar, sweeps=5)
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
        grid=GridConfig(),
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
        head=HeadConfig(tasks=SIX_TASKS, code_weights=(1.0,) * 8 + (0.2, 0.2)),
    )
    # 20 epochs.
    return dataclasses.replace(
        run,
        detector=detector,
        augment=AugmentConfig(bev_rotation=45.0),
        steps=35_200,
        depth_weight=0.0,
        paste=PasteConfig(counts=(2, 3, 4, 6, 7, 2, 6, 6, 2, 2), stop_step=26_400),
    )


PRESETS: dict[str, Callable[[], TrainConfig]] = {
    f.__name__: f
    for f in (
        *(demo_student, crkd_r50, crkd_swint),
        *(demo_teacher, lc_r50, lc_swint),
        *(demo_lidar, demo_camera, demo_radar),
        *(vod_student, vod_teacher, vod_r50, vod_lc_r50),
        *(demo_imkd, demo_imkd_segments, imkd_r50, lidar_centerpoint),
    )
}


def preset(name: str) -> TrainConfig:
    """The preset of this name.

    Raises:
        ConfigError: no such preset.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"unknown preset {name!r}; {hint}presets: {', '.join(PRESETS)}")
    return PRESETS[name]()
