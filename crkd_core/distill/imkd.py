"""IMKD: intensity-aware multi-level knowledge distillation for camera-radar fusion (WACV 2026).

docs/method.md 1.10. The authors have released no code, and of the paper we know the abstract and
the tables. Theirs: LiDAR features teach the radar branch, weighted by intensity (stage 1); LiDAR
and labels teach the fused features, selectively, so that they complement each other instead of
being forced to agree (stage 2); camera and radar are fused guided by intensity, in the network
itself (stage 3). Everything else here is our reconstruction: what an
intensity is, how features are compared, adapters, partition, masks and weights; each is a key of
ImkdConfig with its control beside it. Adapters, thirds of channels, the label's part and the form
of the responses are those of LabelDistill (Kim et al. 2024), which the authors compare with.

With T the teacher, S the student, w the weights of cells,

    L = L_detection + w1 L(phi(R_S), T) + w2 L(phi(F_S[LiDAR]), T)
        + w3 L(phi(F_S[label]), E(truth)) + w4 response of heatmaps + w5 response of boxes.

Shapes: B batch, C channels, X Y grid cells, n classes of a task.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from crkd_core.config import SENSORS, DetectorConfig, DistillConfig, ImkdConfig
from crkd_core.distill.adapt import AdaptError, check_tasks
from crkd_core.distill.cell_weights import RETURNS, cell_weights
from crkd_core.distill.features import FeatureAdapter, weighted_error
from crkd_core.distill.label_teacher import LabelTeacher
from crkd_core.distill.method import Loss, Method
from crkd_core.distill.responses import (
    box_distance,
    object_cells,
    probability,
    quality_focal,
    response_weight,
)
from crkd_core.distill.teacher import Teacher
from crkd_core.losses.targets import Targets
from crkd_core.model.intensity import activation
from crkd_core.model.output import ModelOutput

#: Losses that compare task by task.
PER_TASK = ("response_heatmap", "response_box")


class Imkd(Method):
    """The losses of IMKD between one student and one teacher that reads LiDAR.

    Its adapters, one per loss of features, are trained along and thrown away.
    """

    name = "imkd"
    config: ImkdConfig

    def __init__(
        self,
        config: ImkdConfig,
        *,
        student: DetectorConfig,
        teacher: Teacher,
        labels: LabelTeacher | None = None,
        sensors: tuple[str, ...] = (),
    ) -> None:
        """Compare ``student`` with ``teacher``.

        Args:
            config: weights and choices of the losses.
            student: the student's configuration.
            teacher: whose answers hold what the chosen losses read.
            labels: what label_fused compares with; None where that is off.
            sensors: cameras and radars that the student may see; () = all.

        Raises:
            AdaptError: the two networks cannot be compared, or one lacks what a chosen loss is
                about; the message says why and what to change.
        """
        super().__init__(config, student=student, teacher=teacher)
        _check(config, student=student, teacher=teacher.config, labels=labels, sensors=sensors)
        self.labels = labels
        theirs = teacher.config.fused_channels
        if config.lidar_map == "lidar_bev":
            theirs = _lidar_channels(teacher)
        parts = _parts(student.fused_channels, config)
        ours = {
            "lidar_radar": (student.radar.channels[-1] if student.radar else 0, theirs),
            "lidar_fused": (len(parts["lidar"]), theirs),
            "label_fused": (len(parts["label"]), teacher.config.fused_channels),
        }
        # Only what a chosen loss reads: nothing is stored that no gradient reaches.
        self.adapters = nn.ModuleDict(
            {name: FeatureAdapter(*ours[name]) for name in ours if name in config.chosen}
        )

    @classmethod
    def reads(cls, config: DistillConfig) -> frozenset[str]:
        """What the chosen losses read of the teacher."""
        assert isinstance(config, ImkdConfig)
        wanted: set[str] = set()
        weights = {"lidar_radar": config.radar, "lidar_fused": config.fused}
        for name in config.chosen & weights.keys():
            wanted |= {config.lidar_map, "heatmap"}
            if weights[name].intensity in RETURNS:
                wanted.add("lidar_returns")
        if config.chosen & {*PER_TASK}:
            wanted.add("heatmap")
        if "response_box" in config.chosen:
            wanted.add("boxes")
        return frozenset(wanted)

    def losses(self) -> Mapping[str, Loss]:
        """All losses by the names of IMKD_LOSSES."""
        return {
            "lidar_radar": self.loss_lidar_radar,
            "lidar_fused": self.loss_lidar_fused,
            "label_fused": self.loss_label_fused,
            "response_heatmap": self.loss_response_heatmap,
            "response_box": self.loss_response_box,
        }

    def verify(self) -> None:
        """Check teacher and label encoder; see Method."""
        super().verify()
        if self.labels is not None:
            self.labels.verify()

    def loss_lidar_radar(
        self, student: ModelOutput, teacher: ModelOutput, targets: Targets
    ) -> Tensor:
        """Stage 1: LiDAR to radar, weighted by intensity.

        The goal is the paper's; that the radar's bird's-eye view is meant, not its perspective
        one, and the form, are ours. With e = ``evidence`` and I(R) the radar map's activation,
        weights are also times e + (1 - e) I(R): where the radars see nothing, LiDAR does not
        insist.
        """
        radar, theirs = student.need("radar_bev"), teacher.need(self.config.lidar_map)
        weights = cell_weights(self.config.radar, theirs, teacher, targets)
        least = self.config.evidence
        weights = weights * (least + (1 - least) * activation(radar.detach()))
        ours = self.adapters["lidar_radar"](radar.float())
        return weighted_error(ours, theirs, weights, standard=self._standard)

    def loss_lidar_fused(
        self, student: ModelOutput, teacher: ModelOutput, targets: Targets
    ) -> Tensor:
        """Stage 2: LiDAR to its part of the fused features, weighted by intensity and truth.

        That it is selective and fosters complementarity is the paper's; thirds of channels are
        how LabelDistill does so, and weights by intensity times Gaussians are ours.
        """
        theirs = teacher.need(self.config.lidar_map)
        weights = cell_weights(self.config.fused, theirs, teacher, targets)
        ours = self.adapters["lidar_fused"](self._part(student, "lidar"))
        return weighted_error(ours, theirs, weights, standard=self._standard)

    def loss_label_fused(
        self, student: ModelOutput, teacher: ModelOutput, targets: Targets
    ) -> Tensor:
        """Stage 2: labels to their part of the fused features, where objects are.

        That labels teach beside LiDAR is the paper's; the encoder of labels and its binary mask
        are LabelDistill's. Samples without truth have no part in it.
        """
        assert self.labels is not None
        theirs = self.labels(targets, self.student.classes)
        weights = cell_weights(self.config.label, theirs, teacher, targets)
        if targets.labelled is not None:
            weights = weights * targets.labelled[:, None, None]
        ours = self.adapters["label_fused"](self._part(student, "label"))
        return weighted_error(ours, theirs, weights, standard=self._standard)

    def loss_response_heatmap(
        self, student: ModelOutput, teacher: ModelOutput, targets: Targets
    ) -> Tensor:
        """Heatmaps of student and teacher, where teacher and truth agree.

        Summed over tasks: the quality focal loss towards H_T times the truth's heatmap, in samples
        without truth towards H_T. The product is LabelDistill's; its Gaussian focal loss, which
        knows no soft positives, is not.
        """
        total = student.fused.new_zeros((), dtype=torch.float32)
        for s, t, truth in zip(student.tasks, teacher.tasks, targets.tasks(), strict=True):
            agreed = truth.heatmap
            if targets.labelled is not None:
                agreed = agreed.where(
                    targets.labelled[:, None, None, None], torch.ones_like(agreed)
                )
            theirs = probability(t["heatmap"]) * agreed
            total = total + quality_focal(
                probability(s["heatmap"]), theirs, response_weight(targets, self.config.alone)
            )
        return total

    def loss_response_box(
        self, student: ModelOutput, teacher: ModelOutput, targets: Targets
    ) -> Tensor:
        """Boxes of student and teacher at the objects' own cells, SmoothL1.

        In samples without truth at the teacher's peaks.
        """
        total = student.fused.new_zeros((), dtype=torch.float32)
        for s, t, own in zip(student.tasks, teacher.tasks, targets.tasks(), strict=True):
            theirs = probability(t["heatmap"])
            ones = torch.ones_like(theirs[:, :1])
            total = total + box_distance(
                s,
                t,
                cells=object_cells(own, theirs, targets),
                strength=(response_weight(targets, self.config.alone) * ones)[:, 0],
                channels=self.config.response_channels,
            )
        return total

    @property
    def _standard(self) -> bool:
        return self.config.scale == "standard"

    def _part(self, student: ModelOutput, name: str) -> Tensor:
        """The fused channels that are for the label or for LiDAR, float32."""
        part = _parts(self.student.fused_channels, self.config)[name]
        return student.fused[:, part.start : part.stop].float()


def _parts(channels: int, config: ImkdConfig) -> dict[str, range]:
    """The student's fused channels that are for the label and for LiDAR.

    Two thirds in whole numbers; what the division leaves over is free as well.
    """
    if config.partition == "whole":
        return {"label": range(channels), "lidar": range(channels)}
    third = channels // 3
    return {"label": range(third), "lidar": range(third, 2 * third)}


def _lidar_channels(teacher: Teacher) -> int:
    lidar = getattr(teacher.model, "lidar", None)
    return int(lidar.channels) if lidar is not None else 0


def _check(
    config: ImkdConfig,
    *,
    student: DetectorConfig,
    teacher: DetectorConfig,
    labels: LabelTeacher | None,
    sensors: tuple[str, ...],
) -> None:
    names = f"teacher {teacher.name} and student {student.name}"
    chosen = config.chosen

    def off(*losses: str) -> str:
        return "--losses " + ",".join(f"{name}=0" for name in losses)

    compared = [name for name in PER_TASK if name in chosen]
    check_tasks(student=student, teacher=teacher, compared=compared)
    if "lidar_radar" in chosen and (
        student.radar is None or (sensors and not {*sensors} & {*SENSORS["radar"]})
    ):
        raise AdaptError(
            f"student {student.name} sees no radar, which lidar_radar is about; use "
            + off("lidar_radar")
        )
    weights = {"lidar_radar": config.radar, "lidar_fused": config.fused}
    of_points = [name for name in weights if weights[name].intensity in RETURNS]
    needed = [name for name in of_points if name in chosen]
    if config.lidar_map == "lidar_bev":
        needed = [name for name in weights if name in chosen]
    if needed and teacher.lidar is None:
        raise AdaptError(
            f"teacher {teacher.name} has no LiDAR branch, and {', '.join(needed)} reads LiDAR; "
            "take a teacher with one, or set imkd.lidar_map to fused and the intensities to "
            f"activation, or {off(*needed)}"
        )
    parted = [name for name in ("lidar_fused", "label_fused") if name in chosen]
    if parted and config.partition == "thirds" and student.fused_channels < 3:
        raise AdaptError(
            f"student {student.name} has {student.fused_channels} fused channels, expected 3 or "
            f"more for the thirds of {', '.join(parted)}; set imkd.partition=whole, or "
            + off(*parted)
        )
    if "label_fused" in chosen and labels is None:
        raise AdaptError(
            "label_fused compares with an encoder of labels, and imkd.label_encoder names none; "
            f"make one by crkd label-encoder --teacher, or {off('label_fused')}"
        )
    strange = [name for name in student.classes if name not in teacher.classes]
    if "label_fused" in chosen and strange:
        raise AdaptError(
            f"{names} know other classes: labels are encoded in the teacher's, and it does not "
            f"know {', '.join(strange)}. Take a teacher that does, or {off('label_fused')}"
        )
    if "label_fused" in chosen and student.grid.shape != teacher.grid.shape:
        raise AdaptError(
            f"{names} have other cells, {teacher.grid.cell:g} and {student.grid.cell:g} m; labels "
            f"are encoded on the teacher's grid. Use the same detector.grid, or "
            f"{off('label_fused')}"
        )
