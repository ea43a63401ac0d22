"""How features are compared: in a mask (MSFD), weighted (IMKD), by their relations (RelD).

docs/method.md 1.7. Shapes: B batch, C channels, X Y grid cells.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crkd_core.losses.normalise import per_process
from crkd_core.model.layers import BasicBlock, conv_norm

#: A channel whose deviation is smaller than this says nothing, and is not blown up.
LEAST_DEVIATION = 1e-3


class RelationAdapter(nn.Sequential):
    """Conv 3x3, ReLU, conv 1x1: the student's features before their affinities are compared."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.Conv2d(outputs, outputs, 1)
        )


def affinity(features: Tensor, *, cosine: bool) -> Tensor:
    """[B, C, n, n] -> [B, n^2, n^2] cosines or dot products of all pairs of cells."""
    vectors = features.flatten(2)
    if cosine:
        vectors = F.normalize(vectors, dim=1)
    return vectors.transpose(1, 2) @ vectors


def masked_error(
    student: Tensor, teacher: Tensor, foreground: Tensor, *, standard: bool = False
) -> Tensor:
    """MSFD: mean over p in M and c of (S - T)^2 (section 3.4).

    M = cells of the foreground where the teacher's feature is not all zero, over the whole batch;
    0 where there is none. The published form, (1/B) (1/|M|) sum (1/C) sum 0.5 (S - T)^2 times 10,
    is this times 5/B.

    Args:
        student: [B, C, X, Y].
        teacher: [B, C, X, Y]; an entry that is not a number is left out, as released (of a Teacher
            none comes here: teacher.check_answer).
        foreground: bool [B, X, Y].
        standard: T less its mean, by its deviation, both per channel and over M: what is compared
            is where a channel is strong, not how large its numbers happen to be (after PKD,
            Cao et al. 2022).
    """
    teacher = teacher.float()
    cells = foreground & (teacher != 0).any(1)
    s, t = (features.permute(0, 2, 3, 1)[cells] for features in (student.float(), teacher))
    if standard:
        t = standardised(t)
    error = F.mse_loss(s, t.where(t.isfinite(), s.detach()), reduction="none")
    # Without a single cell the sum is 0, and so is the loss.
    return error.mean(1).sum() / per_process(cells.sum()).clamp(min=1e-6)


def standardised(rows: Tensor) -> Tensor:
    """[M, C] -> the same with mean 0 and deviation 1 per channel, over all processes' rows."""
    known = rows.isfinite()
    values = rows.where(known, torch.zeros_like(rows)).double()
    sums = torch.stack([known.double().sum(0), values.sum(0), values.square().sum(0)])
    count, total, squares = per_process(sums)
    mean = total / count.clamp(min=1e-6)
    variance = (squares / count.clamp(min=1e-6) - mean.square()).clamp(min=0)
    return ((rows.double() - mean) / variance.sqrt().clamp(min=LEAST_DEVIATION)).float()


class FeatureAdapter(nn.Sequential):
    """Conv 3x3, BN, ReLU, residual block, conv 1x1: the student's features in a teacher's basis.

    As in LabelDistill, but for the last convolution: there the block's ReLU is the end, and what
    is compared here is not positive. Trained along and thrown away.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            conv_norm(inputs, outputs),
            BasicBlock(outputs, outputs),
            nn.Conv2d(outputs, outputs, 1),
        )


def weighted_error(student: Tensor, teacher: Tensor, weights: Tensor, *, standard: bool) -> Tensor:
    """sum_p w(p) mean_c (S - T)^2 / sum_p w(p), p over the cells of the whole batch.

    0 where no cell counts.

    Args:
        student: [B, C, X, Y].
        teacher: [B, C, X, Y]; an entry that is not a number is left out.
        weights: [B, X, Y], not negative; 0 = the cell does not count.
        standard: T less its mean, by its deviation, per channel over the cells that count.
    """
    cells = weights > 0
    s, t = (maps.float().permute(0, 2, 3, 1)[cells] for maps in (student, teacher))
    w = weights[cells]
    if standard:
        t = standardised(t)
    error = F.mse_loss(s, t.where(t.isfinite(), s.detach()), reduction="none").mean(1)
    return (w * error).sum() / per_process(w.sum()).clamp(min=1e-6)
