"""Which sample comes at which step, and its random view: a function of the seed and the position.

Nothing here remembers anything, so a run that is resumed at step k sees what an uninterrupted one
would have seen.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from crkd_core.config import TrainConfig
from crkd_core.data.augment import Warped, augment
from crkd_core.data.nuscenes.reader import NuScenesFrames
from crkd_core.data.paste import Paste, open_database
from crkd_core.data.sets import SetFrames
from crkd_core.frame import Frame
from crkd_core.orphans import die_with_parent
from crkd_core.train.balance import BalancedOrder, Order, classes_held
from crkd_core.train.batch import TrainingBatch, training_batch
from crkd_core.train.distributed import Processes
from crkd_core.train.kept import kept_of
from crkd_core.train.mixed import MixedFrames, MixedOrder
from crkd_core.train.run_folder import Run


class Frames(Protocol):
    """A set of Frames by index, such as NuScenesFrames or VodFrames, images as recorded."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Frame: ...


class Positions(Sampler[list[int]]):
    """Stream positions, one list a batch; a position is what ``Views`` is indexed with.

    N processes with batches of b see together, batch by batch, what one process with batches of
    N b sees; a step takes ``config.accumulate`` such batches.

    Args:
        config: sizes of batches and steps.
        first_step: steps that are done.
        processes: which of the positions are this process's.
    """

    def __init__(
        self, config: TrainConfig, *, first_step: int = 0, processes: Processes | None = None
    ) -> None:
        self.config, self.processes = config, processes or Processes()
        self.batches = range(first_step * config.accumulate, config.steps * config.accumulate)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        size = self.config.batch_size
        for batch in self.batches:
            start = (batch * self.processes.count + self.processes.rank) * size
            yield list(range(start, start + size))


class Views(Dataset[Any]):
    """The endless stream of training samples: position -> augmented Frame.

    Args:
        frames: the training set, images as recorded.
        config: of the run.
        paste: adds boxes of other frames to the LiDAR; None = nothing.

    Raises:
        BalanceError: class-balanced sampling of a set that cannot be balanced.
    """

    def __init__(self, frames: Frames, config: TrainConfig, *, paste: Paste | None = None) -> None:
        self.frames, self.config, self.paste = frames, config, paste
        self.kept = kept_of(config, frames)
        labelled = frames.labelled if isinstance(frames, MixedFrames) else frames
        self.order = (
            BalancedOrder(classes_held(labelled, config.detector.classes), seed=config.seed)
            if config.balanced
            else Order(len(labelled), seed=config.seed)
        )
        if isinstance(frames, MixedFrames):
            self.order = MixedOrder(self.order, len(frames.unlabelled), share=frames.share)

    def __getitem__(self, position: int) -> Any:
        """The Frame at a stream position; the same for the same seed, set and configuration."""
        return self.view(self.recorded(position), position)

    def collate(self, samples: Sequence[Any]) -> TrainingBatch:
        """What ``__getitem__`` gave for several positions, as one batch with its targets."""
        return training_batch(samples, self.config)

    def recorded(self, position: int) -> Frame:
        """The Frame at a stream position as it was recorded.

        Its truth: the boxes that were seen, of the detector's classes.

        Raises:
            BoxError: the detector has a class that the truth does not know.
        """
        index = self.order[position]
        frame = self.kept.get(index) or self.kept.add(index, seen(self.frames[index]))
        if isinstance(self.frames, MixedFrames):
            frame = self.frames.with_pseudo(frame)
        if self.paste is not None:
            rng = np.random.default_rng((self.config.seed, 2, position))
            frame = self.paste(frame, position=position, rng=rng)
        if frame.truth is None:
            return frame
        truth = frame.truth.of_classes(self.config.detector.classes)
        return dataclasses.replace(frame, truth=truth)

    def view(self, frame: Frame, position: int, warped: Warped | None = None) -> Frame:
        """See ``view``."""
        return view(frame, position, self.config, warped)


def view(frame: Frame, position: int, config: TrainConfig, warped: Warped | None = None) -> Frame:
    """The random view of a recorded Frame at a stream position; ``warped`` as of ``augment``."""
    if config.detector.temporal is None and frame.past:
        frame = dataclasses.replace(frame, past=())
    frame = frame.keeping(config.seen)
    if config.augment is None:
        return frame
    return augment(
        frame,
        augment=config.augment,
        image=config.detector.image,
        rng=np.random.default_rng((config.seed, 1, position)),
        read=config.seen,
        warped=warped,
    )


def seen(frame: Frame) -> Frame:
    """``frame`` with only the boxes that count, as in an evaluation."""
    if frame.truth is None:
        return frame
    return dataclasses.replace(frame, truth=frame.truth.select(frame.truth.counts))


def start_worker(_: int) -> None:
    """What a loading process does first: one thread, and an end when the training ends.

    torch's own watch for the parent misses a worker that waits to hand over its samples. What
    ends the training, such as Ctrl-C, is not for this process: a step that goes on needs it.
    """
    torch.set_num_threads(1)
    os.setpgrp()
    die_with_parent()


def paste_of(frames: Frames, run: Run, processes: Processes) -> Paste | None:
    """What ``config.paste`` asks for; None where it asks for nothing.

    The database is built once by one process of a machine, of drawn boxes alone. It lies beside a
    nuScenes data set, where other runs find it, or in the run folder.

    Raises:
        PasteError: no LiDAR or truth to paste from.
    """
    config, settings = run.config, run.config.paste
    if settings is None:
        return None
    if isinstance(frames, MixedFrames):
        frames = frames.labelled
    folder, source = run.path / "paste", frames
    if isinstance(frames, SetFrames):
        source = frames.lidar_only()
    if isinstance(frames, NuScenesFrames):
        version = frames.tables.root / frames.tables.version
        beside = version / ".crkd_paste"
        if os.access(beside if beside.exists() else version, os.W_OK):
            folder = beside
        told = frames.lidar_only().digest()
        facts = [told, frames.classes, frames.lidar_sweeps, settings.min_points]
        folder /= hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    database = open_database(
        folder, source, min_points=settings.min_points, builds=processes.local_rank == 0
    )
    per_step = config.batch_size * config.accumulate * processes.count
    stop = None if settings.stop_step is None else settings.stop_step * per_step
    counts = dict(zip(config.detector.classes, settings.counts, strict=True))
    return Paste(database, counts=counts, stop=stop)
