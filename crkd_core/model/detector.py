"""The detector, readable top to bottom: branches, fuser, memory, decoder, head.

Shapes: B batch, P cameras present in the whole batch, C channels, D depth bins, h w feature map,
X Y grid cells, T earlier moments.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crkd_core.config import DetectorConfig
from crkd_core.data.batch import Batch
from crkd_core.model.attention_fuse import AttentionFuser
from crkd_core.model.bev import BevDecoder
from crkd_core.model.camera.depth_lift import DepthLift
from crkd_core.model.camera.encoder import ImageEncoder
from crkd_core.model.camera.lift import Lift, Points
from crkd_core.model.camera.radar_lift import RadarLift
from crkd_core.model.fuse import ConvFuser, GatedFuser
from crkd_core.model.head import CenterHead
from crkd_core.model.intensity_guide import IntensityGuide
from crkd_core.model.lidar.encoders import LidarBranchError, LidarPillars, SparseLidar
from crkd_core.model.output import ModelOutput
from crkd_core.model.radar import RadarPillars
from crkd_core.model.radar_calibration import Calibration
from crkd_core.model.segment_head import SegmentHead
from crkd_core.model.temporal import TemporalFusion, moved_map


class BevDetector(nn.Module):
    """Up to three branches to the bird's-eye view, and one network on what they see together.

    CRKD's student (Zhao et al. 2024; docs/method.md 1.4) has cameras and radars, with or without
    calibration block; its teacher (1.3) has cameras and LiDAR; LiDAR, cameras or radars alone are
    detectors too. A branch that the configuration does not have is None here, and so are its maps
    in the output. IMKD's student (1.10) may also see radar in the image, be guided by intensity
    where camera and radar meet, and remember what it saw. Beside boxes, a second head may tell
    vehicle and drivable cells (1.11).

    A camera or radar that a Frame misses adds nothing to the bird's-eye view, so one camera-radar
    network serves Frames of either kind; LiDAR cannot be missed by a network that reads it.
    """

    def __init__(
        self,
        config: DetectorConfig,
        *,
        image: ImageEncoder | None = None,
        lift: Lift | DepthLift | RadarLift | None = None,
        radar: RadarPillars | None = None,
        calibration: Calibration | None = None,
        lidar: SparseLidar | LidarPillars | None = None,
        guide: IntensityGuide | None = None,
        fuser: GatedFuser | ConvFuser | AttentionFuser,
        temporal: TemporalFusion | None = None,
        decoder: BevDecoder,
        head: CenterHead,
        segments: SegmentHead | None = None,
    ):
        super().__init__()
        self.config = config
        self.calibrated = config.radar is not None and config.radar.calibration == "path"
        self.image = image
        self.lift = lift
        self.radar = radar
        self.lidar = lidar
        self.calibration = calibration
        self.guide = guide
        self.fuser = fuser
        self.temporal = temporal
        self.decoder = decoder
        self.head = head
        self.segments = segments

    def forward(self, batch: Batch, past: Tensor | None = None) -> ModelOutput:
        """A Batch of B samples -> ModelOutput.

        Args:
            batch: what is seen now; in training with the earlier moments.
            past: of a network with memory, ``instant`` of earlier moments in the present grid,
                [B, T, C, X, Y], zeros where there is none; None = those of the batch, or none.

        Raises:
            LidarBranchError: a LiDAR branch, and no LiDAR in the batch.
        """
        seen = self.look(batch)
        fused = seen["fused"]
        assert fused is not None
        if self.temporal is not None:
            seen["instant"] = fused
            fused = self.temporal(fused, self.looked_back(batch, fused) if past is None else past)
        decoded = self.decoder(fused)
        return ModelOutput(
            **(seen | {"fused": fused}),  # type: ignore[arg-type]
            tasks=self.head(decoded),
            decoded=decoded,
            segments=None if self.segments is None else self.segments(decoded),
        )

    def look(self, batch: Batch) -> dict[str, Tensor | None]:
        """Branches and fuser: the features of a Batch by their names in ModelOutput.

        Raises:
            LidarBranchError: a LiDAR branch, and no LiDAR in the batch.
        """
        camera_bev = depth = radar_bev = activation = lidar_bev = None
        if self.lidar is not None:
            lidar_bev = self.lidar(*_lidar(batch), len(batch))
        if self.image is not None and self.lift is not None:
            features = self.image(batch.images, batch.camera_present)  # [P, C, h, w]
            camera_bev, depth = self.lift(
                features,
                batch.grid_T_pixel,
                batch.camera_present,
                lidar=None if self.lidar is None else Points(*_lidar(batch)),
                radar=Points(batch.radar, batch.radar_sample),
            )
        if self.radar is not None:
            radar_bev = self.radar(batch.radar, batch.radar_sample, len(batch))
            # As a side branch nothing but the loss reads it.
            if self.calibration is not None and (self.calibrated or self.training):
                calibrated, activation = self.calibration(radar_bev)
                radar_bev = calibrated if self.calibrated else radar_bev
        maps = [view for view in (camera_bev, radar_bev, lidar_bev) if view is not None]
        factors = () if self.guide is None else self.guide(maps[0], maps[1], batch)
        gated, fused = self.fuser(maps, factors)
        return {
            "fused": fused,
            "camera_bev": camera_bev,
            "gated_camera": None if camera_bev is None else gated[0],
            "depth_logits": depth,
            "radar_bev": radar_bev,
            "radar_activation": activation,
            "lidar_bev": lidar_bev,
        }

    def looked_back(self, batch: Batch, fused: Tensor) -> Tensor:
        """The earlier moments of a Batch in the present grid, [B, T, C, X, Y].

        They are seen as a running detector sees them, in evaluation mode and without gradient.
        Moments that the batch does not have are zeros, as ``fused`` [B, C, X, Y] is large.
        """
        assert self.config.temporal is not None
        maps = [torch.zeros_like(fused) for _ in range(self.config.temporal.frames)]
        trained = [module for module in self.modules() if module.training]
        self.eval()
        try:
            with torch.no_grad():
                for index, past in enumerate(batch.past):
                    then = self.look(past.batch)["fused"]
                    assert then is not None
                    there = moved_map(then, past.now_T_past, self.config.grid)
                    maps[index] = there * past.known[:, None, None, None]
        finally:
            for module in trained:
                module.training = True
        return torch.stack(maps, 1)


def _lidar(batch: Batch) -> tuple[Tensor, Tensor]:
    if batch.lidar is None or batch.lidar_sample is None:
        raise LidarBranchError(
            "this network needs LiDAR and the batch has none; read Frames with as many LiDAR "
            "sweeps as lidar.sweeps of its configuration"
        )
    return batch.lidar, batch.lidar_sample
