"""A data set of other classes than nuScenes', and a detector of three of its four."""

from __future__ import annotations

import dataclasses

import numpy as np
from model_tiny import TINY
from model_tiny import frame as tiny_frame

from crkd_core.boxes import Detections
from crkd_core.config import TaskConfig
from crkd_core.frame import Frame

#: What the data set knows, and what the detector does: in another order, without the lamp post.
KNOWN = ("van", "lamp_post", "walker", "rider")
CLASSES = ("rider", "van", "walker")

TOY = dataclasses.replace(
    TINY,
    name="toy",
    head=dataclasses.replace(
        TINY.head,
        tasks=(
            TaskConfig(classes=("van",), nms="circle", nms_threshold=1.0),
            TaskConfig(classes=("walker", "rider"), nms_scale=(2.0, 1.0)),
        ),
    ),
    classes=CLASSES,
)


def frame(seed: int, *, boxes: int = 12) -> Frame:
    """A Frame that fits TOY; its truth is of the four classes that the data set knows."""
    made = tiny_frame(seed, boxes=boxes)
    assert made.truth is not None
    label = np.random.default_rng(seed).integers(0, len(KNOWN), boxes)
    return dataclasses.replace(
        made,
        truth=dataclasses.replace(made.truth, label=label, classes=KNOWN),
        global_T_ego=np.eye(4),
    )


def found(seed: int, count: int = 20) -> Detections:
    """What TOY might answer."""
    truth = frame(seed, boxes=2 * count).truth
    assert truth is not None
    truth = truth.of_classes(CLASSES)
    boxes = Detections(
        center=truth.center,
        size=truth.size,
        yaw=truth.yaw,
        velocity=truth.velocity,
        label=truth.label,
        score=np.linspace(0.9, 0.1, len(truth)),
        classes=truth.classes,
    )
    return boxes.select(np.arange(count))
