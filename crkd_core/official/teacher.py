"""Released LiDAR-camera teachers: ResNet-50 or Swin-T with the sparse LiDAR encoder."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

from torch import Tensor

from crkd_core.config import DetectorConfig, LidarConfig
from crkd_core.official import bev
from crkd_core.official.camera import camera_encoder
from crkd_core.official.grids import EGO_T_LIDAR, check_geometry
from crkd_core.official.source import OfficialError, Source
from crkd_core.presets import lc_r50
from crkd_core.presets.crkd import LC_CAMERA

VIEW = "encoders.camera.vtransform."
LIDAR = "encoders.lidar.backbone."

#: Camera branch of released teachers, with the sizes of the one with ResNet-50.
CAMERA = dataclasses.replace(LC_CAMERA, cell_rounding="trunc")


def released_teacher() -> DetectorConfig:
    """What released teachers have in common, with the sizes of the one with ResNet-50."""
    published = lc_r50().detector
    return dataclasses.replace(
        published,
        image=dataclasses.replace(published.image, resize="released"),
        camera=CAMERA,
        head=dataclasses.replace(published.head, center_limit=bev.CENTER_LIMIT),
        ego_T_grid=EGO_T_LIDAR,
    )


def convert_teacher(source: Source) -> tuple[DetectorConfig, dict[str, Tensor]]:
    """Configuration and tensors of a teacher.

    Raises:
        OfficialError: keys or shapes that are not CRKD's.
    """
    released = released_teacher()
    encoder = camera_encoder(source, "encoders.camera.", "image.")
    camera = dataclasses.replace(
        CAMERA,
        backbone=encoder.backbone,
        neck=encoder.neck,
        neck_levels=encoder.neck_levels,
        neck_channels=encoder.neck_channels,
    )
    _depth_lift(source)
    lidar = _lidar(source)
    fuser, fused = bev.fuser(source)
    config = dataclasses.replace(
        released,
        name=f"imported_lc_{'r50' if camera.neck == 'second_fpn' else 'swint'}",
        camera=camera,
        lidar=lidar,
        fuser=cast("Any", fuser),
        fused_channels=fused,
        decoder=bev.decoder(source),
        head=bev.head(source, code_weights=released.head.code_weights),
    )
    check_geometry(source, camera, config, VIEW)
    return config, source.finish()


def _depth_lift(source: Source) -> None:
    """Move the depth branch, the depth network and the convolutions behind the splat."""
    inputs = source.shape(f"{VIEW}dtransform.0.weight", axes=2)[1]
    if inputs != 1:
        raise OfficialError(
            f"{VIEW}dtransform.0: expected one channel, the depth of LiDAR points, got {inputs}; "
            "later revisions of BEVFusion read more and fit no published weights"
        )
    low, high, step = CAMERA.depth
    expected = round((high - low) / step) + CAMERA.context_channels
    outputs = source.shape(f"{VIEW}depthnet.6.weight")[0]
    if outputs != expected:
        raise OfficialError(
            f"{VIEW}depthnet.6: expected {expected} outputs, depth bins and context channels, got "
            f"{outputs}"
        )
    for theirs, ours, layers in (("dtransform", "depth_map", 3), ("depthnet", "depth_context", 2)):
        for index in range(0, 3 * layers, 3):
            source.layer(f"{VIEW}{theirs}.{index}", f"lift.{ours}.{index}")
            source.norm(f"{VIEW}{theirs}.{index + 1}", f"lift.{ours}.{index + 1}")
    source.layer(f"{VIEW}depthnet.6", "lift.depth_context.6")
    for index in range(3):
        a, b = f"{VIEW}downsample", f"lift.compress.{index}"
        source.layer(f"{a}.{3 * index}", f"{b}.0", bias=False)
        source.norm(f"{a}.{3 * index + 1}", f"{b}.1")


def _lidar(source: Source) -> LidarConfig:
    """Move the sparse encoder; kernels [kx, ky, kz, in, out] become [kx ky kz, in, out]."""
    config = LidarConfig()
    new = "lidar.encoder."
    _sparse(source, f"{LIDAR}conv_input", f"{new}input")
    for stage in range(len(config.channels)):
        a, b = f"{LIDAR}encoder_layers.encoder_layer{stage + 1}", f"{new}stages.{stage}"
        for block in range(config.blocks):
            for index, ours in ((1, "first"), (2, "second")):
                _kernel(source, f"{a}.{block}.conv{index}", f"{b}.{block}.{ours}.0")
                source.norm(f"{a}.{block}.bn{index}", f"{b}.{block}.{ours}.1")
        if stage + 1 < len(config.channels):
            _sparse(source, f"{a}.{config.blocks}", f"{b}.{config.blocks}")
    _sparse(source, f"{LIDAR}conv_out", f"{new}out")
    return config


def _sparse(source: Source, old: str, new: str) -> None:
    _kernel(source, f"{old}.0", f"{new}.0")
    source.norm(f"{old}.1", f"{new}.1")


def _kernel(source: Source, old: str, new: str) -> None:
    key = f"{old}.weight"
    edge = 1 if old.startswith(f"{LIDAR}conv_out.") else 3
    if key in source and source.shape(key)[:3] != (edge, edge, 3):
        raise OfficialError(
            f"{key}: expected a kernel [kx, ky, kz, in, out] as the released code stores it "
            f"(spconv 1), got {list(source.shape(key))}"
        )
    source.move(key, f"{new}.weight", lambda kernel: kernel.flatten(0, 2))
