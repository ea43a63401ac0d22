"""Which detections are published and under which class: pure functions on Detections.

Both are the user's settings and may change while the node runs. Thresholds come first: they judge
the class that the network answered, with the scores of that class; the class is renamed after.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from crkd_core.boxes import Detections
from crkd_ros.parameters.outputs import RemapConfig, ThresholdsConfig


def above(detections: Detections, config: ThresholdsConfig) -> Detections:
    """The detections that reach the least score of their class at their range, in their order.

    Args:
        detections: in axes of the vehicle; range is the distance of the centre on the ground.
        config: range i goes from ``ranges[i]`` (included) to the next (not included).
    """
    bins = len(config.ranges)
    least = np.stack([np.resize(config.least(name), bins) for name in detections.classes])
    ranges = np.hypot(detections.center[:, 0], detections.center[:, 1])
    column = np.searchsorted(config.ranges, ranges, side="right") - 1
    return detections.select(detections.score >= least[detections.label, column])


def renamed(detections: Detections, config: RemapConfig) -> Detections:
    """The detections under their published classes, in their order; dropped classes left out."""
    classes = detections.classes
    names = [config.published(name) for name in classes]
    labels = np.array([classes.index(name) if name else -1 for name in names])
    kept = detections.select(labels[detections.label] >= 0)
    return dataclasses.replace(kept, label=labels[kept.label])
