"""The four distillation losses of CRKD (Zhao et al., CVPR 2024, section 3; docs/method.md 1.7).

One method per loss. L = L_detection + CSRD + MSFD(fused) + MSFD(camera) + RelD + RespD, each with
its weight of DistillConfig. Everything of the teacher is a constant and on the student's grid; no
method changes a tensor that it is given, so every loss sees the same logits. Means over cells are
over those of all processes that train together.

Shapes: B batch, C channels, X Y grid cells, n classes of a task, K classes of all tasks.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from crkd_core.boxes import CLASS_NAMES
from crkd_core.config import DetectorConfig, DistillConfig
from crkd_core.distill.adapt import check_fit, fitted
from crkd_core.losses.detection import CLIP
from crkd_core.losses.normalise import per_process, process_count
from crkd_core.losses.targets import Targets
from crkd_core.model.head import stacked
from crkd_core.model.output import ModelOutput

#: RespD: probability of the teacher above which a cell counts as a positive of the heatmap.
POSITIVE = 0.3
#: RespD: summed probability above which a cell's box counts, and how the bound is lowered where
#: no cell reaches it.
BOX_CELL, BOX_CELL_STEP = 0.1, 0.01
#: RespD: weight of the box part against the heatmap part.
BOX_WEIGHT = 40.0


#: Features of the teacher that these losses read, beside ``tasks`` and ``fused``.
TEACHER_READS = ("gated_camera",)


class CrkdError(ValueError):
    """Tensors that a loss cannot use."""


class CrkdLoss(nn.Module):
    """All losses of CRKD between one student and one teacher.

    Its parameters, the adapters, are trained with the student and are no part of it: RelD's (two
    convolutions per scale), and a 1x1 convolution wherever channel counts differ.

    Raises:
        AdaptError: the two networks cannot be compared; the message says why and what to change.
    """

    def __init__(
        self, config: DistillConfig, *, student: DetectorConfig, teacher: DetectorConfig
    ) -> None:
        super().__init__()
        check_fit(config, student=student, teacher=teacher)
        self.config = config
        self.student, self.teacher = student, teacher
        # Only what a chosen loss reads: nothing is stored that no gradient reaches.
        fused = student.fused_channels, teacher.fused_channels
        camera = student.camera.context_channels, teacher.camera.context_channels
        self.fused = _channels(*fused) if "msfd_fused" in config.losses else nn.Identity()
        self.camera = _channels(*camera) if "msfd_camera" in config.losses else nn.Identity()
        self.relation = nn.ModuleList(
            RelationAdapter(*fused) if config.reld_adapter else nn.Identity()
            for _ in (config.reld_scales if "reld" in config.losses else ())
        )

    def forward(
        self, student: ModelOutput, teacher: ModelOutput, targets: Targets
    ) -> dict[str, Tensor]:
        """The chosen losses of a batch, float32 scalars with their weights.

        Args:
            student: of B samples.
            teacher: of the same samples, on the teacher's grid.
            targets: of the same samples; with the foreground where MSFD is chosen.
        """
        config, chosen = self.config, self.config.losses
        teacher = fitted(teacher, of=self.teacher.grid, to=self.student.grid)
        losses: dict[str, Tensor] = {}
        if "csrd" in chosen:
            losses["csrd"] = config.csrd_weight * self.csrd(
                student.radar_activation, teacher.tasks
            )
        if "msfd_fused" in chosen or "msfd_camera" in chosen:
            mask = targets.need("foreground")
        if "msfd_fused" in chosen:
            fused = self.fused(student.fused.float())
            losses["msfd_fused"] = config.msfd_fused_weight * self.msfd(fused, teacher.fused, mask)
        if "msfd_camera" in chosen:
            camera = self.camera(student.need("gated_camera").float())
            losses["msfd_camera"] = config.msfd_camera_weight * self.msfd(
                camera, teacher.need("gated_camera"), mask
            )
        if "reld" in chosen:
            losses["reld"] = config.reld_weight * self.reld(student.fused, teacher.fused)
        if "respd" in chosen:
            heatmap, box = self.respd(student.tasks, teacher.tasks)
            losses["respd_heatmap"] = config.respd_weight * heatmap
            losses["respd_box"] = config.respd_weight * box
        return losses

    def csrd(self, activation: Tensor | None, tasks: list[dict[str, Tensor]]) -> Tensor:
        """Cross-stage radar distillation: mean over cells of |a_S - a_T| (section 3.3).

        Args:
            activation: a_S [B, 1, X, Y], read from the calibrated radar features.
            tasks: the teacher's maps, of which a_T is ``objectness``.
        """
        if activation is None:
            raise CrkdError(
                "CSRD reads the activation of the radar calibration block, which this student "
                "lacks; distil with --calibration path or side, or with --no-csrd"
            )
        target = objectness([maps["heatmap"] for maps in tasks], form=self.config.csrd_target)
        return (activation.float() - target).abs().mean()

    def msfd(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        """Mask-scaling feature distillation: mean over p in M and c of (S - T)^2 (section 3.4).

        M = cells of the foreground where the teacher's feature is not all zero, over the whole
        batch; 0 where there is none. The published form, (1/B) (1/|M|) sum (1/C) sum 0.5 (S - T)^2
        times 10, is this times 5/B.

        Args:
            student: [B, C, X, Y].
            teacher: [B, C, X, Y]; an entry that is not a number is left out.
            mask: bool [B, X, Y], the foreground.
        """
        teacher = teacher.float()
        cells = mask & (teacher != 0).any(1)
        s, t = (features.permute(0, 2, 3, 1)[cells] for features in (student.float(), teacher))
        error = F.mse_loss(s, t.where(t.isfinite(), s.detach()), reduction="none")
        # Without a single cell the sum is 0, and so is the loss.
        return error.mean(1).sum() / per_process(cells.sum()).clamp(min=1e-6)

    def reld(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Relation distillation: sum over scales n of the mean of |K_S - K_T| (section 3.5).

        K [n^2, n^2] are the affinities between all cells of a map resized to n x n: cosines, or
        dot products with ``reld_affinity`` raw. The student's map goes through an adapter before.
        The published form, raw, divided by B, times 0.25, is this times 0.25/B.

        Args:
            student: fused features [B, C, X, Y].
            teacher: fused features [B, C', X, Y].
        """
        total = student.new_zeros((), dtype=torch.float32)
        for size, adapter in zip(self.config.reld_scales, self.relation, strict=True):
            s, t = (
                F.interpolate(m.float(), (size, size), mode="bilinear") for m in (student, teacher)
            )
            total = total + (self.affinity(adapter(s)) - self.affinity(t)).abs().mean()
        return total

    def affinity(self, features: Tensor) -> Tensor:
        """[B, C, n, n] -> [B, n^2, n^2] cosines or dot products of all pairs of cells."""
        vectors = features.flatten(2)
        if self.config.reld_affinity == "cosine":
            vectors = F.normalize(vectors, dim=1)
        return vectors.transpose(1, 2) @ vectors

    def respd(
        self, student: list[dict[str, Tensor]], teacher: list[dict[str, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Response distillation (section 3.6): heatmaps, and boxes where the teacher sees any.

        With H the clipped probabilities, b the ten box channels and w_k the class weights, per
        task and summed over tasks:

        heatmap: sum over B, k, cells of w_k |H_S - H_T|^2 BCE(H_S, H_T) / max(1, #{H_T > 0.3}),
        the quality focal loss (Li et al. 2020) with exponent 2;
        box: 40 times the mean over M and the channels of s SmoothL1(b_S - b_T), where
        s = sum_k w_k H_T and M = {sum_k H_T > 0.1}, the bound lowered until M is not empty.

        Args:
            student: per task the raw maps [B, c, X, Y].
            teacher: likewise, constants.

        Returns:
            The two sums.
        """
        heatmap = box = student[0]["heatmap"].new_zeros((), dtype=torch.float32)
        for task, s, t in zip(self.student.head.tasks, student, teacher, strict=True):
            weights = [self.config.respd_class_weights[CLASS_NAMES.index(c)] for c in task.classes]
            weight = heatmap.new_tensor(weights)[:, None, None]
            h_s, h_t = probability(s["heatmap"]), probability(t["heatmap"])
            focal = (h_s - h_t) ** 2 * F.binary_cross_entropy(h_s, h_t, reduction="none")
            positives = per_process((h_t > POSITIVE).sum()).clamp(min=1 / process_count())
            heatmap = heatmap + (weight * focal).sum() / positives
            presence, strength = h_t.sum(1), (weight * h_t).sum(1)
            bound, highest = BOX_CELL, _highest(presence)
            while highest <= bound:
                bound -= BOX_CELL_STEP
            cells = presence > bound
            b_s, b_t = (stacked(maps).float().permute(0, 2, 3, 1)[cells] for maps in (s, t))
            error = F.smooth_l1_loss(b_s, b_t, reduction="none")
            weighted = strength[cells] * error.mean(1)
            box = box + BOX_WEIGHT * weighted.sum() / per_process(cells.sum()).clamp(min=1e-6)
        return heatmap, box


class RelationAdapter(nn.Sequential):
    """Conv 3x3, ReLU, conv 1x1: the student's features before their affinities are compared."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.Conv2d(outputs, outputs, 1)
        )


def probability(logits: Tensor) -> Tensor:
    """Sigmoid in float32, kept off 0 and 1."""
    return logits.float().sigmoid().clamp(CLIP, 1 - CLIP)


def objectness(heatmaps: list[Tensor], *, form: str) -> Tensor:
    """Where a teacher sees anything at all, from its heatmap logits [B, n, X, Y] per task.

    Args:
        heatmaps: one per task.
        form: "paper": mean over all K classes of the probability. "code": per task the clipped
            sigmoid of the mean logit, then the mean over tasks, as released.

    Returns:
        [B, 1, X, Y] in (0, 1).
    """
    if form == "paper":
        return torch.cat(heatmaps, 1).float().sigmoid().mean(1, keepdim=True)
    per_task = [probability(logits.float().mean(1, keepdim=True)) for logits in heatmaps]
    return torch.cat(per_task, 1).mean(1, keepdim=True)


def _highest(values: Tensor) -> float:
    """The maximum over all processes."""
    highest = values.detach().max()
    if process_count() > 1:
        dist.all_reduce(highest, dist.ReduceOp.MAX)
    return float(highest)


def _channels(student: int, teacher: int) -> nn.Module:
    return nn.Identity() if student == teacher else nn.Conv2d(student, teacher, 1)
