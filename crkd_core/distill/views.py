"""One world, several observers: what the student sees of a sample, and what its teachers do.

All see the same augmented world. A teacher sees all of its sensors, also where the student's are
dropped at random or taken away by configuration, and at its own image size. The student sees what
it would see in a plain training, to the bit: the same order, draws, dropped sensors, targets.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crkd_core.config import DetectorConfig, TrainConfig, to_dict
from crkd_core.data.augment import Warped
from crkd_core.data.batch import collate
from crkd_core.data.sets import SetFrames
from crkd_core.distill.cache import CacheError, FeatureCache, Identified
from crkd_core.distill.foreground import with_foreground
from crkd_core.distill.teacher import Teacher
from crkd_core.frame import Frame
from crkd_core.train.batch import Taught, TrainingBatch, training_batch
from crkd_core.train.kept import kept_of
from crkd_core.train.mixed import MixedFrames
from crkd_core.train.samples import Frames, Views, view


class TaughtViews(Views):
    """The stream of a distillation: position -> the student's Frame, and what teachers get."""

    def __init__(self, frames: Frames, config: TrainConfig, teachers: Sequence[Teacher]) -> None:
        """Views for the student of ``config`` and the teachers of its ``distillations``.

        Raises:
            CacheError: a teacher with a cache, and Frames that do not say what they are.
        """
        super().__init__(frames, config)
        stream = copy.copy(self)
        self.teachers = [
            TeacherViews(
                stream, teacher.config, sensors=method.teacher_sensors, cache=teacher.cache
            )
            for method, teacher in zip(config.distillations, teachers, strict=True)
        ]
        # Where no teacher looks, the student needs less LiDAR, or none.
        self.alone = stream
        if isinstance(frames, SetFrames | MixedFrames) and "lidar" not in config.detector.branches:
            self.alone = copy.copy(stream)
            self.alone.frames = frames.with_lidar_sweeps(1 if config.depth_weight else 0)
            self.alone.kept = kept_of(config, self.alone.frames)

    def __getitem__(self, position: int) -> tuple[Frame, list[Seen]]:
        """What everyone gets at a stream position, by the same draws of chance."""
        known = [views.known(position) for views in self.teachers]
        asked = any(seen.answer is None for seen in known)
        frame = (self if asked else self.alone).recorded(position)
        warped: Warped = {}
        seen = [
            dataclasses.replace(one, frame=views.view(frame, position, warped))
            if one.answer is None
            else one
            for views, one in zip(self.teachers, known, strict=True)
        ]
        return self.view(self._without_teachers(frame), position, warped), seen

    def _without_teachers(self, frame: Frame) -> Frame:
        """``frame`` with the LiDAR that a plain training of the student would read."""
        if frame.lidar is None or "lidar" in self.config.detector.branches:
            return frame
        if not self.config.depth_weight:
            return dataclasses.replace(frame, lidar=None)
        # Rows by their numbers: a mask of rows takes five times as long.
        key_sweep = np.flatnonzero(frame.lidar[:, 4] <= 0)
        return dataclasses.replace(frame, lidar=frame.lidar.take(key_sweep, axis=0))

    def collate(self, samples: Sequence[Any]) -> TrainingBatch:
        """What ``__getitem__`` gave for several positions, as one batch with its targets."""
        students, taught = zip(*samples, strict=True)
        batch = training_batch(students, self.config)
        targets = with_foreground(batch.targets, batch.inputs.truth, self.config)
        return dataclasses.replace(
            batch,
            targets=targets,
            taught=tuple(
                _joined(seen, views.config.detector)
                for seen, views in zip(zip(*taught, strict=True), self.teachers, strict=True)
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One sample for one teacher.

    Attributes:
        key: of its answer in the teacher's cache; "" = it has none.
        answer: what it is known to say; None = it must look at ``frame``.
        frame: its view of the sample, where it must.
    """

    key: str = ""
    answer: dict[str, Tensor] | None = None
    frame: Frame | None = None


class TeacherViews:
    """The same stream for a teacher: no sensor is dropped, images have its own size."""

    def __init__(
        self,
        stream: Views,
        teacher: DetectorConfig,
        *,
        sensors: tuple[str, ...],
        cache: FeatureCache | None,
    ) -> None:
        """Views of ``stream`` for ``teacher``.

        Args:
            stream: the student's.
            teacher: the network that looks.
            sensors: cameras and radars that it may see; () = all.
            cache: of its answers.

        Raises:
            CacheError: a cache, and Frames that do not say what they are.
        """
        config = stream.config
        everything = config.augment and dataclasses.replace(
            config.augment, drop_camera=0, drop_radar=0, drop_all_cameras=0, drop_all_radars=0
        )
        self.stream = stream
        # Nothing else of the student's run decides what it sees, and much would not fit it.
        self.config = TrainConfig(
            detector=teacher, augment=everything, seed=config.seed, sensors=sensors
        )
        self.cache = cache
        self.facts: list[object] = []
        if cache is not None:
            if not isinstance(stream.frames, Identified):
                raise CacheError(
                    f"{type(stream.frames).__name__} does not say which recordings it holds "
                    "(digest and tokens), so answers cannot be kept; leave --cache out"
                )
            frames = stream.frames
            digest = (
                frames.recorded_digest() if isinstance(frames, MixedFrames) else frames.digest()
            )
            self.facts = [digest, to_dict(teacher), sensors]
            if teacher.temporal is not None and config.detector.temporal is not None:
                # Frames hold the moments that the student asks for.
                self.facts.append(to_dict(config.detector.temporal))
            if everything is not None:
                self.facts += [to_dict(everything), config.seed]

    def view(self, frame: Frame, position: int, warped: Warped) -> Frame:
        """What it sees of a recorded Frame at a stream position; see samples.view."""
        return view(frame, position, self.config, warped)

    def known(self, position: int) -> Seen:
        """What is known of the answer at a stream position before anything is read."""
        frames = self.stream.frames
        if self.cache is None or not isinstance(frames, Identified):
            return Seen()
        place = [] if self.config.augment is None else [position]
        key = self.cache.key(*self.facts, frames.tokens[self.stream.order[position]], *place)
        return Seen(key=key, answer=self.cache.read(key))


def _joined(seen: Sequence[Seen], teacher: DetectorConfig) -> Taught:
    """The samples of a batch for one teacher."""
    frames = [one.frame for one in seen if one.frame is not None]
    answers = [one.answer for one in seen if one.answer is not None]
    names = tuple(answers[0]) if answers else ()
    return Taught(
        batch=collate(frames, teacher) if frames else None,
        keys=tuple(one.key for one in seen if one.frame is not None and one.key),
        names=names,
        answers=tuple(torch.stack([answer[name] for answer in answers]) for name in names),
        known=tuple(one.answer is not None for one in seen),
    )
