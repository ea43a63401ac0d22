"""Detection loss: Gaussian focal loss on heatmaps, weighted L1 at box centres.

docs/method.md 1.6. Shapes: B batch, n classes of a task, X Y grid cells, N boxes of a task in the
whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crkd_core.config import DetectorConfig
from crkd_core.losses.targets import CODE, Targets, TaskTargets
from crkd_core.model.head import REGRESSION, stacked
from crkd_core.model.output import ModelOutput

#: Focal exponents of CornerNet: on the prediction, and on the distance to the nearest centre.
ALPHA, GAMMA = 2.0, 4.0
#: Probabilities are kept this far from 0 and 1.
CLIP = 1e-4


class LossError(ValueError):
    """A loss that cannot be set up."""


class DetectionLoss(nn.Module):
    """Sum over tasks of heatmap loss, by the number of peaks, and box loss, by that of boxes."""

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

    def forward(self, output: ModelOutput, targets: Targets) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            output: of B samples.
            targets: of the same samples, on the output's device.

        Returns:
            Scalars "total", "heatmap" and one per regression branch, with their weights; the total
            is the sum of the others.
        """
        losses = {"heatmap": output.fused.new_zeros((), dtype=torch.float32)}
        losses |= dict.fromkeys(REGRESSION, losses["heatmap"])
        # Once for all tasks: a GPU is waited for.
        labelled = None if targets.labelled is None else targets.labelled.nonzero()[:, 0]
        for maps, target, (peaks, boxes) in zip(
            output.tasks, targets.tasks(), targets.divisors, strict=True
        ):
            heatmaps = maps["heatmap"], target.heatmap
            if labelled is not None:
                # Where no box is known, none may be called wrong.
                heatmaps = heatmaps[0][labelled], heatmaps[1][labelled]
            losses["heatmap"] = losses["heatmap"] + gaussian_focal(*heatmaps, divisor=peaks)
            for name, loss in self.box_loss(maps, target, divisor=boxes).items():
                losses[name] = losses[name] + loss
        return {"total": sum(losses.values(), torch.zeros_like(losses["heatmap"])), **losses}

    def box_loss(
        self, maps: dict[str, Tensor], target: TaskTargets, *, divisor: float
    ) -> dict[str, Tensor]:
        """Weighted L1 of one task at the cells of its N boxes, per regression branch.

        The sum is divided by ``divisor``.
        """
        predicted = stacked(maps).flatten(2)[target.sample, :, target.cell].float()
        code = target.code
        known = torch.isfinite(code)
        error = (predicted - code.where(known, predicted.detach())).abs() * self.code_weights
        weight = self.config.head.box_weight / divisor
        parts = (weight * error.where(known, torch.zeros_like(error))).sum(0)
        return dict(
            zip(REGRESSION, (p.sum() for p in parts.split(list(REGRESSION.values()))), strict=True)
        )


def gaussian_focal(logits: Tensor, target: Tensor, *, divisor: float) -> Tensor:
    """CornerNet's focal loss (Law & Deng 2018, eq. 1) divided by the number of centres.

    Args:
        logits: [B, n, X, Y].
        target: [B, n, X, Y], 1 at centres, falling towards 0 around them.
        divisor: number of centres.
    """
    logits = logits.float()
    p = logits.sigmoid().clamp(CLIP, 1 - CLIP)
    positive = target == 1
    hit = -(p.log() * (1 - p) ** ALPHA)[positive].sum()
    miss = -((1 - p).log() * p**ALPHA * (1 - target) ** GAMMA)
    return (hit + miss.masked_fill(positive, 0).sum()) / divisor
