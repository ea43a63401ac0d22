"""One world, two observers: what the student sees of a sample, and what its teacher does.

Both see the same augmented world. The teacher sees all of its sensors, also where the student's
are dropped at random or taken away by configuration, and at its own image size.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

from crkd_core.config import DetectorConfig, TrainConfig
from crkd_core.data.batch import collate
from crkd_core.distill.foreground import foreground
from crkd_core.frame import Frame
from crkd_core.train.batch import TrainingBatch, training_batch
from crkd_core.train.samples import Frames, Views


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
        return self.view(frame, position), self.teacher.view(frame, position)

    def collate(self, samples: Sequence[Any]) -> TrainingBatch:
        """Pairs of Frames to one batch."""
        students, teachers = zip(*samples, strict=True)
        batch = training_batch(students, self.config)
        settings = self.config.distill
        assert settings is not None
        targets = batch.targets
        if {"msfd_fused", "msfd_camera"} & set(settings.losses):
            truths = [truth for truth in batch.inputs.truth if truth is not None]
            mask = foreground(truths, self.config.detector.grid, settings.enlarge)
            targets = dataclasses.replace(targets, foreground=mask)
        taught = (collate(teachers, self.teacher.config.detector),)
        return dataclasses.replace(batch, targets=targets, taught=taught)
