"""What a training set must hold, told by its tables before any file of a sensor is read."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from crkd_core.config import DetectorConfig, TrainConfig
from crkd_core.data.nuscenes.reader import NuScenesFrames
from crkd_core.data.sets import SetFrames
from crkd_core.sensors import LIDAR
from crkd_core.train.mixed import MixedFrames
from crkd_core.train.start import TrainError

#: A larger share of samples without anything to see is warned of.
_NOTICEABLE = 0.05


def check_set(
    config: TrainConfig, frames: SetFrames | MixedFrames, teachers: Sequence[DetectorConfig] = ()
) -> None:
    """Refuse a set that a training could only fail on, or learn nothing from.

    Warns where more than 5 % of its samples have no sensor that the run may see.

    Args:
        config: of the run.
        frames: its training set.
        teachers: the networks of its teachers.

    Raises:
        TrainError: no annotations, no box that counts, no sensor that is seen, or no LiDAR where
            it is read.
    """
    mixed = isinstance(frames, MixedFrames)
    parts = [frames.labelled, frames.unlabelled] if isinstance(frames, MixedFrames) else [frames]
    _check_boxes(config, parts[0], spare="" if mixed or not teachers else " (or --unlabelled)")
    for part in parts:
        _check_seen(config, part)
        _check_lidar(config, part, teachers)


def _check_boxes(config: TrainConfig, frames: SetFrames, *, spare: str) -> None:
    """Some box of the detector's classes counts; labelled objects of View-of-Delft do all."""
    tables = frames.tables
    if not isinstance(frames, NuScenesFrames):
        bare = [name for name in frames.tokens if frames.tables.labels(name) is None]
        if bare:
            raise TrainError(
                f"{tables.root}: frame {bare[0]} is of the test set and has no labels to learn "
                f"from; choose another --split{spare}"
            )
        truths = (frames.truth(index) for index in range(len(frames)))
        if not any(len(truth.of_classes(config.detector.classes)) for truth in truths):
            raise TrainError(
                f"{tables.root}: the label files of the {len(frames)} frames to train on hold no "
                f"object of {', '.join(config.detector.classes)}; choose another --split or --data"
            )
        return
    if not frames.tables.annotated:
        raise TrainError(
            f"{tables.root}: {tables.version} has no annotations to learn from; choose another "
            f"--version or --data{spare}"
        )
    truth = frames.tables.truths_global(frames.tokens)[0].of_classes(config.detector.classes)
    if not truth.counts.any():
        raise TrainError(
            f"{tables.root}: 0 of {len(truth)} boxes of the training set have a return "
            "(num_lidar_pts + num_radar_pts other than 0 in sample_annotation.json), and only "
            "those are learned; correct these numbers, or choose another --split or --data"
        )


def _check_seen(config: TrainConfig, frames: SetFrames) -> None:
    """Some sample has a sensor that the run sees."""
    sees: NDArray[np.bool_] = np.any([frames.present(name) for name in config.seen], axis=0)
    blind, names = int((~sees).sum()), ", ".join(config.seen)
    if blind == len(sees):
        raise TrainError(
            f"{frames.tables.root}: no sample has a sensor that {config.detector.name} may see, "
            f"which are {names}; choose another --data, or a --preset for its sensors"
        )
    if blind > _NOTICEABLE * len(sees):
        warnings.warn(
            f"{frames.tables.root}: {blind} of {len(sees)} samples have no sensor that "
            f"{config.detector.name} may see, which are {names}; it learns nothing of use there",
            stacklevel=3,
        )


def _check_lidar(
    config: TrainConfig, frames: SetFrames, teachers: Sequence[DetectorConfig]
) -> None:
    """There is LiDAR for whatever reads it."""
    lacking, count = int((~frames.present(LIDAR)).sum()), len(frames)
    for what, least, remedy in _lidar_readers(config, teachers):
        if lacking >= least:
            lack = "this data set has no LiDAR"
            if lacking < count:
                lack = f"{lacking} of {count} samples have no LiDAR"
            raise TrainError(f"{frames.tables.root}: {lack}, which {what} reads; {remedy}")


def _lidar_readers(
    config: TrainConfig, teachers: Sequence[DetectorConfig]
) -> Iterator[tuple[str, int, str]]:
    """What reads LiDAR, how many samples without are too many, and what to do about it."""
    if config.detector.lidar is not None:
        yield config.detector.name, 1, "take a detector without a LiDAR branch"
    if config.depth_weight:
        # A batch without any is what it cannot use.
        yield "depth_weight", config.batch_size, "--set depth_weight=0"
    if config.paste is not None:
        yield "paste", 1, "--set paste=null"
    for teacher in teachers:
        if teacher.lidar is not None:
            yield f"the teacher {teacher.name}", 1, "take a teacher without a LiDAR branch"
