"""nuScenes' metrics on View-of-Delft: hits by distance of centres instead of overlap.

Not its benchmark. They tell errors of place, size and rotation one from another, and are what
teacher and student are compared by before one teaches the other (docs/decisions/0028).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crkd_core.boxes import Boxes, Detections
from crkd_core.data.vod.reader import VodFrames
from crkd_core.evaluate.matching import ScoredBoxes
from crkd_core.evaluate.metrics import DetectionRules, Evaluation
from crkd_core.evaluate.scoring import Countable

#: Objects further away are not annotated, metres.
REACH = 50.0


def rules_of(classes: Sequence[str]) -> DetectionRules:
    """nuScenes' numbers for these classes; speeds and attributes are not annotated."""
    return DetectionRules(
        class_range=dict.fromkeys(classes, REACH),
        undefined_errors=dict.fromkeys(classes, ("vel_err", "attr_err")),
        half_turn=(),
    )


def score_by_distance(frames: VodFrames, answers: Sequence[Detections]) -> Evaluation:
    """nuScenes' metrics of what was found in each frame; see ``countable_by_distance``."""
    return countable_by_distance(frames, answers).score()


def countable_by_distance(frames: VodFrames, answers: Sequence[Detections]) -> Countable:
    """What these metrics look at, over the detector's classes.

    A place is relative to the vehicle in its frame, and frames do not meet.

    Args:
        frames: with labels.
        answers: detections of each frame, ego axes.

    Raises:
        ValueError: not one answer a frame.
        VodError: a frame without labels.
    """
    classes = answers[0].classes if answers else frames.classes
    truths, found = [ScoredBoxes.empty(classes)], [ScoredBoxes.empty(classes)]
    for index, answer in zip(range(len(frames)), answers, strict=True):
        truths.append(_scored(frames.truth(index).of_classes(classes), index))
        found.append(_scored(answer, index))
    return Countable(
        tokens=tuple(frames.tokens),
        ego=np.zeros((len(frames), 2)),
        truth=ScoredBoxes.joined(truths),
        detections=ScoredBoxes.joined(found),
        unscored=tuple(name for name in frames.classes if name not in classes),
        rules=rules_of(classes),
    )


def _scored(boxes: Boxes, sample: int) -> ScoredBoxes:
    boxes = boxes.select(np.hypot(*boxes.center[:, :2].T) < REACH)
    count = len(boxes)
    return ScoredBoxes(
        center=boxes.center,
        size=boxes.size,
        yaw=boxes.yaw,
        velocity=boxes.velocity,
        label=boxes.label,
        classes=boxes.classes,
        sample=np.full(count, sample, np.int64),
        attribute=np.full(count, -1, np.int64),
        score=boxes.score if isinstance(boxes, Detections) else np.ones(count),
    )
