"""Released camera-radar students: gated, distilled (with calibration block), or the baseline."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

from torch import Tensor

from crkd_core.config import DetectorConfig, RadarConfig
from crkd_core.official import bev
from crkd_core.official.camera import camera_encoder
from crkd_core.official.grids import EGO_T_LIDAR, check_geometry
from crkd_core.official.source import OfficialError, Source
from crkd_core.presets import crkd_r50
from crkd_core.presets.crkd import CR_CAMERA

#: Slots of a pillar in the released code.
SLOTS = 20

#: Branches of released students, with the sizes of the gated one with ResNet-50.
CAMERA = dataclasses.replace(CR_CAMERA, cell_rounding="trunc")
RADAR = RadarConfig(points_per_pillar=SLOTS, age="newest")


def released_student() -> DetectorConfig:
    """What released students have in common, with the sizes of the gated one with ResNet-50."""
    published = crkd_r50().detector
    return dataclasses.replace(
        published,
        image=dataclasses.replace(published.image, resize="released"),
        camera=CAMERA,
        radar=RADAR,
        head=dataclasses.replace(
            published.head, center_limit=bev.CENTER_LIMIT, size_limits=bev.SIZE_LIMITS
        ),
        ego_T_grid=EGO_T_LIDAR,
    )


def convert_student(source: Source) -> tuple[DetectorConfig, dict[str, Tensor]]:
    """Configuration and tensors of a student whose keys begin with encoders, fuser, ...

    Raises:
        OfficialError: keys or shapes that are not CRKD's.
    """
    released = released_student()
    camera = camera_encoder(source, "encoders.camera.", "image.")
    depth = source.shape("encoders.camera.vtransform.depthnet.weight")[0]
    radar = _radar(source)
    fuser, fused = bev.fuser(source)
    bins = depth - camera.context_channels
    low, high, step = camera.depth
    if bins != round((high - low) / step):
        raise OfficialError(
            f"encoders.camera.vtransform.depthnet: expected {round((high - low) / step)} depth "
            f"bins + {camera.context_channels} channels, got {depth} outputs"
        )
    source.layer("encoders.camera.vtransform.depthnet", "lift.depth_context")
    camera = dataclasses.replace(camera, cell_rounding=CAMERA.cell_rounding)
    config = dataclasses.replace(
        released,
        name=f"imported_crkd_{'r50' if camera.neck == 'second_fpn' else 'swint'}",
        camera=camera,
        radar=radar,
        fuser=cast("Any", fuser),
        fused_channels=fused,
        decoder=bev.decoder(source),
        head=bev.head(source),
    )
    check_geometry(source, camera, config, "encoders.camera.vtransform.")
    return config, source.finish()


def _radar(source: Source) -> RadarConfig:
    """Move pillar layers and, where there is one, the calibration block."""
    old = "encoders.radar.backbone."
    widths: list[int] = []
    while f"{old}pts_voxel_encoder.rfn_layers.{len(widths)}.linear.weight" in source:
        layer = f"{old}pts_voxel_encoder.rfn_layers.{len(widths)}"
        new = f"radar.layers.{len(widths)}"
        widths.append(source.shape(f"{layer}.linear.weight")[0])
        source.layer(f"{layer}.linear", f"{new}.0", bias=False)
        source.norm(f"{layer}.norm", f"{new}.1")
    if not widths:
        raise OfficialError(
            f"{old}pts_voxel_encoder.rfn_layers: no layers of a radar pillar network"
        )
    calibrated = source.has(f"{old}caliber.")
    if calibrated:
        for index in range(0, 9, 3):
            source.layer(f"{old}caliber.{index}", f"calibration.blocks.{index}")
            source.norm(f"{old}caliber.{index + 1}", f"calibration.blocks.{index + 1}")
        source.layer(f"{old}distill_activation_head.0", "calibration.activation.0", bias=False)
    return dataclasses.replace(
        RADAR,
        channels=tuple(widths),
        calibration="path" if calibrated else "none",
    )
