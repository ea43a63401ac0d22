"""One world, several observers: what the student sees of a sample, and what its teachers do.

All see the same augmented world. A teacher sees all of its sensors, also where the student's are
dropped at random or taken away by configuration, and at its own image size.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

from crkd_core.config import DetectorConfig, TrainConfig
from crkd_core.data.batch import collate
from crkd_core.distill.foreground import with_foreground
from crkd_core.frame import Frame
from crkd_core.train.batch import TrainingBatch, training_batch
from crkd_core.train.samples import Frames, Views


class TaughtViews(Views):
    """The stream of a distillation: position -> Frame of the student, Frame of every teacher."""

    def __init__(
        self, frames: Frames, config: TrainConfig, teachers: Sequence[DetectorConfig]
    ) -> None:
        """Views for the student of ``config`` and the teachers of its ``distillations``."""
        super().__init__(frames, config)
        everything = config.augment and dataclasses.replace(
            config.augment, drop_camera=0, drop_radar=0, drop_all_cameras=0, drop_all_radars=0
        )
        stream, self.teachers = copy.copy(self), []
        for method, teacher in zip(config.distillations, teachers, strict=True):
            views = copy.copy(stream)
            views.config = dataclasses.replace(
                config,
                detector=teacher,
                augment=everything,
                depth_weight=0.0,
                sensors=method.teacher_sensors,
            )
            self.teachers.append(views)

    def __getitem__(self, position: int) -> tuple[Frame, ...]:
        """The Frames at a stream position, by the same draws of chance; the student's first."""
        frame = self.recorded(position)
        seen = (views.view(frame, position) for views in self.teachers)
        return self.view(frame, position), *seen

    def collate(self, samples: Sequence[Any]) -> TrainingBatch:
        """The Frames of several positions, as one batch with its targets."""
        students, *taught = zip(*samples, strict=True)
        batch = training_batch(students, self.config)
        targets = with_foreground(batch.targets, batch.inputs.truth, self.config)
        return dataclasses.replace(
            batch,
            targets=targets,
            taught=tuple(
                collate(frames, views.config.detector)
                for frames, views in zip(taught, self.teachers, strict=True)
            ),
        )
