"""CRKD: enhanced camera-radar detection by distillation (Zhao et al., CVPR 2024, section 3).

docs/method.md 1.7. A LiDAR-camera teacher and a camera-radar student with gated fusion. With T the
teacher, S the student,

    L = L_detection + w_csrd CSRD + w_msfd_fused MSFD(F) + w_msfd_camera MSFD(g1 F1)
        + w_reld RelD + w_respd_heatmap RespD_heatmap + w_respd_box RespD_box,

one method per loss, without its weight; features.py and responses.py have the distances. A loss
may have a published and a balanced form (CrkdConfig, decisions/0024). Everything of T is constant
and on the student's grid. Means over cells are over those of all processes that train together.

Shapes: B batch, C channels, X Y grid cells, n classes of a task, K classes of all tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crkd_core.config import SENSORS, Branch, CrkdConfig, DetectorConfig, check_per_class
from crkd_core.distill.adapt import AdaptError, check_tasks
from crkd_core.distill.features import RelationAdapter, affinity, masked_error
from crkd_core.distill.method import Loss, Method
from crkd_core.distill.responses import (
    box_distance,
    cells_of_teacher,
    object_cells,
    objectness,
    probability,
    quality_focal,
    response_weight,
    teacher_foreground,
)
from crkd_core.distill.teacher import Teacher
from crkd_core.losses.targets import Targets
from crkd_core.model.output import ModelOutput

#: Losses that compare task by task.
PER_TASK = ("csrd", "respd_heatmap", "respd_box")
#: RespD: the published weights of classes, by name; LIGHT are those of nuScenes' tasks of barriers
#: and of pedestrians with cones.
LIGHT, LIGHT_WEIGHT, HEAVY_WEIGHT = ("pedestrian", "traffic_cone", "barrier"), 1.0, 2.0


def class_weights(config: CrkdConfig, classes: Sequence[str]) -> tuple[float, ...]:
    """Weight of each of a student's classes in RespD: as configured, or as published."""
    return config.respd_class_weights or tuple(
        LIGHT_WEIGHT if name in LIGHT else HEAVY_WEIGHT for name in classes
    )


class Crkd(Method):
    """The losses of CRKD between one student and one teacher.

    Its adapters: RelD's (two convolutions per scale), and for MSFD a 1x1 convolution on the
    student's side, always or wherever channel counts differ (``msfd_adapter``).
    """

    name = "crkd"
    teacher_reads: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "csrd": ("heatmap",),
        "msfd_fused": ("fused", "heatmap"),
        "msfd_camera": ("gated_camera", "heatmap"),
        "reld": ("fused",),
        "respd_heatmap": ("heatmap",),
        "respd_box": ("heatmap", "boxes"),
    }
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
            teacher: whose answers hold what the chosen losses read.
            sensors: cameras and radars that the student may see; () = all.

        Raises:
            AdaptError: the two networks cannot be compared, or one lacks the sensor, or the
                calibration block, that a chosen loss is about; the message says why and what to
                change.
        """
        super().__init__(config, student=student, teacher=teacher)
        _check(config, student=student, teacher=teacher.config, sensors=sensors)
        weights = class_weights(config, student.classes)
        check_per_class("crkd.respd_class_weights", weights, student.classes)
        self.class_weights = dict(zip(student.classes, weights, strict=True))
        # Only what a chosen loss reads: nothing is stored that no gradient reaches.
        always = config.msfd_adapter == "always"
        fused = student.fused_channels, teacher.config.fused_channels
        self.fused: nn.Module = nn.Identity()
        if "msfd_fused" in config.chosen:
            self.fused = _channels(*fused, always=always)
        self.camera: nn.Module = nn.Identity()
        if "msfd_camera" in config.chosen and student.camera and teacher.config.camera:
            self.camera = _channels(
                student.camera.context_channels,
                teacher.config.camera.context_channels,
                always=always,
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
        """Cross-stage radar distillation (section 3.3).

        a_S [B, 1, X, Y] is the activation read from the calibrated radar features, a_T the
        ``objectness`` of the teacher's heatmaps. ``csrd_form`` l1: mean over cells of |a_S - a_T|,
        as published; focal: a_S are logits under the quality focal loss.
        """
        heatmaps = [maps["heatmap"] for maps in teacher.tasks]
        target = objectness(heatmaps, form=self.config.csrd_target)
        activation = student.need("radar_activation").float()
        if self.config.csrd_form == "l1":
            return (activation - target).abs().mean()
        return quality_focal(activation, target, logits=True)

    def loss_msfd_fused(
        self, student: ModelOutput, teacher: ModelOutput, targets: Targets
    ) -> Tensor:
        """Mask-scaling feature distillation of the fused features F; see ``masked_error``."""
        ours = self.fused(student.fused.float())
        return self._masked(ours, teacher.fused, teacher, targets)

    def loss_msfd_camera(
        self, student: ModelOutput, teacher: ModelOutput, targets: Targets
    ) -> Tensor:
        """The same of the gated camera features g1 F1."""
        ours = self.camera(student.need("gated_camera").float())
        return self._masked(ours, teacher.need("gated_camera"), teacher, targets)

    def _masked(
        self, ours: Tensor, theirs: Tensor, teacher: ModelOutput, targets: Targets
    ) -> Tensor:
        mask = targets.need("foreground")
        if targets.labelled is not None:
            # Where no box is known, the teacher says where objects are.
            said = teacher_foreground([maps["heatmap"] for maps in teacher.tasks])
            mask = torch.where(targets.labelled[:, None, None], mask, said)
        return masked_error(ours, theirs, mask, standard=self.config.msfd_scale == "standard")

    def loss_reld(self, student: ModelOutput, teacher: ModelOutput, targets: Targets) -> Tensor:
        """Relation distillation: sum over scales n of the mean of |K_S - K_T| (section 3.5).

        K [n^2, n^2] are the affinities between all cells of F resized to n x n: cosines, or dot
        products with ``reld_affinity`` raw. The student's map goes through an adapter before. The
        published form, raw, divided by B, times 0.25, is this times 0.25/B.
        """
        cosine = self.config.reld_affinity == "cosine"
        total = student.fused.new_zeros((), dtype=torch.float32)
        for size, adapter in zip(self.config.reld_scales, self.relation, strict=True):
            s, t = (
                F.interpolate(features.float(), (size, size), mode="bilinear")
                for features in (student.fused, teacher.fused)
            )
            ours, theirs = affinity(adapter(s), cosine=cosine), affinity(t, cosine=cosine)
            total = total + (ours - theirs).abs().mean()
        return total

    def loss_respd_heatmap(
        self, student: ModelOutput, teacher: ModelOutput, targets: Targets
    ) -> Tensor:
        """Response distillation of the heatmaps (section 3.6).

        Summed over tasks: the quality focal loss between the clipped probabilities H, every class
        with its weight.
        """
        total = student.fused.new_zeros((), dtype=torch.float32)
        for weight, s, t in self._tasks(student, teacher):
            total = total + quality_focal(
                probability(s["heatmap"]),
                probability(t["heatmap"]),
                response_weight(targets, self.config.alone) * weight,
            )
        return total

    def loss_respd_box(
        self, student: ModelOutput, teacher: ModelOutput, targets: Targets
    ) -> Tensor:
        """Response distillation of the boxes (section 3.6).

        Summed over tasks: the mean over M and the ``respd_channels`` of s SmoothL1(b_S - b_T) with
        s = sum_k w_k H_T. M (``respd_cells``) are the cells of the objects of the task, where the
        teacher's boxes were trained, and the teacher's own peaks in samples without truth; or all
        cells where it sees anything, as published.
        """
        total = student.fused.new_zeros((), dtype=torch.float32)
        published = self.config.respd_cells == "teacher"
        owned = [None] * len(self.student.head.tasks) if published else targets.tasks()
        for (weight, s, t), own in zip(self._tasks(student, teacher), owned, strict=True):
            h_t = probability(t["heatmap"])
            total = total + box_distance(
                s,
                t,
                cells=cells_of_teacher(h_t) if own is None else object_cells(own, h_t, targets),
                strength=(response_weight(targets, self.config.alone) * weight * h_t).sum(1),
                channels=self.config.respd_channels,
            )
        return total

    def _tasks(
        self, student: ModelOutput, teacher: ModelOutput
    ) -> Iterator[tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]]:
        """Per task the weights w [n, 1, 1] of its classes, and the maps of both networks."""
        for task, s, t in zip(self.student.head.tasks, student.tasks, teacher.tasks, strict=True):
            weights = [self.class_weights[name] for name in task.classes]
            yield student.fused.new_tensor(weights, dtype=torch.float32)[:, None, None], s, t


def _channels(student: int, teacher: int, *, always: bool) -> nn.Module:
    same = student == teacher and not always
    return nn.Identity() if same else nn.Conv2d(student, teacher, 1)


def _check(
    config: CrkdConfig,
    *,
    student: DetectorConfig,
    teacher: DetectorConfig,
    sensors: tuple[str, ...],
) -> None:
    compared = [name for name in PER_TASK if name in config.chosen]
    check_tasks(student=student, teacher=teacher, compared=compared)
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
    block = student.radar.calibration_block if student.radar else None
    needed = {"focal": "residual", "l1": "released"}[config.csrd_form]
    if "csrd" in config.chosen and block != needed:
        raise AdaptError(
            f"student {student.name} has a {block} calibration block, and CSRD in the form "
            f"{config.csrd_form} needs the activation of a {needed} one; distil with --form "
            + ("published" if block == "released" else "balanced")
            + ", or with --losses csrd=0"
        )
