"""Depth supervision from LiDAR, an option for training the lift (BEVDepth, Li et al. 2022, 3.1).

CRKD's student has none (docs/method.md 1.4). It makes short trainings of the camera branch
possible: the detection loss alone reaches the depth distribution late.

Shapes: B batch, P cameras present in the whole batch, D depth bins, h w feature map, L LiDAR
points of the whole batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crkd_core.config import DetectorConfig
from crkd_core.data.batch import Batch
from crkd_core.losses.normalise import per_process
from crkd_core.model.camera.lift import cell_pixels
from crkd_core.model.output import ModelOutput

#: Older returns have moved away from what the camera shows, seconds.
MAX_AGE = 0.06


class DepthLossError(ValueError):
    """A batch without LiDAR."""


class DepthLoss(nn.Module):
    """Cross entropy of the depth distribution at every feature cell that holds a LiDAR return."""

    def __init__(self, config: DetectorConfig):
        super().__init__()
        self.config = config

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """Mean over the cells with a return within the depth range; 0 where there is none.

        With several processes the mean of their answers is that over the cells of all of them.

        Raises:
            DepthLossError: the batch carries no LiDAR.
            MissingFeatureError: a network without cameras.
        """
        depth = self.truth(batch)
        low, high, step = self.config.camera.depth
        # Bins are centred on their depth, as the lift places them.
        bins = torch.round((depth - low) / step)
        bins = bins.where((depth > 0) & (bins >= 0) & (bins < round((high - low) / step)), -1.0)
        logits = output.need("depth_logits").float()
        count = (bins >= 0).sum()
        share = count / per_process(count)
        if not count:
            return 0 * logits.sum()
        return share * F.cross_entropy(logits, bins.long(), ignore_index=-1)

    @torch.no_grad()
    def truth(self, batch: Batch) -> Tensor:
        """[P, h, w] metres along the optical axis to each cell's nearest return, 0 for none."""
        if batch.lidar is None or batch.lidar_sample is None:
            raise DepthLossError(
                "depth supervision needs LiDAR in the batch; read Frames with lidar_sweeps of 1 "
                "or more, or set the weight of the depth loss to 0"
            )
        columns, rows = cell_pixels(self.config.camera, self.config.image)
        w, h = len(columns), len(rows)
        step = torch.stack([columns[1], rows[1]]).to(batch.lidar.device)
        fresh = batch.lidar[:, 4] <= MAX_AGE
        points, sample = batch.lidar[fresh, :3], batch.lidar_sample[fresh]
        homogeneous = F.pad(points, (0, 1), value=1.0)
        maps = []
        for index, camera in batch.camera_present.nonzero().tolist():
            pixel_T_grid = torch.linalg.inv(batch.grid_T_pixel[index, camera].double()).float()
            scaled = homogeneous[sample == index] @ pixel_T_grid[:3].T
            scaled = scaled[scaled[:, 2] > 0.1]
            cell = torch.round(scaled[:, :2] / scaled[:, 2:] / step)
            inside = ((cell >= 0) & (cell < cell.new_tensor([w, h]))).all(1)
            cell, depth = cell[inside].long(), scaled[inside, 2]
            nearest = points.new_full((h * w,), torch.inf)
            nearest = nearest.scatter_reduce(0, cell[:, 1] * w + cell[:, 0], depth, "amin")
            maps.append(nearest.where(nearest.isfinite(), 0.0).view(h, w))
        return torch.stack(maps) if maps else points.new_zeros((0, h, w))
