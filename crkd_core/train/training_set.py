"""What a training set must hold, told by its tables before any file of a sensor is read."""

from __future__ import annotations

from crkd_core.config import TrainConfig
from crkd_core.data.nuscenes.reader import NuScenesFrames
from crkd_core.data.sets import SetFrames
from crkd_core.train.mixed import MixedFrames
from crkd_core.train.start import TrainError


def check_set(config: TrainConfig, frames: SetFrames | MixedFrames) -> None:
    """Refuse a set that a training could only fail on, or learn nothing from.

    Args:
        config: of the run.
        frames: its training set.

    Raises:
        TrainError: no box that counts.
    """
    labelled = frames.labelled if isinstance(frames, MixedFrames) else frames
    _check_boxes(config, labelled)


def _check_boxes(config: TrainConfig, frames: SetFrames) -> None:
    """Some box of the detector's classes counts; objects of View-of-Delft do all."""
    if not isinstance(frames, NuScenesFrames):
        return
    truth = frames.tables.truths_global(frames.tokens)[0].of_classes(config.detector.classes)
    if not truth.counts.any():
        raise TrainError(
            f"{frames.tables.root}: 0 of {len(truth)} boxes of the training set have a return "
            "(num_lidar_pts + num_radar_pts other than 0 in sample_annotation.json), and only "
            "those are learned; correct these numbers, or choose another --split or --data"
        )
