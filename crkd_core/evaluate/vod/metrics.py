"""Average precision of View-of-Delft: 3D, from above, and AOS, on two areas.

Follows the published evaluation (tudelft-iv/view-of-delft-dataset, ``vod/evaluation``) in what
shows in the numbers: 41 thresholds on the score at even steps of recall, precision made falling,
and the mean of every fourth value, which are the 11 points of KITTI before 2019. Areas of overlap
are computed in float64 where it has float32.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.data.vod.classes import DONT_CARE
from crkd_core.data.vod.labels import Objects
from crkd_core.evaluate.vod.matching import Matchable, count, hit_scores
from crkd_core.evaluate.vod.overlaps import covered, image_overlap, overlaps
from crkd_core.evaluate.vod.rules import (
    ABSENT,
    AREAS,
    COUNTS,
    IGNORED,
    METRICS,
    Area,
    Metric,
    VodRules,
)

#: Thresholds on the score, and which of them an average is taken over: 11.
_POINTS, _STEP = 41, 4


@dataclass(frozen=True, kw_only=True)
class VodEvaluation:
    """The result of one evaluation.

    Attributes:
        summary: area -> class -> "3d", "bev", "aos" (average precisions, percent) and "objects"
            (truth that counts); area -> "mean" -> the same three over the classes. Of the areas
            that were asked for.
        precision: (area, class, metric) -> [41] precision at rising recall, 0 where that is not
            reached.
        rules: the numbers that were used.
    """

    summary: dict[str, Any]
    precision: dict[tuple[Area, str, Metric], NDArray[np.float64]]
    rules: VodRules


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Truth and detections of a frame with all their overlaps.

    Attributes:
        truth: [G] objects.
        found: [D] detections.
        overlap: metric -> [D, G].
        turn: [D, G] rotation of truth as the camera sees it less that of the detection, radians.
        waste: [D, W] share of each detection that lies in areas where nothing counts.
        truth_counts, found_counts: [G], [D] others are ignored, whatever the rules say.
    """

    truth: Objects
    found: Objects
    overlap: dict[Metric, NDArray[np.float64]]
    turn: NDArray[np.float64]
    waste: NDArray[np.float64]
    truth_counts: NDArray[np.bool_]
    found_counts: NDArray[np.bool_]

    @classmethod
    def of(cls, truth: Objects, found: Objects) -> Pair:
        """The overlaps of what was found in a frame with its labels; everything may count."""
        waste = truth.select(truth.name == DONT_CARE)
        above, space = overlaps(found, truth)
        return cls(
            truth=truth,
            found=found,
            overlap={"3d": space, "bev": above, "image": image_overlap(found, truth)},
            turn=truth.alpha[None] - found.alpha[:, None],
            waste=covered(found, waste),
            truth_counts=np.ones(len(truth), bool),
            found_counts=np.ones(len(found), bool),
        )

    def part(self, truth: NDArray[np.bool_], found: NDArray[np.bool_]) -> Pair:
        """The same frame where only these [G] and these [D] can count."""
        return dataclasses.replace(self, truth_counts=truth, found_counts=found)

    def matchable(self, name: str, area: Area, metric: Metric, rules: VodRules) -> Matchable:
        """What of it a class can be matched with on an area."""
        least = rules.overlap[metric][name]
        truth = _ignored_unless(self.truth_counts, rules.truth(self.truth, name, area))
        found = _ignored_unless(self.found_counts, rules.detections(self.found, name, area))
        columns, rows = np.flatnonzero(truth != ABSENT), np.flatnonzero(found != ABSENT)
        there = np.ix_(rows, columns)
        return Matchable(
            overlap=self.overlap[metric][there],
            score=self.found.score[rows],
            truth=truth[columns],
            found=found[rows],
            turn=self.turn[there],
            # Areas where nothing counts are told in the image, and only asked there.
            covered=np.asarray((self.waste[rows] > least).any(1) & (metric == "image")),
            least=least,
        )


def evaluate(
    truth: Sequence[Objects], found: Sequence[Objects], *, rules: VodRules | None = None
) -> VodEvaluation:
    """Score detections against truth, frame by frame.

    Args:
        truth: labels of each frame.
        found: detections of each frame, with scores.
        rules: the numbers of the benchmark.

    Raises:
        ValueError: lists of two lengths.
    """
    return evaluate_pairs(paired(truth, found), rules=rules)


def paired(truth: Sequence[Objects], found: Sequence[Objects]) -> list[Pair]:
    """Labels and detections of the same frames, with what they overlap.

    Raises:
        ValueError: lists of two lengths.
    """
    return [Pair.of(one, other) for one, other in zip(truth, found, strict=True)]


def evaluate_pairs(
    frames: Sequence[Pair], *, rules: VodRules | None = None, areas: Sequence[Area] = AREAS
) -> VodEvaluation:
    """The same of frames whose overlaps are known, or of parts of them, on these areas alone.

    A class without truth that counts has 0 everywhere, as in the published evaluation.
    """
    rules = rules or VodRules()
    start = time.perf_counter()
    summary: dict[str, Any] = {}
    curves: dict[tuple[Area, str, Metric], NDArray[np.float64]] = {}
    for area in areas:
        summary[area] = {}
        for name in rules.classes:
            row: dict[str, float] = {}
            for metric in METRICS:
                seen = [frame.matchable(name, area, metric, rules) for frame in frames]
                objects = sum(int(np.count_nonzero(one.truth == COUNTS)) for one in seen)
                precision, likeness = _curve(seen, objects)
                curves[area, name, metric] = precision
                if metric == "image":
                    row["aos"] = _average(likeness)
                else:
                    row[metric] = _average(precision)
            summary[area][name] = {**row, "objects": objects}
        summary[area]["mean"] = {
            key: float(np.mean([summary[area][name][key] for name in rules.classes]))
            for key in ("3d", "bev", "aos")
        }
    summary["eval_time"] = time.perf_counter() - start
    return VodEvaluation(summary=summary, precision=curves, rules=rules)


def thresholds_of(scores: Sequence[float], objects: int) -> NDArray[np.float64]:
    """Scores of hits at which recall comes nearest to 0, 1/40, 2/40, ... 1; falling.

    Args:
        scores: of all hits.
        objects: how many there were to be found.
    """
    falling = sorted(scores, reverse=True)
    chosen: list[float] = []
    # Added up step by step: ties must fall as in the published evaluation, rounding included.
    aim = 0.0
    for place, score in enumerate(falling, 1):
        last = place == len(falling)
        if not last and (place + 1) / objects - aim < aim - place / objects:
            continue  # The next hit comes nearer.
        chosen.append(score)
        aim += 1 / (_POINTS - 1.0)
    return np.array(chosen)


def _curve(
    frames: Sequence[Matchable], objects: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[41] precision, and [41] precision weighted by likeness of orientation."""
    thresholds = thresholds_of([s for frame in frames for s in hit_scores(frame)], objects)
    counts = np.zeros((len(thresholds), 4))
    if len(thresholds):
        counts = sum((count(frame, thresholds) for frame in frames), start=counts)
    answers = np.maximum(counts[:, 0] + counts[:, 1], 1)
    curves = []
    for values in (counts[:, 0] / answers, counts[:, 3] / answers):
        curve = np.zeros(_POINTS)
        curve[: len(values)] = np.maximum.accumulate(values[::-1])[::-1]
        curves.append(curve)
    return curves[0], curves[1]


def _ignored_unless(counts: NDArray[np.bool_], state: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where((state == COUNTS) & ~counts, IGNORED, state)


def _average(precision: NDArray[np.float64]) -> float:
    """Mean over the 11 points, percent."""
    return float(100 * precision[::_STEP].mean())
