"""What a training minimises: a network and its criterion as one module, Batch in, losses out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crkd_core.config import TrainConfig
from crkd_core.data.batch import Batch
from crkd_core.losses.depth import DepthLoss
from crkd_core.losses.detection import DetectionLoss
from crkd_core.losses.normalise import process_count
from crkd_core.model.detector import BevDetector
from crkd_core.model.output import ModelOutput

#: Number format of the network's forward pass; weights, losses and the update are float32.
AUTOCAST = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TrainingLoss(nn.Module):
    """The loss of a plain training: detection, and depth where its weight is not 0."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.detection = DetectionLoss(config.detector)
        self.depth = DepthLoss(config.detector)
        self.depth_weight = config.depth_weight
        self.divisors: Sequence[Sequence[float]] | None = None

    def begin(self, batches: Sequence[Batch]) -> None:
        """Called before a step with all its batches: count what its losses are divided by.

        So the detection loss of a step is that of one large batch, whichever way it is cut into
        accumulated batches and processes. Every process must call.

        Raises:
            LossError: a sample without truth.
        """
        self.divisors = None
        if len(batches) > 1 or process_count() > 1:
            truths = [batch.truth for batch in batches]
            self.divisors = self.detection.divisors(truths, device=batches[0].images.device)

    def forward(self, output: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        """Weighted terms; "total" is their sum.

        Raises:
            LossError: a sample without truth.
            DepthLossError: a batch without LiDAR, with a depth weight.
        """
        losses = self.detection(output, batch.truth, divisors=self.divisors)
        if self.depth_weight:
            losses["depth"] = self.depth_weight * self.depth(output, batch)
            losses["total"] = losses["total"] + losses["depth"]
        return losses

    def check(self) -> None:
        """Called before the first step and before every checkpoint; raises to stop the run."""


class Objective(nn.Module):
    """Batch -> loss terms. One module, so that DistributedDataParallel sees all that is trained.

    Args:
        model: the network.
        criterion: on its output; its own parameters are trained along.
        precision: TrainConfig.precision.
    """

    def __init__(self, model: BevDetector, criterion: TrainingLoss, *, precision: str) -> None:
        super().__init__()
        self.model, self.criterion = model, criterion
        self.dtype = AUTOCAST[precision]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See TrainingLoss."""
        half = self.dtype != torch.float32
        with torch.autocast(batch.images.device.type, self.dtype, enabled=half):
            output = self.model(batch)
        return self.criterion(output, batch)
