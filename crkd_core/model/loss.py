"""Detection loss: Gaussian focal loss on heatmaps, weighted L1 at box centres (methods 1.6).

Shapes: B batch, n classes of a task, X Y grid cells, N boxes of a task in the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crkd_core.boxes import Boxes
from crkd_core.config import DetectorConfig
from crkd_core.model.detector import ModelOutput
from crkd_core.model.head import REGRESSION, stacked
from crkd_core.model.targets import CODE, TaskTargets, build_targets

#: Focal exponents of CornerNet: on the prediction, and on the distance to the nearest centre.
ALPHA, GAMMA = 2.0, 4.0
#: Probabilities are kept this far from 0 and 1.
CLIP = 1e-4


class LossError(ValueError):
    """A batch that has no loss."""


class DetectionLoss(nn.Module):
    """Sum over tasks of heatmap loss and box loss; each normalised by the batch's box count."""

    code_weights: Tensor

    def __init__(self, config: DetectorConfig):
        super().__init__()
        self.config = config
        if len(config.head.code_weights) != len(CODE):
            raise LossError(
                f"head.code_weights: expected {len(CODE)} values ({', '.join(CODE)}), got "
                f"{len(config.head.code_weights)}"
            )
        self.register_buffer("code_weights", torch.tensor(config.head.code_weights), False)

    def forward(self, output: ModelOutput, truths: Sequence[Boxes | None]) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            output: of B samples.
            truths: B sets of boxes in the (augmented) ego frame. An empty set is an answer; None
                is not.

        Returns:
            Scalars "total", "heatmap" and one per regression branch, with their weights; the total
            is the sum of the others.

        Raises:
            LossError: a sample without truth.
        """
        known = [truth for truth in truths if truth is not None]
        if len(known) < len(truths):
            missing = [index for index, truth in enumerate(truths) if truth is None]
            raise LossError(
                f"samples {missing} of the batch have no truth; train on annotated Frames"
            )
        losses = {"heatmap": output.decoded.new_zeros((), dtype=torch.float32)}
        losses |= dict.fromkeys(REGRESSION, losses["heatmap"])
        for maps, target in zip(output.tasks, build_targets(known, self.config), strict=True):
            heatmap = target.heatmap.to(maps["heatmap"].device, non_blocking=True)
            losses["heatmap"] = losses["heatmap"] + gaussian_focal(maps["heatmap"], heatmap)
            for name, loss in self.box_loss(maps, target).items():
                losses[name] = losses[name] + loss
        return {"total": sum(losses.values(), torch.zeros_like(losses["heatmap"])), **losses}

    def box_loss(self, maps: dict[str, Tensor], target: TaskTargets) -> dict[str, Tensor]:
        """Weighted L1 of one task at the cells of its N boxes, per regression branch."""
        device = maps["reg"].device
        sample, cell, code = (t.to(device) for t in (target.sample, target.cell, target.code))
        predicted = stacked(maps).flatten(2)[sample, :, cell].float()
        known = torch.isfinite(code)
        error = (predicted - code.where(known, predicted.detach())).abs() * self.code_weights
        weight = self.config.head.box_weight / (len(code) + 1e-4)
        parts = (weight * error.where(known, torch.zeros_like(error))).sum(0)
        return dict(
            zip(REGRESSION, (p.sum() for p in parts.split(list(REGRESSION.values()))), strict=True)
        )


def gaussian_focal(logits: Tensor, target: Tensor) -> Tensor:
    """CornerNet's focal loss (Law & Deng 2018, eq. 1) divided by the number of centres.

    Args:
        logits: [B, n, X, Y].
        target: [B, n, X, Y], 1 at centres, falling towards 0 around them.
    """
    logits = logits.float()
    p = logits.sigmoid().clamp(CLIP, 1 - CLIP)
    positive = target == 1
    hit = -(p.log() * (1 - p) ** ALPHA)[positive].sum()
    miss = -((1 - p).log() * p**ALPHA * (1 - target) ** GAMMA)
    count = positive.sum().clamp(min=1)
    return (hit + miss.masked_fill(positive, 0).sum()) / count
