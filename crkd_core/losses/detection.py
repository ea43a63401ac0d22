"""Detection loss: Gaussian focal loss on heatmaps, weighted L1 at box centres.

docs/method.md 1.6. Shapes: B batch, n classes of a task, X Y grid cells, N boxes of a task in the
whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crkd_core.boxes import Boxes
from crkd_core.config import DetectorConfig
from crkd_core.losses.normalise import per_process, process_count
from crkd_core.losses.targets import CODE, TaskTargets, build_targets
from crkd_core.model.head import REGRESSION, stacked
from crkd_core.model.output import ModelOutput

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

    def forward(
        self,
        output: ModelOutput,
        truths: Sequence[Boxes | None],
        *,
        divisors: Sequence[Sequence[float]] | None = None,
    ) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            output: of B samples.
            truths: B sets of boxes in the (augmented) ego frame. An empty set is an answer; None
                is not.
            divisors: of the larger batch that this one is a part of; see ``divisors``. None = it
                is whole.

        Returns:
            Scalars "total", "heatmap" and one per regression branch, with their weights; the total
            is the sum of the others.

        Raises:
            LossError: a sample without truth.
        """
        targets = build_targets(_known(truths), self.config)
        if divisors is None:
            divisors = [_divisors(*_counts(target)) for target in targets]
        losses = {"heatmap": output.fused.new_zeros((), dtype=torch.float32)}
        losses |= dict.fromkeys(REGRESSION, losses["heatmap"])
        for maps, target, (peaks, boxes) in zip(output.tasks, targets, divisors, strict=True):
            heatmap = target.heatmap.to(maps["heatmap"].device, non_blocking=True)
            losses["heatmap"] = losses["heatmap"] + gaussian_focal(
                maps["heatmap"], heatmap, divisor=peaks
            )
            for name, loss in self.box_loss(maps, target, divisor=boxes).items():
                losses[name] = losses[name] + loss
        return {"total": sum(losses.values(), torch.zeros_like(losses["heatmap"])), **losses}

    def divisors(
        self, batches: Sequence[Sequence[Boxes | None]], *, device: torch.device
    ) -> list[list[float]]:
        """Divisors for the parts of a large batch, so that the mean of their losses is its loss.

        The large batch is ``batches`` of this process and of all others, which must call too.

        Args:
            batches: the truths of every part, augmented.
            device: where processes exchange numbers.

        Returns:
            Per task the divisor of the heatmap loss and that of the box loss.

        Raises:
            LossError: a sample without truth.
        """
        counts = [
            [_counts(target) for target in build_targets(_known(truths), self.config)]
            for truths in batches
        ]
        total = per_process(torch.tensor(counts, dtype=torch.float64, device=device).sum(0))
        parts = process_count()
        return [
            [divisor / parts / len(batches) for divisor in _divisors(*row)]
            for row in (total * parts).tolist()
        ]

    def box_loss(
        self, maps: dict[str, Tensor], target: TaskTargets, *, divisor: float | None = None
    ) -> dict[str, Tensor]:
        """Weighted L1 of one task at the cells of its N boxes, per regression branch.

        The sum is divided by ``divisor``; None = the number of boxes.
        """
        divisor = _divisors(*_counts(target))[1] if divisor is None else divisor
        device = maps["reg"].device
        sample, cell, code = (t.to(device) for t in (target.sample, target.cell, target.code))
        predicted = stacked(maps).flatten(2)[sample, :, cell].float()
        known = torch.isfinite(code)
        error = (predicted - code.where(known, predicted.detach())).abs() * self.code_weights
        weight = self.config.head.box_weight / divisor
        parts = (weight * error.where(known, torch.zeros_like(error))).sum(0)
        return dict(
            zip(REGRESSION, (p.sum() for p in parts.split(list(REGRESSION.values()))), strict=True)
        )


def gaussian_focal(logits: Tensor, target: Tensor, *, divisor: float | None = None) -> Tensor:
    """CornerNet's focal loss (Law & Deng 2018, eq. 1) divided by the number of centres.

    Args:
        logits: [B, n, X, Y].
        target: [B, n, X, Y], 1 at centres, falling towards 0 around them.
        divisor: number of centres; None = those of ``target``, at least 1.
    """
    logits = logits.float()
    p = logits.sigmoid().clamp(CLIP, 1 - CLIP)
    positive = target == 1
    hit = -(p.log() * (1 - p) ** ALPHA)[positive].sum()
    miss = -((1 - p).log() * p**ALPHA * (1 - target) ** GAMMA)
    count = positive.sum().clamp(min=1) if divisor is None else divisor
    return (hit + miss.masked_fill(positive, 0).sum()) / count


def _known(truths: Sequence[Boxes | None]) -> list[Boxes]:
    known = [truth for truth in truths if truth is not None]
    if len(known) < len(truths):
        missing = [index for index, truth in enumerate(truths) if truth is None]
        raise LossError(f"samples {missing} of the batch have no truth; train on annotated Frames")
    return known


def _counts(target: TaskTargets) -> tuple[int, int]:
    """Centres in the heatmaps (two boxes may share one), and boxes."""
    return int((target.heatmap == 1).sum()), len(target.code)


def _divisors(peaks: float, boxes: float) -> tuple[float, float]:
    return max(peaks, 1), boxes + 1e-4
