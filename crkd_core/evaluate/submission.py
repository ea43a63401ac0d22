"""nuScenes detection submissions: detections in the vehicle's axes -> results JSON.

The file holds global boxes: translation (gravity centre), size (width, length, height), rotation
(w, x, y, z), velocity (vx, vy), detection_name, detection_score, attribute_name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.boxes import Boxes, Detections
from crkd_core.data.nuscenes.classes import NUSCENES_ATTRIBUTES
from crkd_core.evaluate.matching import ScoredBoxes, score_order
from crkd_core.evaluate.metrics import DetectionRules
from crkd_core.files import write_json
from crkd_core.frame import Frame

#: What a submission declares about its inputs.
META_KEYS = ("use_camera", "use_lidar", "use_radar", "use_map", "use_external")

#: Above this speed an object counts as moving, m/s (docs/method.md 1.6).
MOVING_SPEED = 0.2

# Attributes per class when moving and when not (docs/method.md 1.6).
_MOTION_ATTRIBUTES: dict[str, tuple[str, str]] = {
    "car": ("vehicle.moving", "vehicle.parked"),
    "truck": ("vehicle.moving", "vehicle.parked"),
    "bus": ("vehicle.moving", "vehicle.stopped"),
    "trailer": ("vehicle.moving", "vehicle.parked"),
    "construction_vehicle": ("vehicle.moving", "vehicle.parked"),
    "pedestrian": ("pedestrian.moving", "pedestrian.standing"),
    "motorcycle": ("cycle.with_rider", "cycle.without_rider"),
    "bicycle": ("cycle.with_rider", "cycle.without_rider"),
}


class SubmissionError(ValueError):
    """A results file, or detections, that the benchmark would not accept."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """Detections of many samples in global axes.

    Attributes:
        tokens: sample tokens, every one of the split, also those without boxes.
        boxes: all boxes; ``boxes.sample`` indexes ``tokens``.
        meta: META_KEYS -> bool.
    """

    tokens: tuple[str, ...]
    boxes: ScoredBoxes
    meta: Mapping[str, Any]


def attribute_by_speed(boxes: Boxes) -> NDArray[np.int64]:
    """Attributes guessed from class and speed; unknown speed counts as standing still.

    Returns:
        [N] index into NUSCENES_ATTRIBUTES, -1 for classes without attributes.
    """
    table = np.full((len(boxes.classes), 2), -1, np.int64)
    for label, name in enumerate(boxes.classes):
        attributes = _MOTION_ATTRIBUTES.get(name)
        if attributes is not None:
            table[label] = [NUSCENES_ATTRIBUTES.index(attribute) for attribute in attributes]
    moving = np.linalg.norm(boxes.velocity, axis=-1) > MOVING_SPEED
    return table[boxes.label, np.where(moving, 0, 1)]


class Answer(NamedTuple):
    """What a detector said to one sample.

    Attributes:
        token: of the sample.
        global_T_ego: [4, 4] where the vehicle was; None = not known.
        detections: in ego axes.
    """

    token: str
    global_T_ego: NDArray[np.float64] | None
    detections: Detections

    @classmethod
    def to(cls, frame: Frame, found: Detections) -> Answer:
        """The answer to a Frame of a sample."""
        return cls(frame.token, frame.global_T_ego, found)


def make_submission(
    answers: Iterable[tuple[str, NDArray[np.float64] | None, Detections]],
    *,
    classes: Sequence[str],
    tokens: Iterable[str] | None = None,
    meta: Mapping[str, bool] | None = None,
    only_in_range: bool = False,
    rules: DetectionRules | None = None,
) -> Submission:
    """Gather what a detector answered.

    Args:
        answers: one ``Answer`` per sample; the best ``rules.max_boxes`` boxes of each are kept.
        classes: those of the detector, also where it found nothing.
        tokens: samples that are to be in it, in this order; one without an answer is empty. None =
            those of the answers, in theirs.
        meta: which inputs were used; None = cameras and radars.
        only_in_range: leave out boxes beyond the range that the benchmark counts, which saves room
            for others among the best.
        rules: the benchmark's numbers.

    Raises:
        SubmissionError: a sample without token or pose, twice the same, or not one of ``tokens``.
        BoxError: detections of other classes.
    """
    rules = rules or DetectionRules()
    if tokens is not None:
        answers = _completed(answers, list(tokens), classes)
    parts = [ScoredBoxes.empty(classes)]
    place: dict[str, int] = {}
    for token, global_T_ego, found in answers:
        if not token or token in place:
            why = "is empty" if not token else "came twice"
            raise SubmissionError(f"sample token {token!r} {why}; expected one answer per sample")
        if global_T_ego is None or not np.isfinite(global_T_ego).all():
            raise SubmissionError(
                f"sample {token}: expected a pose global_T_ego of finite numbers, got "
                f"{global_T_ego if global_T_ego is None else global_T_ego.tolist()}"
            )
        _check(token, found)
        if only_in_range:
            away = np.hypot(found.center[:, 0], found.center[:, 1])
            found = found.select(away < rules.reach(found))
        moved = found.select(np.sort(score_order(found.score)[: rules.max_boxes])).transformed(
            global_T_ego
        )
        parts.append(
            ScoredBoxes(
                **{f.name: getattr(moved, f.name) for f in dataclasses.fields(Detections)},
                sample=np.full(len(moved), len(place)),
                attribute=attribute_by_speed(moved),
            )
        )
        place[token] = len(place)
    return Submission(
        tokens=tuple(place),
        boxes=ScoredBoxes.joined(parts),
        meta=dict(meta or {key: key in ("use_camera", "use_radar") for key in META_KEYS}),
    )


def _completed(
    answers: Iterable[tuple[str, NDArray[np.float64] | None, Detections]],
    tokens: list[str],
    classes: Sequence[str],
) -> list[Answer]:
    """The answers in the order of ``tokens``, with an empty one where there is none."""
    found = [Answer(*answer) for answer in answers]
    order = {token: index for index, token in enumerate(tokens)}
    known = {answer.token for answer in found}
    if others := known - set(tokens):
        raise SubmissionError(
            f"answers to {len(others)} samples that were not asked for, first {min(others)}"
        )
    nothing = Detections.empty(classes)
    found += [Answer(token, np.eye(4), nothing) for token in tokens if token not in known]
    return sorted(found, key=lambda answer: order[answer.token])


def _check(token: str, found: Detections) -> None:
    """Refuse what could be written but not be scored."""
    for name, good, expected in (
        ("center", np.isfinite(found.center).all(-1), "finite values"),
        ("size", (np.isfinite(found.size) & (found.size > 0)).all(-1), "positive, finite values"),
        ("yaw", np.isfinite(found.yaw), "a finite angle"),
        ("velocity", ~np.isinf(found.velocity).any(-1), "finite values or NaN"),
        ("score", (found.score >= 0) & (found.score <= 1), "a number from 0 to 1"),
    ):
        if not good.all():
            i = int(np.argmin(good))
            got = getattr(found, name)[i]
            raise SubmissionError(
                f"sample {token}, box {i}: {name}: expected {expected}, got {got}"
            )


def write_submission(submission: Submission, path: Path) -> None:
    """Write the results JSON; a reader never sees half a file."""
    boxes = submission.boxes
    columns = (
        boxes.sample.tolist(),
        boxes.center.tolist(),
        geometry.lwh_to_wlh(boxes.size).tolist(),
        geometry.yaw_to_quat_wxyz(boxes.yaw).tolist(),
        boxes.velocity.tolist(),
        boxes.label.tolist(),
        boxes.score.tolist(),
        boxes.attribute.tolist(),
    )
    results: dict[str, list[dict[str, Any]]] = {token: [] for token in submission.tokens}
    for sample, center, size, quat, velocity, label, score, attribute in zip(
        *columns, strict=True
    ):
        token = submission.tokens[sample]
        results[token].append(
            {
                "sample_token": token,
                "translation": center,
                "size": size,
                "rotation": quat,
                "velocity": velocity,
                "detection_name": boxes.classes[label],
                "detection_score": score,
                "attribute_name": "" if attribute < 0 else NUSCENES_ATTRIBUTES[attribute],
            }
        )
    write_json({"meta": dict(submission.meta), "results": results}, path)
