"""The camera-radar student: readable top to bottom.

Shapes: B batch, P cameras present in the whole batch, C channels, X Y grid cells.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from crkd_core.config import DetectorConfig
from crkd_core.data.batch import Batch
from crkd_core.model.bev import BevDecoder
from crkd_core.model.calibrate import Calibration
from crkd_core.model.fuse import ConvFuser, GatedFuser
from crkd_core.model.head import CenterHead
from crkd_core.model.image import ImageEncoder
from crkd_core.model.lift import Lift
from crkd_core.model.radar import RadarPillars


@dataclass(frozen=True, kw_only=True)
class ModelOutput:
    """Everything that a loss may look at.

    Attributes:
        tasks: per task the raw maps reg, height, dim, rot, vel and heatmap (logits), [B, c, X, Y].
        camera_bev: [B, C, X, Y] lifted camera features; zeros where every camera is missing.
        gated_camera: [B, C, X, Y] camera features after the gate.
        radar_bev: [B, C, X, Y] what the radar branch gives the fuser: pillars, zeros where every
            radar is missing, or calibrated pillars.
        fused: [B, C, X, Y].
        decoded: [B, C, X, Y] what the head reads.
        depth_logits: [P, D, h, w] depth distribution of every present camera, before the softmax.
        radar_activation: [B, 1, X, Y] what CSRD compares with the teacher's objectness; None
            without a calibration block, and outside training where that is a side branch.
    """

    tasks: list[dict[str, Tensor]]
    camera_bev: Tensor
    gated_camera: Tensor
    radar_bev: Tensor
    fused: Tensor
    decoded: Tensor
    depth_logits: Tensor
    radar_activation: Tensor | None = None


class CameraRadarDetector(nn.Module):
    """CRKD's student (Zhao et al. 2024; methods 1.4 to 1.6), with or without calibration block.

    A missing sensor adds nothing to its bird's-eye view, so one network serves camera-radar,
    camera-only and radar-only Frames.
    """

    def __init__(
        self,
        config: DetectorConfig,
        *,
        image: ImageEncoder,
        lift: Lift,
        radar: RadarPillars,
        calibration: Calibration | None = None,
        fuser: GatedFuser | ConvFuser,
        decoder: BevDecoder,
        head: CenterHead,
    ):
        super().__init__()
        self.config = config
        self.calibrated = config.radar.calibration == "path"
        self.image = image
        self.lift = lift
        self.radar = radar
        self.calibration = calibration
        self.fuser = fuser
        self.decoder = decoder
        self.head = head

    def forward(self, batch: Batch) -> ModelOutput:
        """A Batch of B samples -> ModelOutput."""
        features = self.image(batch.images, batch.camera_present)
        camera_bev, depth = self.lift(features, batch.ego_T_pixel, batch.camera_present)
        radar_bev = self.radar(batch.radar, batch.radar_sample, len(batch.images))
        activation = None
        # As a side branch nothing but the loss reads it.
        if self.calibration is not None and (self.calibrated or self.training):
            calibrated, activation = self.calibration(radar_bev)
            radar_bev = calibrated if self.calibrated else radar_bev
        gated_camera, fused = self.fuser(camera_bev, radar_bev)
        decoded = self.decoder(fused)
        return ModelOutput(
            tasks=self.head(decoded),
            camera_bev=camera_bev,
            gated_camera=gated_camera,
            radar_bev=radar_bev,
            fused=fused,
            decoded=decoded,
            depth_logits=depth,
            radar_activation=activation,
        )
