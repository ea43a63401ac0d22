"""nuScenes detection metrics: mAP, five true-positive errors, NDS. Exact and vectorised.

Follows the published definition of the nuScenes detection task (H. Caesar et al., "nuScenes: A
multimodal dataset for autonomous driving", CVPR 2020, section 3.1, configuration
detection_cvpr_2019) to the last detail that shows in the numbers; the tests compare with the
official devkit.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.boxes import BoxError, Boxes
from crkd_core.evaluate.matching import ScoredBoxes, center_distance, match, score_order

#: The five errors in the devkit's names and order: translation (m), scale (1 - IoU of aligned
#: boxes), orientation (rad), velocity (m/s), attribute (1 - accuracy).
ERROR_NAMES = ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err")

#: Up to which distance from the vehicle a class of nuScenes counts, metres.
NUSCENES_RANGE: Mapping[str, float] = {
    "car": 50,
    "truck": 50,
    "bus": 50,
    "trailer": 50,
    "construction_vehicle": 50,
    "pedestrian": 40,
    "motorcycle": 40,
    "bicycle": 40,
    "traffic_cone": 30,
    "barrier": 30,
}
#: Which errors have no meaning for a class of nuScenes.
NUSCENES_UNDEFINED: Mapping[str, tuple[str, ...]] = {
    "traffic_cone": ("orient_err", "vel_err", "attr_err"),
    "barrier": ("vel_err", "attr_err"),
}

#: Recall points at which curves are read.
_RECALL = np.linspace(0, 1, 101)


@dataclass(frozen=True, kw_only=True)
class DetectionRules:
    """The numbers of the benchmark. Defaults: detection_cvpr_2019 of nuScenes.

    Attributes:
        class_range: class -> its boxes count when their centre is nearer to the vehicle than this,
            metres.
        undefined_errors: class -> errors that have no meaning for it: NaN in the result and left
            out of the means.
        half_turn: classes that look the same from behind: their heading is known up to half a
            turn only.
        distances: match thresholds over which AP is averaged, metres.
        error_distance: the threshold at which the five errors are taken, metres.
        min_recall, min_precision: below these, curves do not count.
        max_boxes: most boxes that a sample may have.
        map_weight: weight of mAP in NDS, where each error score weighs 1.
    """

    class_range: Mapping[str, float] = field(default_factory=lambda: NUSCENES_RANGE)
    undefined_errors: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: NUSCENES_UNDEFINED
    )
    half_turn: tuple[str, ...] = ("barrier",)
    distances: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    error_distance: float = 2.0
    min_recall: float = 0.1
    min_precision: float = 0.1
    max_boxes: int = 500
    map_weight: int = 5

    def reach(self, boxes: Boxes) -> NDArray[np.float64]:
        """[N] up to which distance each box counts, metres.

        Raises:
            BoxError: a class without a range.
        """
        unknown = [name for name in boxes.classes if name not in self.class_range]
        if unknown:
            raise BoxError(
                f"no range for classes {', '.join(unknown)}: these rules are for "
                f"{', '.join(self.class_range)}; give DetectionRules.class_range"
            )
        return np.array([float(self.class_range[name]) for name in boxes.classes])[boxes.label]

    def to_dict(self) -> dict[str, Any]:
        """The same in the devkit's words."""
        return {
            "class_range": dict(self.class_range),
            "dist_fcn": "center_distance",
            "dist_ths": list(self.distances),
            "dist_th_tp": self.error_distance,
            "min_recall": self.min_recall,
            "min_precision": self.min_precision,
            "max_boxes_per_sample": self.max_boxes,
            "mean_ap_weight": self.map_weight,
        }


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What one class does under one match threshold, read at 101 recall points from 0 to 1.

    Attributes:
        recall, precision: [101]. Precision is 0 beyond the recall that was reached.
        confidence: [101] score at which that recall is reached; 0 beyond it.
        errors: name of ERROR_NAMES -> [101] mean error of the matches down to that score; empty
            except under ``DetectionRules.error_distance``.
    """

    recall: NDArray[np.float64] = field(default_factory=lambda: _RECALL.copy())
    precision: NDArray[np.float64] = field(default_factory=lambda: np.zeros_like(_RECALL))
    confidence: NDArray[np.float64] = field(default_factory=lambda: np.zeros_like(_RECALL))
    errors: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def average_precision(self, rules: DetectionRules) -> float:
        """Mean precision above the smallest recall and precision that count, scaled to [0, 1]."""
        above = self.precision[_first_point(rules) :] - rules.min_precision
        return float(np.mean(np.maximum(above, 0))) / (1 - rules.min_precision)

    def mean_error(self, name: str, rules: DetectionRules) -> float:
        """Mean error from the smallest to the largest recall; 1 if too little was recalled."""
        reached = np.flatnonzero(self.confidence)
        first, last = _first_point(rules), reached[-1] if len(reached) else 0
        if last < first:
            return 1.0
        return float(np.mean(self.errors[name][first : last + 1]))


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of one evaluation.

    Attributes:
        summary: the content of the devkit's metrics_summary.json without its ``meta``: label_aps
            (class -> threshold as text -> AP), mean_dist_aps, mean_ap, label_tp_errors, tp_errors,
            tp_scores, nd_score, eval_time, cfg. Errors without meaning are NaN.
        curves: (class name, threshold) -> Curve.
        rules: the numbers that were used.
        boxes: how many boxes of the truth counted.
        unscored: classes of the data set that the detector does not know; no metric is of them.
    """

    summary: dict[str, Any]
    curves: dict[tuple[str, float], Curve]
    rules: DetectionRules
    boxes: int
    unscored: tuple[str, ...] = ()


def _first_point(rules: DetectionRules) -> int:
    """Index of the first recall point that counts; the smallest recall itself does not."""
    return round(100 * rules.min_recall) + 1


def evaluate(
    truth: ScoredBoxes, detections: ScoredBoxes, *, rules: DetectionRules | None = None
) -> Evaluation:
    """Score detections against truth. Both must be filtered already (truth.py).

    All classes of the truth are scored. Without truth, or without detections, every AP is 0 and
    every error 1. An error that no class defines is NaN, and NDS is without it.

    Args:
        truth: annotated boxes of all samples, global axes.
        detections: answered boxes of all samples, global axes, of the same classes.
        rules: the numbers of the benchmark; None = detection_cvpr_2019.

    Raises:
        BoxError: other classes than the truth's, no class at all, non-finite centres or scores.
    """
    rules, classes = rules or DetectionRules(), truth.classes
    if not classes:
        raise BoxError("expected truth of at least one class; there is nothing to score")
    start = time.perf_counter()
    taken = match(truth, detections, rules.distances)
    order = score_order(detections.score)
    curves: dict[tuple[str, float], Curve] = {}
    for label, name in enumerate(classes):
        rows = order[detections.label[order] == label]
        positives = int(np.count_nonzero(truth.label == label))
        for level, distance in enumerate(rules.distances):
            curves[name, distance] = _curve(
                truth=truth,
                detections=detections,
                rows=rows,
                taken=taken[level, rows],
                positives=positives,
                with_errors=distance == rules.error_distance,
                half_turn=name in rules.half_turn,
            )

    aps = {
        name: {str(d): curves[name, d].average_precision(rules) for d in rules.distances}
        for name in classes
    }
    errors = {
        name: {
            error: np.nan
            if error in rules.undefined_errors.get(name, ())
            else curves[name, rules.error_distance].mean_error(error, rules)
            for error in ERROR_NAMES
        }
        for name in classes
    }
    class_aps = {name: float(np.mean(list(aps[name].values()))) for name in classes}
    mean_ap = float(np.mean(list(class_aps.values())))
    mean_errors = {e: _mean_of_known([errors[n][e] for n in classes]) for e in ERROR_NAMES}
    scores = {
        error: np.nan if np.isnan(value) else max(0.0, 1.0 - value)
        for error, value in mean_errors.items()
    }
    known = [value for value in scores.values() if not np.isnan(value)]
    total = float(rules.map_weight * mean_ap + np.sum(known))
    summary = {
        "label_aps": aps,
        "mean_dist_aps": class_aps,
        "mean_ap": mean_ap,
        "label_tp_errors": errors,
        "tp_errors": mean_errors,
        "tp_scores": scores,
        "nd_score": total / (rules.map_weight + len(known)),
        "eval_time": time.perf_counter() - start,
        "cfg": rules.to_dict(),
    }
    return Evaluation(summary=summary, curves=curves, rules=rules, boxes=len(truth))


def _curve(
    *,
    truth: ScoredBoxes,
    detections: ScoredBoxes,
    rows: NDArray[np.int64],
    taken: NDArray[np.int64],
    positives: int,
    with_errors: bool,
    half_turn: bool,
) -> Curve:
    """The curve of detections ``rows`` (best first) that took truth rows ``taken`` (-1 = none)."""
    hit = taken >= 0
    if not np.any(hit):
        return Curve(errors={name: np.ones_like(_RECALL) for name in ERROR_NAMES})
    right = np.cumsum(hit).astype(float)
    precision = right / np.arange(1, len(rows) + 1)
    recall = right / float(positives)
    score = detections.score[rows]
    confidence = np.interp(_RECALL, recall, score, right=0)
    errors = {}
    if with_errors:
        pairs = _errors(truth.select(taken[hit]), detections.select(rows[hit]), half_turn)
        for name, values in pairs.items():
            running = _running_mean(values)
            # Read at the confidences; numpy.interp wants them rising.
            errors[name] = np.interp(confidence[::-1], score[hit][::-1], running[::-1])[::-1]
    return Curve(
        precision=np.interp(_RECALL, recall, precision, right=0),
        confidence=confidence,
        errors=errors,
    )


def _errors(
    truth: ScoredBoxes, found: ScoredBoxes, half_turn: bool
) -> dict[str, NDArray[np.float64]]:
    """The five errors of matched pairs, [M] each; NaN where truth or answer is unknown."""
    common = np.prod(np.minimum(truth.size, found.size), -1)
    union = np.prod(truth.size, -1) + np.prod(found.size, -1) - common
    period = np.pi if half_turn else 2 * np.pi
    turn = np.abs((truth.yaw - found.yaw + period / 2) % period - period / 2)
    wrong = (truth.attribute != found.attribute).astype(float)
    return {
        "trans_err": center_distance(found.center, truth.center),
        "scale_err": 1 - common / union,
        "orient_err": turn,
        "vel_err": np.linalg.norm(found.velocity - truth.velocity, axis=-1),
        "attr_err": np.where(truth.attribute < 0, np.nan, wrong),
    }


def _mean_of_known(values: list[float]) -> float:
    """The mean without NaN; NaN where there is nothing else."""
    return float(np.nan if np.all(np.isnan(values)) else np.nanmean(values))


def _running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of all values up to each one, NaN left out; 0 before the first, 1 if all are NaN."""
    known = ~np.isnan(values)
    if not np.any(known):
        return np.ones(len(values))
    return np.nancumsum(values) / np.maximum(np.cumsum(known), 1)
