"""DetectorConfig -> network. The only place where parts are chosen and joined."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from crkd_core.config import CameraConfig, DetectorConfig, ImageConfig
from crkd_core.model.attention_fuse import AttentionFuser
from crkd_core.model.bev import BevDecoder
from crkd_core.model.camera.depth_lift import DepthLift
from crkd_core.model.camera.encoder import ImageEncoder
from crkd_core.model.camera.lift import Lift
from crkd_core.model.camera.radar_lift import RadarLift
from crkd_core.model.detector import BevDetector
from crkd_core.model.fuse import ConvFuser, GatedFuser
from crkd_core.model.head import CenterHead
from crkd_core.model.intensity_guide import IntensityGuide
from crkd_core.model.lidar.encoders import build_lidar
from crkd_core.model.radar import RadarPillars
from crkd_core.model.radar_calibration import Calibration
from crkd_core.model.segment_head import SegmentHead
from crkd_core.model.temporal import TemporalFusion


def build_detector(config: DetectorConfig, *, pretrained: bool = True) -> BevDetector:
    """The network of a configuration, in training mode, float32, on the CPU.

    Args:
        config: its branches, and the sizes of all parts.
        pretrained: False leaves ``camera.backbone.weights`` alone and starts at random, for a
            network whose weights are about to be loaded anyway.

    Raises:
        ImageError: a backbone, a stride or an image size that cannot be.
        LidarBranchError, LiftError: voxels or a lift that do not fit the grid.
        ConfigError: heads of attention that cannot share the channels out.
    """
    # What a seed starts from depends on the order in which parts are made: it stays as it is.
    image, lift, radar, lidar, calibration = None, None, None, None, None
    widths = []  # Channels of the branches' maps, in the order in which they enter the fuser.
    if config.camera is not None:
        image = _image(config.camera, config.image, pretrained=pretrained)
        widths.append(config.camera.context_channels)
    if config.radar is not None:
        radar = RadarPillars(config.radar, config.grid)
        widths.append(radar.channels)
    if config.lidar is not None:
        lidar = build_lidar(config.lidar, config.grid)
        widths.append(lidar.channels)
    if config.camera is not None and image is not None:
        kind = DepthLift if config.camera.lidar_depth else Lift
        if config.camera.radar_view is not None:
            kind = RadarLift
        lift = kind(image.channels, config.camera, config.image, config.grid)
    if config.radar is not None and radar is not None and config.radar.calibration != "none":
        calibration = Calibration(radar.channels, block=config.radar.calibration_block)
    outputs = config.fused_channels
    fuser: GatedFuser | ConvFuser | AttentionFuser = ConvFuser(widths, outputs)
    if config.fuser == "gated" and len(widths) > 1:
        fuser = GatedFuser(widths, outputs, gate_kernel=config.gate_kernel)
    if config.fuser == "attention" and len(widths) > 1:
        fuser = AttentionFuser(widths, outputs, config.attention, config.grid)
    model = BevDetector(
        config,
        image=image,
        lift=lift,
        radar=radar,
        calibration=calibration,
        lidar=lidar,
        fuser=fuser,
        decoder=BevDecoder(config.fused_channels, config.decoder),
        head=CenterHead(config.decoder.out_channels, config.head),
        guide=None if config.guide is None else IntensityGuide(config.guide, config.grid),
        temporal=None if config.temporal is None else TemporalFusion(outputs, config.temporal),
        segments=None
        if config.segments is None
        else SegmentHead(config.decoder.out_channels, config.segments),
    )
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = config.norm_momentum
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def check_detector(config: DetectorConfig) -> None:
    """Refuse a configuration that no network can be made of; no memory is taken.

    Raises:
        ImageError, LidarBranchError, LiftError, ConfigError: see ``build_detector``.
    """
    with torch.device("meta"):
        build_detector(config, pretrained=False)


def _image(camera: CameraConfig, image: ImageConfig, *, pretrained: bool) -> ImageEncoder:
    if not pretrained:
        backbone = dataclasses.replace(camera.backbone, weights=None)
        camera = dataclasses.replace(camera, backbone=backbone)
    return ImageEncoder(camera, image)
