"""Which sample comes at which step, and its random view: a function of the seed and the position.

Nothing here remembers anything, so a run that is resumed at step k sees what an uninterrupted one
would have seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from torch.utils.data import Dataset, Sampler

from crkd_core.config import TrainConfig
from crkd_core.data.augment import augment
from crkd_core.data.batch import Batch, collate
from crkd_core.frame import Frame


class Frames(Protocol):
    """A set of Frames by index, such as data.nuscenes.NuScenesFrames, images as recorded."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Frame: ...


class Positions(Sampler[list[int]]):
    """Stream positions, one list a step; a position is what ``Views`` is indexed with."""

    def __init__(self, *, first_step: int, steps: int, batch_size: int) -> None:
        self.first_step, self.steps, self.batch_size = first_step, steps, batch_size

    def __len__(self) -> int:
        return max(0, self.steps - self.first_step)

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first_step, self.steps):
            yield list(range(step * self.batch_size, (step + 1) * self.batch_size))


class Views(Dataset[Any]):
    """The endless stream of training samples: position -> augmented Frame."""

    def __init__(self, frames: Frames, config: TrainConfig) -> None:
        self.frames, self.config = frames, config

    def __getitem__(self, position: int) -> Any:
        """The Frame at a stream position; the same for the same seed, set and configuration."""
        return self.view(self.recorded(position), position)

    def collate(self, samples: Sequence[Any]) -> Batch:
        """What ``__getitem__`` gave for a step, as one batch."""
        return collate(samples, self.config.detector)

    def recorded(self, position: int) -> Frame:
        """The Frame at a stream position as it was recorded, with the boxes that were seen."""
        epoch, place = divmod(position, len(self.frames))
        order = np.random.default_rng((self.config.seed, 0, epoch)).permutation(len(self.frames))
        return seen(self.frames[int(order[place])])

    def view(self, frame: Frame, position: int) -> Frame:
        """The random view of ``frame`` at a stream position."""
        config = self.config
        if config.sensors:
            frame = frame.keeping(config.sensors)
        if config.augment is None:
            return frame
        return augment(
            frame,
            augment=config.augment,
            image=config.detector.image,
            rng=np.random.default_rng((config.seed, 1, position)),
        )


def seen(frame: Frame) -> Frame:
    """``frame`` with only the boxes that a LiDAR or radar return fell into.

    The rest are hidden from every sensor, and evaluation leaves them out too.
    """
    if frame.truth is None:
        return frame
    points = frame.truth.num_lidar_points + frame.truth.num_radar_points
    return dataclasses.replace(frame, truth=frame.truth.select(points > 0))
