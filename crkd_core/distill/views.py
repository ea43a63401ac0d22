"""One world, two observers: what the student sees of a sample, and what its teacher does.

Both see the same augmented world. The teacher sees all of its sensors, also where the student's
are dropped at random or taken away by configuration, and at its own image size.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from typing_extensions import Self

from crkd_core.config import DetectorConfig, TrainConfig
from crkd_core.data.batch import Batch, collate
from crkd_core.frame import Frame
from crkd_core.train.samples import Frames, Views


@dataclass(frozen=True, kw_only=True)
class PairedBatch(Batch):
    """The student's batch, with the teacher's.

    Attributes:
        teacher: the same samples as the teacher sees them.
    """

    teacher: Batch

    def to(self, device: torch.device | str) -> Self:
        """Both batches on a device."""
        return dataclasses.replace(super().to(device), teacher=self.teacher.to(device))

    def pin_memory(self) -> Self:
        """Both batches in page-locked memory."""
        return dataclasses.replace(super().pin_memory(), teacher=self.teacher.pin_memory())


class PairedViews(Views):
    """The stream of a distillation: position -> Frame of the student, Frame of the teacher."""

    def __init__(self, frames: Frames, config: TrainConfig, teacher: DetectorConfig) -> None:
        """Views for the student of ``config`` and a teacher that may see ``teacher_sensors``."""
        super().__init__(frames, config)
        assert config.distill is not None
        everything = config.augment and dataclasses.replace(
            config.augment, drop_camera=0, drop_radar=0, drop_all_cameras=0, drop_all_radars=0
        )
        self.teacher = copy.copy(self)
        self.teacher.config = dataclasses.replace(
            config,
            detector=teacher,
            augment=everything,
            sensors=config.distill.teacher_sensors,
        )

    def __getitem__(self, position: int) -> tuple[Frame, Frame]:
        """Both Frames at a stream position, by the same draws of chance."""
        frame = self.recorded(position)
        student, teacher = self.view(frame, position), self.teacher.view(frame, position)
        if not self.config.depth_weight:
            student = dataclasses.replace(student, lidar=None)
        return student, teacher

    def collate(self, samples: Sequence[Any]) -> PairedBatch:
        """Pairs of Frames to one batch."""
        students, teachers = zip(*samples, strict=True)
        student = super().collate(students)
        fields = {f.name: getattr(student, f.name) for f in dataclasses.fields(student)}
        return PairedBatch(**fields, teacher=collate(teachers, self.teacher.config.detector))
