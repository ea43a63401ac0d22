"""DetectorConfig -> network. The only place where parts are chosen and joined."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from crkd_core.config import DetectorConfig
from crkd_core.model.bev import BevDecoder
from crkd_core.model.camera.depth_lift import DepthLift
from crkd_core.model.camera.encoder import ImageEncoder
from crkd_core.model.camera.lift import Lift
from crkd_core.model.detector import BevDetector
from crkd_core.model.fuse import ConvFuser, GatedFuser
from crkd_core.model.head import CenterHead
from crkd_core.model.lidar.encoders import LidarError, build_lidar
from crkd_core.model.radar import RadarPillars
from crkd_core.model.radar_calibration import Calibration


def build_detector(config: DetectorConfig, *, pretrained: bool = True) -> BevDetector:
    """The network of a configuration, in training mode, float32, on the CPU.

    Args:
        config: sizes of all parts.
        pretrained: False leaves ``camera.backbone.weights`` alone and starts at random, for a
            network whose weights are about to be loaded anyway.

    Raises:
        ImageError: a backbone, a stride or an image size that cannot be.
        LidarError, LiftError: a LiDAR branch or a lift that does not fit the rest.
    """
    camera = config.camera
    if not pretrained:
        backbone = dataclasses.replace(camera.backbone, weights=None)
        camera = dataclasses.replace(camera, backbone=backbone)
    image = ImageEncoder(camera, config.image)
    radar = lidar = None
    if config.lidar is None:
        radar = RadarPillars(config.radar, config.grid)
        second = radar.channels
    else:
        lidar = build_lidar(config.lidar, config.grid)
        second = lidar.channels
    if camera.lidar_depth and lidar is None:
        raise LidarError("camera.lidar_depth is for LiDAR-camera networks; set lidar as well")
    if camera.lift_cell is not None and not camera.lidar_depth:
        raise LidarError("camera.lift_cell is for the LiDAR-assisted lift; set lidar_depth too")
    calibrated = radar is not None and config.radar.calibration != "none"
    lift = DepthLift if camera.lidar_depth else Lift
    fuser = GatedFuser if config.fuser == "gated" else ConvFuser
    model = BevDetector(
        config,
        image=image,
        lift=lift(image.channels, camera, config.image, config.grid),
        radar=radar,
        lidar=lidar,
        calibration=Calibration(second) if calibrated else None,
        fuser=fuser(camera.context_channels, second, config.fused_channels),
        decoder=BevDecoder(config.fused_channels, config.decoder),
        head=CenterHead(config.decoder.out_channels, config.head),
    )
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = config.norm_momentum
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
