"""Depth supervision from LiDAR, an option for training the lift (BEVDepth, Li et al. 2022, 3.1).

CRKD's student has none (docs/method.md 1.4). It makes short trainings of the camera branch
possible: the detection loss alone reaches the depth distribution late.

Shapes: P cameras present in the whole batch, D depth bins, h w feature map.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crkd_core.config import CameraConfig, DetectorConfig
from crkd_core.data.batch import Batch
from crkd_core.losses.normalise import per_process
from crkd_core.model.camera.depth_image import depth_images
from crkd_core.model.camera.lift import cell_pixels
from crkd_core.model.output import ModelOutput

#: Older returns have moved away from what the camera shows, seconds.
MAX_AGE = 0.06
#: Returns at this depth or nearer are left out, metres.
NEAR = 0.1


class DepthLossError(ValueError):
    """A network without cameras, or no LiDAR to learn depth from."""


class DepthLoss(nn.Module):
    """Cross entropy of the depth distribution at every feature cell that holds a LiDAR return."""

    def __init__(self, config: DetectorConfig):
        """For networks of this configuration.

        Raises:
            DepthLossError: it has no cameras.
        """
        super().__init__()
        self.config, self.camera = config, _camera(config)

    def forward(self, output: ModelOutput, batch: Batch, labelled: Tensor | None = None) -> Tensor:
        """Mean over the cells with a return within the depth range; 0 where there is none.

        With several processes the mean of their answers is that over the cells of all of them.

        Args:
            output: the network's, to ``batch``.
            batch: with LiDAR.
            labelled: see depth_truth.

        Raises:
            DepthLossError: no LiDAR in the batch.
        """
        # Here and not where batches are made: on a GPU it is there, and costs next to nothing.
        depth = depth_truth(batch, self.config, labelled=labelled)
        low, high, step = self.camera.depth
        # Bins are centred on their depth, as the lift places them.
        bins = torch.round((depth - low) / step)
        bins = bins.where((depth > 0) & (bins >= 0) & (bins < round((high - low) / step)), -1.0)
        logits = output.need("depth_logits").float()
        count = (bins >= 0).sum()
        share = count / per_process(count)
        if not count:
            return 0 * logits.sum()
        return share * F.cross_entropy(logits, bins.long(), ignore_index=-1)


def fresh_returns(batch: Batch) -> Batch:
    """``batch`` with the LiDAR that shows what its cameras show, and no more.

    Raises:
        DepthLossError: it has no LiDAR.
    """
    if batch.lidar is None or batch.lidar_sample is None:
        raise DepthLossError(
            "depth supervision needs LiDAR in the batch; read Frames with lidar_sweeps of 1 "
            "or more, or set the weight of the depth loss to 0"
        )
    fresh = batch.lidar[:, 4] <= MAX_AGE
    if fresh.all():
        # A single sweep. To copy it would cost more than all else that makes the batch.
        return batch
    return dataclasses.replace(
        batch, lidar=batch.lidar[fresh], lidar_sample=batch.lidar_sample[fresh]
    )


def depth_truth(batch: Batch, config: DetectorConfig, *, labelled: Tensor | None = None) -> Tensor:
    """[P, h, w] metres along the optical axis to each feature cell's nearest return, 0 for none.

    Args:
        batch: with LiDAR.
        config: of the detector whose cameras are meant.
        labelled: bool [B], the samples to learn from; what is learned of the others is a
            teacher's alone, so they have no returns here. None = all.

    Raises:
        DepthLossError: no cameras, or no LiDAR in the batch.
    """
    fresh = fresh_returns(batch)
    assert fresh.lidar is not None and fresh.lidar_sample is not None
    columns, rows = cell_pixels(_camera(config), config.image)
    depth = depth_images(
        fresh.lidar,
        fresh.lidar_sample,
        batch.grid_T_pixel,
        batch.camera_present,
        size=(len(rows), len(columns)),
        near=NEAR,
        # A feature cell stands for the pixels around its place.
        first=-0.5,
        cell=(float(rows[1]), float(columns[1])),
    )
    if labelled is not None:
        depth[~labelled[batch.camera_present.nonzero()[:, 0]]] = 0
    return depth


def _camera(config: DetectorConfig) -> CameraConfig:
    if config.camera is None:
        raise DepthLossError(
            f"{config.name} has no cameras whose depth it could learn; set depth_weight to 0"
        )
    return config.camera
