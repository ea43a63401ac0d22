"""The camera-radar student and the LiDAR-camera teacher: readable top to bottom.

Shapes: B batch, P cameras present in the whole batch, C channels, X Y grid cells.
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
    """CRKD's student (Zhao et al. 2024), with or without calibration block; docs/method.md 1.4.

    A missing sensor adds nothing to its bird's-eye view, so one network serves camera-radar,
    camera-only and radar-only Frames.

    With a LiDAR branch in the place of the radar branch it is CRKD's teacher (docs/method.md 1.3);
    that one cannot do without LiDAR.
    """

    def __init__(
        self,
        config: DetectorConfig,
        *,
        image: ImageEncoder,
        lift: Lift | DepthLift,
        radar: RadarPillars | None = None,
        lidar: SparseLidar | LidarPillars | None = None,
        calibration: Calibration | None = None,
        fuser: GatedFuser | ConvFuser,
        decoder: BevDecoder,
        head: CenterHead,
    ):
        super().__init__()
        if (radar is None) == (lidar is None):
            raise LidarError("expected either a radar branch or a LiDAR branch")
        self.config = config
        self.calibrated = config.radar.calibration == "path"
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
            LidarError: a LiDAR-camera network, and no LiDAR in the batch.
        """
        features = self.image(batch.images, batch.camera_present)
        views = (features, batch.grid_T_pixel, batch.camera_present)
        if isinstance(self.lift, DepthLift):
            camera_bev, depth = self.lift(*views, *_lidar(batch))
        else:
            camera_bev, depth = self.lift(*views)
        radar_bev = lidar_bev = activation = None
        if self.lidar is not None:
            lidar_bev = self.lidar(*_lidar(batch), len(batch.images))
        if self.radar is not None:
            radar_bev = self.radar(batch.radar, batch.radar_sample, len(batch.images))
            # As a side branch nothing but the loss reads it.
            if self.calibration is not None and (self.calibrated or self.training):
                calibrated, activation = self.calibration(radar_bev)
                radar_bev = calibrated if self.calibrated else radar_bev
        gated_camera, fused = self.fuser(camera_bev, radar_bev if lidar_bev is None else lidar_bev)
        decoded = self.decoder(fused)
        return ModelOutput(
            tasks=self.head(decoded),
            camera_bev=camera_bev,
            gated_camera=gated_camera,
            fused=fused,
            decoded=decoded,
            depth_logits=depth,
            radar_bev=radar_bev,
            lidar_bev=lidar_bev,
            radar_activation=activation,
        )


def _lidar(batch: Batch) -> tuple[Tensor, Tensor]:
    if batch.lidar is None or batch.lidar_sample is None:
        raise LidarError(
            "this network needs LiDAR and the batch has none; read Frames with as many LiDAR "
            "sweeps as lidar.sweeps of its configuration"
        )
    return batch.lidar, batch.lidar_sample
