"""What a teacher does not know better than its student is taken out of what it teaches.

By its scores and the student's on held-out drives (protocol.py, decisions/0028). The published
form of CRKD stays what was published, and is only warned about. What one of the two never learned
is taken out of every form, before anything is measured.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from itertools import islice

from crkd_core.config import (
    RESPD_CHANNELS,
    CrkdConfig,
    DetectorConfig,
    DistillConfig,
    HeadConfig,
    ImkdConfig,
    TrainConfig,
)
from crkd_core.distill.crkd import class_weights
from crkd_core.distill.held_out import Scores
from crkd_core.model.checkpoint import read_config
from crkd_core.model.head import REGRESSION

#: The error of nuScenes that says whether a teacher knows a channel of boxes better. Height has
#: none.
CHANNEL_ERRORS = {
    "place": "trans_err",
    "size": "scale_err",
    "rotation": "orient_err",
    "velocity": "vel_err",
}


def without_unlearned(config: TrainConfig, student: DetectorConfig) -> TrainConfig:
    """``config`` whose methods do not compare channels of boxes that a network never learned.

    Where all code_weights of a channel are 0, its data do not tell it: what a teacher says of it
    is chance, and a student has no use for it.

    Raises:
        CheckpointError: a teacher that cannot be read.
    """
    for method in config.distillations:
        learned = _learned(student.head) & _learned(read_config(method.teacher).head)
        _, channels = _boxes_of(method)
        unlearned = [name for name in channels if RESPD_CHANNELS[name] not in learned]
        if unlearned:
            config = _without(config, method, unlearned)
    return config


def _learned(head: HeadConfig) -> set[str]:
    """The regression branches that the detection loss trains."""
    weights = iter(head.code_weights)
    return {branch for branch, size in REGRESSION.items() if any([*islice(weights, size)])}


def without_classes(
    config: TrainConfig, teacher: Scores, student: Scores
) -> tuple[TrainConfig, dict[str, tuple[float, float]], list[str]]:
    """``config`` whose RespD has weight 0 for classes that the teacher knows no better.

    Returns:
        The configuration; those classes, with the AP of both; notes.
    """
    crkd = config.crkd
    responses = {"respd_heatmap", "respd_box"}
    if crkd is None or not responses & crkd.chosen:
        return config, {}, []
    weak = {}
    for name in config.detector.classes:
        theirs, ours = (scores["mean_dist_aps"].get(name, 0.0) for scores in (teacher, student))
        # Where the student finds none either, or the drives have none, nothing is decided.
        if theirs <= ours and ours > 0:
            weak[name] = (float(theirs), float(ours))
    if not weak:
        return config, {}, []
    listed = ", ".join(f"{name} (AP {a:.3f}, student {b:.3f})" for name, (a, b) in weak.items())
    if crkd.respd_cells == "teacher":
        return (
            config,
            {},
            [f"the teacher is not better in {listed}; as published, it teaches them"],
        )
    classes = config.detector.classes
    given = class_weights(crkd, classes)
    weights = tuple(
        0.0 if name in weak else weight for name, weight in zip(classes, given, strict=True)
    )
    changed = dataclasses.replace(crkd, respd_class_weights=weights)
    note = f"the teacher is not better in {listed}: RespD leaves these classes out"
    return dataclasses.replace(config, crkd=changed), weak, [note]


def without_channels(
    config: TrainConfig, teacher: Scores, student: Scores
) -> tuple[TrainConfig, dict[str, tuple[float, float]], list[str]]:
    """``config`` whose methods do not compare channels of boxes that the teacher knows no better.

    Returns:
        The configuration; those channels, with the error of both; notes.
    """
    notes = []
    left_out: dict[str, tuple[float, float]] = {}
    for method in config.distillations:
        if method.teacher_checksum != config.distillations[0].teacher_checksum:
            continue
        loss, channels = _boxes_of(method)
        asked = channels if loss in method.chosen else ()
        weak = _weak_channels(asked, teacher, student)
        if not weak:
            continue
        listed = ", ".join(f"{name} ({a:.3f}, student {b:.3f})" for name, (a, b) in weak.items())
        if isinstance(method, CrkdConfig) and method.respd_cells == "teacher":
            notes.append(
                f"the teacher is not better in {listed}; as published, {loss} teaches it still"
            )
            continue
        notes.append(f"the teacher is not better in {listed}: {loss} leaves that out")
        config = _without(config, method, weak)
        left_out |= weak
    return config, left_out, notes


def _boxes_of(method: DistillConfig) -> tuple[str, tuple[str, ...]]:
    """The loss of a method that compares boxes, and what of them."""
    if isinstance(method, CrkdConfig):
        return "respd_box", method.respd_channels
    assert isinstance(method, ImkdConfig)
    return "response_box", method.response_channels


def _without(config: TrainConfig, method: DistillConfig, weak: Collection[str]) -> TrainConfig:
    """``config`` whose method does not compare these channels of boxes."""
    loss, channels = _boxes_of(method)
    left = tuple(name for name in channels if name not in weak)
    losses = method.losses if left else {**method.losses, loss: 0.0}
    if isinstance(method, CrkdConfig):
        changed = dataclasses.replace(method, losses=losses, respd_channels=left or channels)
        return dataclasses.replace(config, crkd=changed)
    assert isinstance(method, ImkdConfig)
    imkd = dataclasses.replace(method, losses=losses, response_channels=left or channels)
    return dataclasses.replace(config, imkd=imkd)


def _weak_channels(
    channels: Collection[str], teacher: Scores, student: Scores
) -> dict[str, tuple[float, float]]:
    """Which of these channels the teacher knows no better, with the error of both."""
    weak = {}
    for channel in channels:
        if channel in CHANNEL_ERRORS:
            error = CHANNEL_ERRORS[channel]
            theirs, ours = teacher["tp_errors"][error], student["tp_errors"][error]
            if math.isfinite(theirs) and math.isfinite(ours) and theirs >= ours:
                weak[channel] = (float(theirs), float(ours))
    return weak
