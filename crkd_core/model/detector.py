"""The detector, readable top to bottom: branches, fuser, decoder, head.

Shapes: B batch, P cameras present in the whole batch, C channels, D depth bins, h w feature map,
X Y grid cells.
"""

from __future__ import annotations

from torch import Tensor, nn

from crkd_core.config import DetectorConfig
from crkd_core.data.batch import Batch
from crkd_core.model.bev import BevDecoder
from crkd_core.model.camera.depth_lift import DepthLift
from crkd_core.model.camera.encoder import ImageEncoder
from crkd_core.model.camera.lift import Lift
from crkd_core.model.fuse import ConvFuser, GatedFuser
from crkd_core.model.head import CenterHead
from crkd_core.model.lidar.encoders import LidarError, LidarPillars, SparseLidar
from crkd_core.model.output import ModelOutput
from crkd_core.model.radar import RadarPillars
from crkd_core.model.radar_calibration import Calibration


class BevDetector(nn.Module):
    """Up to three branches to the bird's-eye view, and one network on what they see together.

    CRKD's student (Zhao et al. 2024; docs/method.md 1.4) has cameras and radars, with or without
    calibration block; its teacher (1.3) has cameras and LiDAR; LiDAR, cameras or radars alone are
    detectors too. A branch that the configuration does not have is None here, and so are its maps
    in the output.

    A camera or radar that a Frame misses adds nothing to the bird's-eye view, so one camera-radar
    network serves Frames of either kind; LiDAR cannot be missed by a network that reads it.
    """

    def __init__(
        self,
        config: DetectorConfig,
        *,
        image: ImageEncoder | None = None,
        lift: Lift | DepthLift | None = None,
        radar: RadarPillars | None = None,
        calibration: Calibration | None = None,
        lidar: SparseLidar | LidarPillars | None = None,
        fuser: GatedFuser | ConvFuser,
        decoder: BevDecoder,
        head: CenterHead,
    ):
        super().__init__()
        self.config = config
        self.calibrated = config.radar is not None and config.radar.calibration == "path"
        self.image = image
        self.lift = lift
        self.radar = radar
        self.lidar = lidar
        self.calibration = calibration
        self.fuser = fuser
        self.decoder = decoder
        self.head = head

    def forward(self, batch: Batch) -> ModelOutput:
        """A Batch of B samples -> ModelOutput.

        Raises:
            LidarError: a LiDAR branch, and no LiDAR in the batch.
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
                points=batch.lidar,
                sample=batch.lidar_sample,
            )
        if self.radar is not None:
            radar_bev = self.radar(batch.radar, batch.radar_sample, len(batch))
            # As a side branch nothing but the loss reads it.
            if self.calibration is not None and (self.calibrated or self.training):
                calibrated, activation = self.calibration(radar_bev)
                radar_bev = calibrated if self.calibrated else radar_bev
        maps = [view for view in (camera_bev, radar_bev, lidar_bev) if view is not None]
        gated, fused = self.fuser(maps)
        decoded = self.decoder(fused)
        return ModelOutput(
            tasks=self.head(decoded),
            fused=fused,
            decoded=decoded,
            camera_bev=camera_bev,
            gated_camera=None if camera_bev is None else gated[0],
            depth_logits=depth,
            radar_bev=radar_bev,
            radar_activation=activation,
            lidar_bev=lidar_bev,
        )


def _lidar(batch: Batch) -> tuple[Tensor, Tensor]:
    if batch.lidar is None or batch.lidar_sample is None:
        raise LidarError(
            "this network needs LiDAR and the batch has none; read Frames with as many LiDAR "
            "sweeps as lidar.sweeps of its configuration"
        )
    return batch.lidar, batch.lidar_sample
