"""What a training minimises: a network and its criterion as one module, batch in, losses out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crkd_core.config import Precision, TrainConfig
from crkd_core.losses.depth import DepthLoss
from crkd_core.losses.detection import DetectionLoss
from crkd_core.losses.segments import SegmentLoss
from crkd_core.model.detector import BevDetector
from crkd_core.model.output import ModelOutput
from crkd_core.model.precision import DTYPES
from crkd_core.train.batch import TrainingBatch

#: Weight of the heatmaps while boxes are learned alone: enough to keep them from growing wild with
#: the features that they share, too little to lead.
HEATMAP_SHARE = 0.02


class TrainingLoss(nn.Module):
    """The loss of a plain training: detection, depth where its weight is not 0, a second head."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.detection = DetectionLoss(config.detector)
        self.depth = DepthLoss(config.detector) if config.depth_weight else None
        self.depth_weight = config.depth_weight
        self.segments = None if config.detector.segments is None else SegmentLoss(config.detector)
        first, end = (round(share * config.steps) for share in config.boxes_alone)
        self.boxes_alone = range(first + 1, end + 1)
        self.step = 0

    def forward(self, output: ModelOutput, batch: TrainingBatch) -> dict[str, Tensor]:
        """Weighted terms; "total" is their sum.

        Raises:
            DepthLossError: a batch without LiDAR, with a weight of the depth loss.
            TargetError: targets without segments, with a second head.
        """
        losses = self.detection(output, batch.targets)
        if self.step in self.boxes_alone:
            whole = losses["heatmap"]
            losses["heatmap"] = HEATMAP_SHARE * whole
            losses["total"] = losses["total"] - whole + losses["heatmap"]
        if self.depth is not None:
            losses["depth"] = self.depth_weight * self.depth(
                output, batch.inputs, batch.targets.labelled
            )
            losses["total"] = losses["total"] + losses["depth"]
        if self.segments is not None:
            losses["segments"] = self.segments(output, batch.targets)
            losses["total"] = losses["total"] + losses["segments"]
        return losses

    def begin(self, step: int) -> None:
        """Called before every step, which are counted from 1; for weights that change."""
        self.step = step

    def check(self) -> None:
        """Called before the first step and before every checkpoint; raises to stop the run."""


class Objective(nn.Module):
    """Batch -> loss terms. One module, so that DistributedDataParallel sees all that is trained.

    Args:
        model: the network.
        criterion: on its output; its own parameters are trained along.
        precision: TrainConfig.precision.
    """

    def __init__(
        self, model: BevDetector, criterion: TrainingLoss, *, precision: Precision
    ) -> None:
        super().__init__()
        self.model, self.criterion = model, criterion
        self.dtype = DTYPES[precision]

    def forward(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """See TrainingLoss."""
        half = self.dtype != torch.float32
        with torch.autocast(batch.inputs.images.device.type, self.dtype, enabled=half):
            output = self.model(batch.inputs)
        return self.criterion(output, batch)
