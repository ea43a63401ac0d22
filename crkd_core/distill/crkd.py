"""CRKD: enhanced camera-radar detection by distillation (Zhao et al., CVPR 2024, section 3).

docs/method.md 1.7. A LiDAR-camera teacher and a camera-radar student with gated fusion. With T the
teacher, S the student,

    L = L_detection + w_csrd CSRD + w_msfd_fused MSFD(F) + w_msfd_camera MSFD(g1 F1)
        + w_reld RelD + w_respd_heatmap RespD_heatmap + w_respd_box RespD_box,

one method per loss, without its weight. Everything of T is a constant and on the student's grid.
Means over cells are over those of all processes that train together.

Shapes: B batch, C channels, X Y grid cells, n classes of a task, K classes of all tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from crkd_core.config import SENSORS, Branch, CrkdConfig, DetectorConfig, check_per_class
from crkd_core.distill.adapt import AdaptError
from crkd_core.distill.method import Loss, Method
from crkd_core.distill.teacher import Teacher
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
#: Losses that compare task by task.
PER_TASK = ("csrd", "respd_heatmap", "respd_box")
#: RespD: the published weights of classes, by name; LIGHT are those of nuScenes' tasks of barriers
#: and of pedestrians with cones.
LIGHT, LIGHT_WEIGHT, HEAVY_WEIGHT = ("pedestrian", "traffic_cone", "barrier"), 1.0, 2.0


class Crkd(Method):
    """The losses of CRKD between one student and one teacher.

    Its adapters: RelD's (two convolutions per scale), and a 1x1 convolution wherever channel
    counts differ.
    """

    name = "crkd"
    teacher_reads = ("gated_camera",)
    config: CrkdConfig

    def __init__(
        self,
        config: CrkdConfig,
        *,
        student: DetectorConfig,
        teacher: Teacher,
        sensors: tuple[str, ...] = (),
    ) -> None:
        """Compare ``student`` with ``teacher``.

        Args:
            config: forms and weights of the losses.
            student: the student's configuration.
            teacher: whose answers hold ``teacher_reads``.
            sensors: cameras and radars that the student may see; () = all.

        Raises:
            AdaptError: the two networks cannot be compared, or one lacks the sensor, or the
                calibration block, that a chosen loss is about; the message says why and what to
                change.
        """
        super().__init__(config, student=student, teacher=teacher)
        _check(config, student=student, teacher=teacher.config, sensors=sensors)
        weights = config.respd_class_weights or [
            LIGHT_WEIGHT if name in LIGHT else HEAVY_WEIGHT for name in student.classes
        ]
        check_per_class("crkd.respd_class_weights", weights, student.classes)
        self.class_weights = dict(zip(student.classes, weights, strict=True))
        # Only what a chosen loss reads: nothing is stored that no gradient reaches.
        fused = student.fused_channels, teacher.config.fused_channels
        self.fused = _channels(*fused) if "msfd_fused" in config.chosen else nn.Identity()
        self.camera: nn.Module = nn.Identity()
        if "msfd_camera" in config.chosen and student.camera and teacher.config.camera:
            self.camera = _channels(
                student.camera.context_channels, teacher.config.camera.context_channels
            )
        self.relation = nn.ModuleList(
            RelationAdapter(*fused) if config.reld_adapter else nn.Identity()
            for _ in (config.reld_scales if "reld" in config.chosen else ())
        )

    def losses(self) -> Mapping[str, Loss]:
        """All losses by the names of CRKD_LOSSES."""
        return {
            "csrd": self.loss_csrd,
            "msfd_fused": self.loss_msfd_fused,
            "msfd_camera": self.loss_msfd_camera,
            "reld": self.loss_reld,
            "respd_heatmap": self.loss_respd_heatmap,
            "respd_box": self.loss_respd_box,
        }

    def loss_csrd(self, student: ModelOutput, teacher: ModelOutput, targets: Targets) -> Tensor:
        """Cross-stage radar distillation: mean over cells of |a_S - a_T| (section 3.3).

        a_S [B, 1, X, Y] is the activation read from the calibrated radar features, a_T the
        ``objectness`` of the teacher's heatmaps.
        """
        heatmaps = [maps["heatmap"] for maps in teacher.tasks]
        target = objectness(heatmaps, form=self.config.csrd_target)
        return (student.need("radar_activation").float() - target).abs().mean()

    def loss_msfd_fused(
        self, student: ModelOutput, teacher: ModelOutput, targets: Targets
    ) -> Tensor:
        """Mask-scaling feature distillation of the fused features F; see ``masked_error``."""
        ours = self.fused(student.fused.float())
        return masked_error(ours, teacher.fused, targets.need("foreground"))

    def loss_msfd_camera(
        self, student: ModelOutput, teacher: ModelOutput, targets: Targets
    ) -> Tensor:
        """The same of the gated camera features g1 F1."""
        ours = self.camera(student.need("gated_camera").float())
        return masked_error(ours, teacher.need("gated_camera"), targets.need("foreground"))

    def loss_reld(self, student: ModelOutput, teacher: ModelOutput, targets: Targets) -> Tensor:
        """Relation distillation: sum over scales n of the mean of |K_S - K_T| (section 3.5).

        K [n^2, n^2] are the affinities between all cells of F resized to n x n: cosines, or dot
        products with ``reld_affinity`` raw. The student's map goes through an adapter before. The
        published form, raw, divided by B, times 0.25, is this times 0.25/B.
        """
        total = student.fused.new_zeros((), dtype=torch.float32)
        for size, adapter in zip(self.config.reld_scales, self.relation, strict=True):
            s, t = (
                F.interpolate(features.float(), (size, size), mode="bilinear")
                for features in (student.fused, teacher.fused)
            )
            total = total + (self._affinity(adapter(s)) - self._affinity(t)).abs().mean()
        return total

    def _affinity(self, features: Tensor) -> Tensor:
        """[B, C, n, n] -> [B, n^2, n^2] cosines or dot products of all pairs of cells."""
        vectors = features.flatten(2)
        if self.config.reld_affinity == "cosine":
            vectors = F.normalize(vectors, dim=1)
        return vectors.transpose(1, 2) @ vectors

    def loss_respd_heatmap(
        self, student: ModelOutput, teacher: ModelOutput, targets: Targets
    ) -> Tensor:
        """Response distillation of the heatmaps (section 3.6).

        With H the clipped probabilities and w_k the class weights, summed over tasks: the sum over
        B, k, cells of w_k |H_S - H_T|^2 BCE(H_S, H_T) / max(1, #{H_T > 0.3}), the quality focal
        loss (Li et al. 2020) with exponent 2.
        """
        total = student.fused.new_zeros((), dtype=torch.float32)
        for weight, s, t in self._tasks(student, teacher):
            h_s, h_t = probability(s["heatmap"]), probability(t["heatmap"])
            focal = (h_s - h_t) ** 2 * F.binary_cross_entropy(h_s, h_t, reduction="none")
            positives = per_process((h_t > POSITIVE).sum()).clamp(min=1 / process_count())
            total = total + (weight * focal).sum() / positives
        return total

    def loss_respd_box(
        self, student: ModelOutput, teacher: ModelOutput, targets: Targets
    ) -> Tensor:
        """Response distillation of the boxes, where the teacher sees any (section 3.6).

        With b the ten box channels, summed over tasks: the mean over M and the channels of
        s SmoothL1(b_S - b_T), where s = sum_k w_k H_T and M = {sum_k H_T > 0.1}, the bound lowered
        until M is not empty.
        """
        total = student.fused.new_zeros((), dtype=torch.float32)
        for weight, s, t in self._tasks(student, teacher):
            h_t = probability(t["heatmap"])
            presence, strength = h_t.sum(1), (weight * h_t).sum(1)
            bound, highest = BOX_CELL, _highest(presence)
            while highest <= bound:
                bound -= BOX_CELL_STEP
            cells = presence > bound
            b_s, b_t = (stacked(maps).float().permute(0, 2, 3, 1)[cells] for maps in (s, t))
            error = F.smooth_l1_loss(b_s, b_t, reduction="none")
            weighted = strength[cells] * error.mean(1)
            total = total + weighted.sum() / per_process(cells.sum()).clamp(min=1e-6)
        return total

    def _tasks(
        self, student: ModelOutput, teacher: ModelOutput
    ) -> Iterator[tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]]:
        """Per task the weights w [n, 1, 1] of its classes, and the maps of both networks."""
        for task, s, t in zip(self.student.head.tasks, student.tasks, teacher.tasks, strict=True):
            weights = [self.class_weights[name] for name in task.classes]
            yield student.fused.new_tensor(weights, dtype=torch.float32)[:, None, None], s, t


class RelationAdapter(nn.Sequential):
    """Conv 3x3, ReLU, conv 1x1: the student's features before their affinities are compared."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.Conv2d(outputs, outputs, 1)
        )


def masked_error(student: Tensor, teacher: Tensor, foreground: Tensor) -> Tensor:
    """MSFD: mean over p in M and c of (S - T)^2 (section 3.4).

    M = cells of the foreground where the teacher's feature is not all zero, over the whole batch;
    0 where there is none. The published form, (1/B) (1/|M|) sum (1/C) sum 0.5 (S - T)^2 times 10,
    is this times 5/B.

    Args:
        student: [B, C, X, Y].
        teacher: [B, C, X, Y]; an entry that is not a number is left out.
        foreground: bool [B, X, Y].
    """
    teacher = teacher.float()
    cells = foreground & (teacher != 0).any(1)
    s, t = (features.permute(0, 2, 3, 1)[cells] for features in (student.float(), teacher))
    error = F.mse_loss(s, t.where(t.isfinite(), s.detach()), reduction="none")
    # Without a single cell the sum is 0, and so is the loss.
    return error.mean(1).sum() / per_process(cells.sum()).clamp(min=1e-6)


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


def _check(
    config: CrkdConfig,
    *,
    student: DetectorConfig,
    teacher: DetectorConfig,
    sensors: tuple[str, ...],
) -> None:
    names = f"teacher {teacher.name} and student {student.name}"
    tasks = [[task.classes for task in c.head.tasks] for c in (student, teacher)]
    compared = [name for name in PER_TASK if name in config.chosen]
    if compared and tasks[0] != tasks[1]:
        raise AdaptError(
            f"{names} group their classes into different tasks, {tasks[1]} and {tasks[0]}; CSRD "
            "and RespD compare task by task. Use the same tasks, or --losses "
            + ",".join(f"{name}=0" for name in compared)
        )
    uses: tuple[tuple[str, DetectorConfig, tuple[str, ...], str, Branch], ...] = (
        ("teacher", teacher, config.teacher_sensors, "msfd_camera", "camera"),
        ("student", student, sensors, "msfd_camera", "camera"),
        ("student", student, sensors, "csrd", "radar"),
    )
    for who, network, seen, loss, kind in uses:
        blind = seen and not {*seen} & {*SENSORS[kind]}
        if loss in config.chosen and (kind not in network.branches or blind):
            raise AdaptError(
                f"{who} {network.name} sees no {kind}, which {loss} is about; use --losses "
                f"{loss}=0"
            )
    if "csrd" in config.chosen and student.radar and student.radar.calibration == "none":
        raise AdaptError(
            f"student {student.name} has no radar calibration block, whose activation CSRD reads; "
            "distil with --calibration path or side, or with --losses csrd=0"
        )
