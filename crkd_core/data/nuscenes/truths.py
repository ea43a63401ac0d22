"""Annotated boxes of samples, from the index, in GLOBAL axes. Shapes: S samples, N boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crkd_core.boxes import Boxes, Truth
from crkd_core.data.nuscenes.index import Index
from crkd_core.data.nuscenes.index_boxes import BICYCLE_RACK


def truths(
    index: Index, samples: NDArray[np.int64], classes: Sequence[str]
) -> tuple[Truth, NDArray[np.int64]]:
    """Boxes of the detection classes, and [N] which of the samples each is of.

    Args:
        index: the tables.
        samples: [S] rows of the samples.
        classes: names of the labels in ``index``.
    """
    first, last = index.sample_boxes[samples], index.sample_boxes[samples + 1]
    owner = np.repeat(np.arange(len(samples)), last - first)
    before = np.concatenate([[0], np.cumsum(last - first)])[:-1]
    rows = np.arange(len(owner)) + (first - before)[owner]
    known = index.box_label[rows] >= 0
    rows, owner = rows[known], owner[known]
    truth = Truth(
        center=index.box_center[rows],
        size=index.box_size[rows],
        yaw=index.box_yaw[rows],
        velocity=index.box_velocity[rows],
        label=index.box_label[rows].astype(np.int64),
        attribute=index.box_attribute[rows].astype(np.int64),
        num_lidar_points=index.box_lidar[rows].astype(np.int64),
        num_radar_points=index.box_radar[rows].astype(np.int64),
        classes=tuple(classes),
    )
    return truth, owner


def bicycle_racks(index: Index, sample: int) -> Boxes:
    """Bicycle racks of the sample in this row."""
    rows = np.arange(*index.sample_boxes[sample : sample + 2])
    rows = rows[index.box_label[rows] == BICYCLE_RACK]
    return Boxes(
        center=index.box_center[rows],
        size=index.box_size[rows],
        yaw=index.box_yaw[rows],
        velocity=index.box_velocity[rows],
        label=np.zeros(len(rows), np.int64),
        classes=("bicycle_rack",),
    )
